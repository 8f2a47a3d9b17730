"""What has been computed, on disk, and where it is computed: in this process or on workers.

Nothing here knows what is stored.
"""
