"""Shards computed in other processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tasnb.settings import ROOT, InputError
from tasnb.store import processes
from tasnb.store.processes import Pool, Processes
from tasnb.store.shards import Stage, Store, Work

KEYS = [str(i) for i in range(6)]


def numbers(root: Path, workers: int | None = 2) -> Stage:
    return Store(root, Processes(workers)).stage("numbers", 1, {})


def squares(
    bad: str = "",
    error: type[Exception] = ZeroDivisionError,
    deadly: str = "",
    seconds: float = 0.0,
) -> Work:
    """Work that stores the process by which it was done."""
    here = os.getpid()

    def work(keys: list[str]) -> dict:
        if bad in keys:
            raise error(f"cannot do {bad}")
        if deadly in keys and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
        rows = {"key": keys, "square": [int(key) ** 2 for key in keys], "process": os.getpid()}
        return {"x": pd.DataFrame(rows)}

    return work


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Each test begins like a process that has not computed anything."""
    monkeypatch.setattr(processes, "pool", Pool())
    return processes.pool


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are used however short the work is."""
    monkeypatch.setattr(processes, "STARTING", 0.0)
    monkeypatch.setattr(processes, "RUNNING", 0.0)


@pytest.mark.slow
def test_the_first_shard_is_computed_here_and_the_others_elsewhere(tmp_path, always, monkeypatch):
    monkeypatch.setattr(processes, "probe", time.process_time)
    monkeypatch.setattr(processes, "probed", [])
    stage = numbers(tmp_path)
    stage.compute(KEYS, squares(seconds=0.2), shard_size=1)
    found = stage.read(KEYS, "x")
    assert found["square"].tolist() == [int(key) ** 2 for key in KEYS]
    first, *others = found["process"]
    assert first == os.getpid() and first not in others and len(set(others)) == 2
    assert len(processes.probed) == 5 and min(processes.probed) > 0
    assert not list(stage.folder.glob(".work-*"))


def test_short_work_stays_here(tmp_path):
    stage = numbers(tmp_path)
    stage.compute(KEYS, squares(), shard_size=1)
    assert set(stage.read(KEYS, "x")["process"]) == {os.getpid()}


def test_short_work_counts_together_until_processes_run(pool):
    assert not any(pool.pays(2.0) for _ in range(3))  # they would just have paid
    assert not pool.pays(0.9)  # they would now, but not for this
    assert pool.pays(1.1)
    pool.until = time.monotonic() + 60
    assert pool.pays(1.1) and not pool.pays(0.9)
    pool.until = time.monotonic() - 1  # and have ended
    assert pool.pays(1.1) and not pool.pays(0.9)


@pytest.mark.slow
def test_processes_that_run_compute_all_shards_of_a_stage_that_is_known(
    tmp_path, monkeypatch, pool
):
    monkeypatch.setattr(processes, "STARTING", 0.4)
    monkeypatch.setattr(processes, "RUNNING", 0.1)
    stage, done = numbers(tmp_path), []
    for some in ("abcdef", "ghijkl", "mnpq", "o"):
        keys = [str(ord(letter)) for letter in some]
        stage.compute(keys, squares(seconds=0.1), shard_size=1)
        done.append([one == os.getpid() for one in stage.read(keys, "x")["process"]])
    assert done[0] == [True] * 6  # 0.25 s would have been saved
    assert done[1] == [True] + [False] * 5
    assert done[2] == [False] * 4
    assert done[3] == [True]


def test_one_process_would_not_help(tmp_path, always):
    stage = numbers(tmp_path, workers=1)
    stage.compute(KEYS, squares(), shard_size=1)
    assert set(stage.read(KEYS, "x")["process"]) == {os.getpid()}


@pytest.mark.slow
@pytest.mark.parametrize("error", [InputError, ZeroDivisionError])
def test_an_error_in_a_process_is_the_same_error_here(tmp_path, always, error):
    stage = numbers(tmp_path)
    with pytest.raises(error, match=r"^cannot do 4$"):
        stage.compute(KEYS, squares(bad="4", error=error), shard_size=1)
    assert "4" in stage.missing(KEYS)
    stage.compute(KEYS, squares(), shard_size=1)  # and the rest is computed once it is mended
    assert not stage.missing(KEYS)


@pytest.mark.slow
def test_shards_of_a_process_that_dies_are_computed_here(tmp_path, always):
    stage = numbers(tmp_path)
    with pytest.warns(UserWarning, match="a process died, perhaps for lack of memory"):
        stage.compute(KEYS, squares(deadly="3"), shard_size=1)
    found = stage.read(KEYS, "x").set_index("key")
    assert found["square"].tolist() == [int(key) ** 2 for key in KEYS]
    assert found.loc["3", "process"] == os.getpid()


PROGRAM = """
import sys, test_processes as own
from pathlib import Path
own.processes.STARTING = own.processes.RUNNING = 0.0
stage = own.numbers(Path(sys.argv[1]))
stage.compute(own.KEYS, own.squares(seconds=2), shard_size=1)
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_processes_and_keeps_what_is_finished(tmp_path):
    folder = Path(__file__).parent
    path = os.pathsep.join([str(ROOT), str(folder)])
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    stage = numbers(tmp_path)
    while len(stage.missing(KEYS)) > len(KEYS) - 2:  # one shard came from a process
        assert run.poll() is None
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    _, text = run.communicate(timeout=60)
    assert run.returncode != 0 and text.rstrip().endswith("KeyboardInterrupt")
    assert text.count("Traceback") <= 2  # of the program, not of every process
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(run.pid, 0)  # there is still a process
            time.sleep(0.1)
