"""The store: results on disk, computed in this process or by workers.

Nothing here knows what the results mean.
"""
