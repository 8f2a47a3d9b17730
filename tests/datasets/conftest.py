"""What the tests of datasets share."""

from own_dataset import own, settings

__all__ = ["own", "settings"]  # fixtures
