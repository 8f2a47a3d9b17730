"""What the runner does while a kernel works."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasnb.workbook import kernels


def test_a_running_notebook_is_saved_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(kernels, "time", SimpleNamespace(monotonic=lambda: clock.now))
    saved: list[dict] = []
    save = kernels._seldom(lambda **options: saved.append(options))
    for _ in range(12):  # cells that take a second each
        save(nb=None)
        clock.now += 1
    assert saved == [{"nb": None}] * 3
