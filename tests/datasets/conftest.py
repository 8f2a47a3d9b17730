"""Fixtures for the tests of datasets."""

from own_dataset import own, settings

__all__ = ["own", "settings"]  # fixtures
