"""Kernels started before their notebook's turn: used, and never left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tasnb.workbook import spare
from tasnb.workbook.spare import Kernel, Kernels


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def ended(kernel: Kernel) -> bool:
    """Whether its process ends within a few seconds."""
    pid = kernel.pid
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("its_turn", [False, True])
def test_libraries_are_imported_until_the_turn_has_come(its_turn, monkeypatch) -> None:
    monkeypatch.setattr(spare, "LIBRARIES", ("none_such", "json"))
    seen = []
    monkeypatch.setattr(spare, "import_module", lambda name: seen.append(name) or __import__(name))
    read, write = os.pipe()
    if its_turn:
        os.close(write)
    spare.load(read)
    assert seen == ([] if its_turn else ["none_such", "json"])
    with pytest.raises(OSError):
        os.fstat(read)
    if not its_turn:
        os.close(write)


def test_the_kernel_in_reserve_is_the_next_one(two_cores, tmp_path) -> None:
    with Kernels() as kernels:
        first = kernels.take(tmp_path)
        kernels.reserve(tmp_path)
        waiting = kernels._spare
        assert waiting is not None and waiting is not first
        assert kernels.take(tmp_path) is waiting
        kernels.reserve(tmp_path)
        unused = kernels._spare
    assert ended(first) and ended(waiting) and unused is not None and ended(unused)


def test_nothing_is_left_after_an_error(two_cores, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), Kernels() as kernels:
        taken = kernels.take(tmp_path)
        kernels.reserve(tmp_path)
        unused = kernels._spare
        raise KeyboardInterrupt
    assert ended(taken) and unused is not None and ended(unused)


def test_a_kernel_that_died_or_is_elsewhere_is_not_used(two_cores, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    with Kernels() as kernels:
        kernels.reserve(tmp_path)
        dead = kernels._spare
        assert dead is not None
        os.kill(dead.pid, 9)
        assert ended(dead)
        assert kernels.take(tmp_path) is not dead
        kernels.reserve(tmp_path / "other")
        elsewhere = kernels._spare
        assert elsewhere is not None and kernels.take(tmp_path) is not elsewhere
        assert ended(elsewhere)


def test_one_core_has_none_in_reserve(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with Kernels() as kernels:
        kernels.reserve(tmp_path)
        assert kernels._spare is None
