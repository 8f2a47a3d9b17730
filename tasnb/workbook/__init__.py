"""Notebooks run by papermill, from checked parameters to the report.

Nothing here knows what the notebooks compute.
"""
