"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from browser import browser
from hypothesis import settings
from loopback import site

__all__ = ["browser", "site"]  # fixtures

# No test may wait for a model hub or depend on random examples.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker per core; more threads would only wait
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
# Background jobs ignore Ctrl-C, and so would the processes that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("tasnb", deadline=None, derandomize=True)
settings.load_profile("tasnb")

LONGEST = (
    "test_in_jupyterlab.py",
    "test_restart.py",
    "test_notebooks.py",
    "test_paper_check.py",
    "test_bench.py",
    "test_devices.py",
    "test_backends.py",
    "test_pipeline.py",
    "test_ablations.py",
    "test_released.py",
)
"""Files to start first, so that no worker is still busy with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the slowest files first; the order within a file is unchanged."""
    rank = {name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store, shared by all workers, for tests that need results whoever computed them."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-store"
