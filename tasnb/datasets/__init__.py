"""Reads images, expressions and ground truth from the files in which they are published.

Nothing here depends on the models.
"""
