"""Images, expressions and ground truth, read from the files in which they are published.

Nothing here knows about models.
"""
