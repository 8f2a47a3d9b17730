"""Whatever stops a run, the next one resumes it and ends with the same results, byte for byte."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from on_disk import (
    alter,
    check_full,
    content,
    cut,
    empty,
    finished,
    keys,
    mounted,
    results,
    temporaries,
    totals,
)
from warm_runs import ROOT, Warm, warm

pytestmark = pytest.mark.slow

SEED = 20
KILLS = 20
IMAGES = 6


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with warm(tmp_path_factory.mktemp("runs"), models=True) as server:
        yield server


@pytest.fixture(scope="module")
def whole(runs: Warm, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of an undisturbed run, with its store and results, and its duration in seconds."""
    place = tmp_path_factory.mktemp("whole")
    began = time.perf_counter()
    status, said = runs.run(place)
    assert status == 0, said
    return place, time.perf_counter() - began


def check_goes_on(runs: Warm, place: Path, whole: Path, **job: Any) -> str:
    """The next run keeps finished shards, computes the rest, and ends like an undisturbed run."""
    before, had = finished(place), len(keys(place, "proposals"))
    status, said = runs.run(place, **job)
    assert status == 0, said
    after = finished(place)
    assert {name: after[name] for name in before} == before
    assert content(place) == content(whole)
    assert totals(said).get("proposals (images)", 0) == (IMAGES - had if had < IMAGES else 0)
    return said


# --- killed


def test_killed_at_random_moments(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    """On one store, until a run is complete; then again on the next store."""
    undisturbed, seconds = whole
    draw = random.Random(SEED)
    kills = stores = 0
    while kills < KILLS:
        place = tmp_path / str(stores)
        stores += 1
        place.mkdir()
        while kills < KILLS:
            before = finished(place)
            status = runs.killed(place, draw.uniform(0, seconds / 2))
            assert status in (0, -signal.SIGKILL)
            after = finished(place)
            assert {name: after[name] for name in before} == before
            if status == 0:
                break
            kills += 1
        said = check_goes_on(runs, place, undisturbed)
        assert "was modified" not in said
    assert kills == KILLS


def test_killed_at_steps_of_every_stage(
    runs: Warm, whole: tuple[Path, float], tmp_path: Path
) -> None:
    """SIGKILL before a few file changes, again and again, until the table is written."""
    draw = random.Random(SEED)
    stages = set()
    kills = 0
    while kills < 100:
        before = finished(tmp_path)
        status, said = runs.run(tmp_path, die_at=draw.randint(8, 30))
        after = finished(tmp_path)
        assert {name: after[name] for name in before} == before
        assert "was modified" not in said
        if status == 0:
            break
        assert status == -signal.SIGKILL, said
        kills += 1
        stages |= {Path(name).parts[1] for name in after.keys() - before.keys()}
    assert kills >= 6
    assert {"proposals", "captions-blur", "crops-crop", "texts"} <= stages
    check_goes_on(runs, tmp_path, whole[0])


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_hand(runs: Warm, whole: tuple[Path, float], tmp_path: Path, by: int) -> None:
    status = runs.killed(tmp_path, whole[1] / 4, by)
    assert status in ({-by} if by == signal.SIGTERM else {130})
    check_goes_on(runs, tmp_path, whole[0])
    if by == signal.SIGINT:
        assert temporaries(tmp_path) == []


# --- two at once


def test_two_at_once(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    both = [runs.start(tmp_path) for _ in range(2)]
    for pid in both:
        status, said = runs.wait(pid)
        assert status == 0 and "was modified" not in said, said
    assert content(tmp_path) == content(whole[0])
    assert temporaries(tmp_path) == []
    assert totals(runs.run(tmp_path)[1]) == {}


def test_two_at_once_of_other_shard_sizes(
    runs: Warm, whole: tuple[Path, float], tmp_path: Path
) -> None:
    both = [runs.start(tmp_path, shard_size=size) for size in (1, 4)]
    for pid in both:
        status, said = runs.wait(pid)
        assert status == 0 and "was modified" not in said, said
    tables = {name: sha_ for name, sha_ in results(whole[0]).items() if "tables" in name}
    assert {name: results(tmp_path)[name] for name in tables} == tables
    for size in (1, 2, 4):
        assert totals(runs.run(tmp_path, shard_size=size)[1]) == {}


def test_another_shard_size_after_a_kill(
    runs: Warm, whole: tuple[Path, float], tmp_path: Path
) -> None:
    runs.killed(tmp_path, whole[1] / 2)
    had = len(keys(tmp_path, "proposals"))
    status, said = runs.run(tmp_path, shard_size=4)
    assert status == 0 and totals(said).get("proposals (images)", 0) == IMAGES - had
    tables = {name: sha_ for name, sha_ in results(whole[0]).items() if "tables" in name}
    assert {name: results(tmp_path)[name] for name in tables} == tables


# --- damaged


DAMAGES = {"data": [cut, empty, alter, Path.unlink], "json": [cut, empty]}


@pytest.mark.parametrize("stage", ["proposals", "crops-crop"])
@pytest.mark.parametrize("what", ["data", "json"])
def test_damage_is_said_and_mended(
    runs: Warm, whole: tuple[Path, float], tmp_path: Path, stage: str, what: str
) -> None:
    for number, damage in enumerate(DAMAGES[what]):
        place = tmp_path / str(number)
        shutil.copytree(whole[0], place)
        note = sorted((place / "store" / stage).glob("*/shard-*.json"))[-1]
        record = json.loads(note.read_text())
        files = [note] if what == "json" else [note.parent / name for name in record["files"]]
        for file in files:
            damage(file)
        status, said = runs.run(place)
        assert status == 0, said
        assert re.search(rf"{note.name}: the shard is truncated or was modified", said), damage
        assert list(totals(said).values()) == [len(record["keys"])]
        assert content(place) == content(whole[0])


# --- no space


def test_full_disk(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    """The disk grows by 16 KiB for each run: full in every stage, then large enough."""
    disk = tmp_path / "disk"
    fulls = 0
    with mounted(disk, "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        for size in range(32, 2048, 16):
            before = finished(disk)
            status, said = runs.run(disk)
            after = finished(disk)
            assert {name: after[name] for name in before} == before
            assert "was modified" not in said and temporaries(disk) == []
            if status == 0:
                break
            check_full(status, said, "No space left on device")
            fulls += 1
            remount = ["mount", "-o", f"remount,size={size}k", str(disk)]
            subprocess.run(remount, check=True)
        assert fulls > 5
        # the next run replaces files by complete new versions, for which there must be room
        subprocess.run(["mount", "-o", f"remount,size={size + 32}k", str(disk)], check=True)
        check_goes_on(runs, disk, whole[0])


def test_no_file_may_grow(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    """The same without a mount: limits on the file size stop one stage after another."""
    for kibibytes in (0, 1, 4, 16):
        status, said = runs.run(tmp_path, file_size=1024 * kibibytes)
        check_full(status, said, "File too large")
        assert temporaries(tmp_path) == []
        finished(tmp_path)
    check_goes_on(runs, tmp_path, whole[0])


# --- other places


def test_nothing_is_written_to_data(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    """All models and data are read from a folder that is mounted read-only."""
    data = tmp_path / "data"
    with mounted(data, "--bind", "-o", "ro", str(ROOT / "data")):
        with pytest.raises(OSError):
            (data / "probe").touch()
        place = tmp_path / "run"
        status, said = runs.run(place, data=str(data))
        assert status == 0, said
        assert content(place) == content(whole[0])


def test_data_stays_as_it_is(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    def state() -> dict[Path, tuple[int, int, int]]:
        stats = {path: path.lstat() for path in (ROOT / "data").rglob("*")}
        return {path: (s.st_ino, s.st_size, s.st_mtime_ns) for path, s in stats.items()}

    before = state()
    check_goes_on(runs, tmp_path, whole[0])
    assert state() == before
