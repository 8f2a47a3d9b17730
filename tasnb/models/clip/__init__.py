"""Inside the image towers of open_clip's models: features of every location, and maps of them."""
