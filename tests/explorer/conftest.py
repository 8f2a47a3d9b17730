"""Views that the tests of the explorer share."""

from __future__ import annotations

from pathlib import Path

import pytest
from large_view import large_view
from views import first_view, first_views

from tasnb.explorer.content import View, Views


@pytest.fixture(scope="session")
def views(shared_store: Path) -> Views:
    return first_views(shared_store)


@pytest.fixture(scope="session")
def view(shared_store: Path) -> View:
    return first_view(shared_store)


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> View:
    encoders = ["open_clip:embedded/clip-vit"]
    return large_view(tmp_path_factory.mktemp("large"), encoders=encoders)
