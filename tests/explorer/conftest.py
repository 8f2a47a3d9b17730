"""Views that the tests of the explorer share."""

from __future__ import annotations

from pathlib import Path

import pytest
from views import first_view, first_views

from tasnb.explorer.content import View, Views


@pytest.fixture(scope="session")
def views(shared_store: Path) -> Views:
    return first_views(shared_store)


@pytest.fixture(scope="session")
def view(shared_store: Path) -> View:
    return first_view(shared_store)
