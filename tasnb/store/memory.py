"""Python's garbage collector, which is in the way where many objects are made that all stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = (100_000, 50, 100)
"""Thresholds of ``gc.set_threshold`` in ``seldom_collected``."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While the body imports libraries or fills large tables, garbage is seldom looked for.

    Otherwise the collector goes through all of the new objects again and again, which takes a fifth
    of the time of imports.
    """
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
