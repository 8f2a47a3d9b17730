"""The explorer: one picture, its masks and their scores, in a notebook or in a page of its own."""
