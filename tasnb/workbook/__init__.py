"""Runs the notebooks with papermill, from checking their parameters to writing the report.

Nothing here depends on what the notebooks compute.
"""
