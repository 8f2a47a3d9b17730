"""Garbage is seldom collected while libraries are imported, and as before afterwards."""

from __future__ import annotations

import gc

import pytest

from tasnb.store.memory import SELDOM, seldom_collected


def test_the_thresholds_are_restored() -> None:
    before = gc.get_threshold()
    with pytest.raises(ImportError), seldom_collected():
        assert gc.get_threshold() == SELDOM
        raise ImportError
    assert gc.get_threshold() == before and gc.isenabled()
