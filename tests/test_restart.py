"""Whatever stops a run, the next one goes on and ends with the same results, byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warm_runs import ROOT, Warm, warm

from tasnb.store import Store

SEED = 20
KILLS = 20
IMAGES = 6

Shards = dict[str, dict[str, tuple[int, int, str]]]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with warm(tmp_path_factory.mktemp("letters"), models=False) as server:
        yield server


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with warm(tmp_path_factory.mktemp("runs"), models=True) as server:
        yield server


@pytest.fixture(scope="module")
def whole(runs: Warm, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Where an undisturbed run has its store and results, and its seconds."""
    place = tmp_path_factory.mktemp("whole")
    began = time.perf_counter()
    status, said = runs.run(place)
    assert status == 0, said
    return place, time.perf_counter() - began


# --- what is on disk


def sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def finished(place: Path) -> Shards:
    """What makes up each finished shard: file -> (inode, time of writing, digest)."""
    found: Shards = {}
    for note in sorted((place / "store").glob("*/*/shard-*.json")):
        record = json.loads(note.read_text())  # never half written
        files = [note, *(note.parent / name for name in record["files"])]
        for file in files[1:]:
            assert sha(file) == record["files"][file.name]
        stats = [file.stat() for file in files]
        found[str(note.relative_to(place))] = {
            file.name: (stat.st_ino, stat.st_mtime_ns, sha(file))
            for file, stat in zip(files, stats, strict=True)
        }
    return found


def keys(place: Path, stage: str) -> set[str]:
    """Those that finished shards of a stage hold."""
    notes = (place / "store" / stage).glob("*/shard-*.json")
    return {key for note in notes for key in json.loads(note.read_text())["keys"]}


def content(place: Path) -> dict[str, Any]:
    """All that a run leaves, temporary files and what depends on the clock apart."""
    found: dict[str, Any] = {}
    for file in sorted(p for p in place.rglob("*") if p.is_file()):
        if file.name.startswith(".tmp-"):
            continue
        name = str(file.relative_to(place))
        found[name] = sha(file)
        if file.match("store/*/*/shard-*.json"):
            record = json.loads(file.read_text())
            found[name] = {key: record[key] for key in ("keys", "parts", "files", "rows")}
    return found


def results(place: Path) -> dict[str, Any]:
    """Tables and scores only."""
    return {name: sha_ for name, sha_ in content(place).items() if name.startswith("out/")}


def temporaries(place: Path) -> list[Path]:
    return list(place.rglob(".tmp-*"))


def totals(said: str) -> dict[str, int]:
    """How many keys each stage set out to compute, by the title of its progress bar."""
    return {bar: int(n) for bar, n in re.findall(r"([^\r\n]+?):   0%\|[^|]*\| 0/(\d+)", said)}


def check_goes_on(runs: Warm, place: Path, whole: Path, **job: Any) -> str:
    """The next run leaves alone what was finished, computes the rest and ends as undisturbed."""
    before, had = finished(place), len(keys(place, "proposals"))
    status, said = runs.run(place, **job)
    assert status == 0, said
    after = finished(place)
    assert {name: after[name] for name in before} == before
    assert content(place) == content(whole)
    assert totals(said).get("proposals (images)", 0) == (IMAGES - had if had < IMAGES else 0)
    return said


# --- killed


def test_killed_before_any_change_of_a_file(letters: Warm, tmp_path: Path) -> None:
    """SIGKILL at every single step of a run on disk, of which there are some forty."""
    assert letters.run(tmp_path / "whole", work="letters")[0] == 0
    for step in range(1, 200):
        place = tmp_path / str(step)
        status, said = letters.run(place, work="letters", die_at=step)
        if status == 0:
            break
        assert status == -signal.SIGKILL, said
        before = finished(place)
        status, said = letters.run(place, work="letters")
        assert status == 0 and "altered" not in said, said
        after = finished(place)
        assert {name: after[name] for name in before} == before
        assert content(place) == content(tmp_path / "whole")
    assert 30 < step < 199


@pytest.mark.slow
def test_killed_at_random_moments(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    """The same store again and again, until a run comes to its end; then the next store."""
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
        assert "altered" not in said
    assert kills == KILLS


@pytest.mark.slow
def test_killed_at_steps_of_every_stage(
    runs: Warm, whole: tuple[Path, float], tmp_path: Path
) -> None:
    """SIGKILL before a few changes of files, over and over, up to the writing of the table."""
    draw = random.Random(SEED)
    stages = set()
    kills = 0
    while kills < 100:
        before = finished(tmp_path)
        status, said = runs.run(tmp_path, die_at=draw.randint(5, 20))
        after = finished(tmp_path)
        assert {name: after[name] for name in before} == before
        assert "altered" not in said
        if status == 0:
            break
        assert status == -signal.SIGKILL, said
        kills += 1
        stages |= {Path(name).parts[1] for name in after.keys() - before.keys()}
    assert kills >= 8
    assert {"proposals", "captions-blur", "crops-crop", "texts"} <= stages
    check_goes_on(runs, tmp_path, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("share", [0.25, 0.6])
def test_stopped_by_hand(
    runs: Warm, whole: tuple[Path, float], tmp_path: Path, by: int, share: float
) -> None:
    status = runs.killed(tmp_path, share * whole[1], by)
    assert status in ({-by} if by == signal.SIGTERM else {130})
    check_goes_on(runs, tmp_path, whole[0])
    if by == signal.SIGINT:
        assert temporaries(tmp_path) == []


def test_temporary_files_are_never_results(letters: Warm, tmp_path: Path) -> None:
    """Young ones stay, as another run's; old ones go, even where nothing is left to compute."""
    letters.run(tmp_path, work="letters")
    undisturbed = content(tmp_path)
    note = next((tmp_path / "store").rglob("shard-*.json"))
    left = [note.with_name(f".tmp-{n:08}-{note.name}") for n in range(4)]
    for file in left:
        shutil.copy(note, file)
    now = time.time()
    for file, hours in zip(left, (0, 2, 24 * 20_000, -48), strict=True):  # -48: the clock was wrong
        os.utime(file, (now - 3600 * hours,) * 2)
    assert letters.run(tmp_path, work="letters")[0] == 0
    assert temporaries(tmp_path) == left[:1]
    assert content(tmp_path) == undisturbed


# --- two at once


def test_two_at_every_step(letters: Warm, tmp_path: Path) -> None:
    """Many pairs of runs on one store: neither sees half of what the other one writes."""
    letters.run(tmp_path / "whole", work="letters")
    for pair in range(20):
        place = tmp_path / str(pair)
        both = [letters.start(place, work="letters") for _ in range(2)]
        for pid in both:
            status, said = letters.wait(pid)
            assert status == 0 and "altered" not in said, said
        assert content(place) == content(tmp_path / "whole")
        assert temporaries(place) == []


@pytest.mark.slow
def test_two_at_once(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    both = [runs.start(tmp_path) for _ in range(2)]
    for pid in both:
        status, said = runs.wait(pid)
        assert status == 0 and "altered" not in said, said
    assert content(tmp_path) == content(whole[0])
    assert temporaries(tmp_path) == []
    assert totals(runs.run(tmp_path)[1]) == {}


@pytest.mark.slow
def test_two_at_once_of_other_shard_sizes(
    runs: Warm, whole: tuple[Path, float], tmp_path: Path
) -> None:
    both = [runs.start(tmp_path, shard_size=size) for size in (1, 4)]
    for pid in both:
        status, said = runs.wait(pid)
        assert status == 0 and "altered" not in said, said
    tables = {name: sha_ for name, sha_ in results(whole[0]).items() if "tables" in name}
    assert {name: results(tmp_path)[name] for name in tables} == tables
    for size in (1, 2, 4):
        assert totals(runs.run(tmp_path, shard_size=size)[1]) == {}


@pytest.mark.slow
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


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def alter(file: Path) -> None:
    """One bit, in the middle, and the time of writing as it was."""
    data, stat = bytearray(file.read_bytes()), file.stat()
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def change(name: str, value: Any) -> Any:
    """A field of a shard's JSON says something else."""

    def damage(file: Path) -> None:
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, name: value(record[name])}))

    damage.__name__ = f"other {name}"
    return damage


def swapped(rows: dict[str, list[int]]) -> dict[str, list[int]]:
    return {part: [counts[-1], *counts[1:-1], counts[0]] for part, counts in rows.items()}


DAMAGES = {
    "data": [cut, empty, alter, Path.unlink],
    "json": [
        *(cut, empty),
        change("rows", lambda rows: {part: [n + 1 for n in rows[part]] for part in rows}),
        change("rows", lambda rows: {}),
        change("parts", lambda parts: dict.fromkeys(parts, "shard-x.npy")),
        change("files", lambda files: []),
        change("keys", lambda keys: [*keys, "another"]),
        lambda file: file.write_text("[]"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["proposals", "captions-blur", "crops-crop", "texts"])
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
        assert re.search(rf"{note.name}: the shard is truncated or was altered", said), damage
        assert list(totals(said).values()) == [len(record["keys"])]
        assert content(place) == content(whole[0])
        assert "altered" not in runs.run(place)[1]


def test_swapped_counts_are_noticed(letters: Warm, tmp_path: Path) -> None:
    """Rows would go to other keys than their own, and no file's digest would tell."""
    letters.run(tmp_path, work="letters")
    undisturbed = content(tmp_path)
    for note in (tmp_path / "store").rglob("shard-*.json"):
        change("rows", swapped)(note)
    assert content(tmp_path) != undisturbed
    status, said = letters.run(tmp_path, work="letters")
    assert status == 0 and "altered" in said
    assert content(tmp_path) == undisturbed


def test_a_cut_record_is_said_once(letters: Warm, tmp_path: Path) -> None:
    """Under other groups of keys nothing writes it anew, and it names no keys any more."""
    letters.run(tmp_path, work="letters")
    for note in (tmp_path / "store").rglob("shard-*.json"):
        cut(note)
    assert "altered" in letters.run(tmp_path, work="letters", shard_size=3)[1]
    status, said = letters.run(tmp_path, work="letters", shard_size=3)
    assert status == 0 and said == ""


@pytest.mark.parametrize("damage", [cut, empty, alter, Path.unlink])
def test_damaged_note_of_a_stage(letters: Warm, tmp_path: Path, damage: Any) -> None:
    """stage.json is for people: it is written anew, and no shard is computed for it."""
    letters.run(tmp_path, work="letters")
    undisturbed = content(tmp_path)
    note = next((tmp_path / "store").rglob("stage.json"))
    shard = sorted(note.parent.glob("shard-*.json"))[0]
    damage(note)
    shard.unlink()
    status, said = letters.run(tmp_path, work="letters")
    assert status == 0 and content(tmp_path) == undisturbed
    assert list(totals(said).values()) == [2]


# --- no space


@contextmanager
def mounted(where: Path, *options: str) -> Iterator[None]:
    """A mount for as long as the body runs; the test is skipped where that is not allowed."""
    where.mkdir(exist_ok=True)
    command = ["mount", *options, str(where)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip(f"mounting is not allowed: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


def check_full(status: int, said: str, reason: str) -> None:
    """One line that says what to do, instead of a traceback."""
    assert status == 2, said
    line = said.splitlines()[-1]
    assert re.fullmatch(rf"InputError: cannot write .*: .*{reason}.*; choose a folder .*", line)
    assert "Traceback" not in said


@pytest.mark.slow
def test_full_disk(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    """A disk that is 16 KiB larger for each run: full in every stage, then large enough."""
    disk = tmp_path / "disk"
    fulls = 0
    with mounted(disk, "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        for size in range(32, 2048, 16):
            before = finished(disk)
            status, said = runs.run(disk)
            after = finished(disk)
            assert {name: after[name] for name in before} == before
            assert "altered" not in said and temporaries(disk) == []
            if status == 0:
                break
            check_full(status, said, "No space left on device")
            fulls += 1
            remount = ["mount", "-o", f"remount,size={size}k", str(disk)]
            subprocess.run(remount, check=True)
        assert fulls > 5
        check_goes_on(runs, disk, whole[0])


@pytest.mark.slow
def test_no_file_may_grow(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    """The same without a mount: limits on the size of a file that stop one stage after another."""
    for kibibytes in (0, 1, 4, 16):
        status, said = runs.run(tmp_path, file_size=1024 * kibibytes)
        check_full(status, said, "File too large")
        assert temporaries(tmp_path) == []
        finished(tmp_path)
    check_goes_on(runs, tmp_path, whole[0])


# --- other places


@pytest.mark.slow
def test_nothing_is_written_to_data(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    """All models are loaded from, and all is read from, a folder that is mounted read-only."""
    data = tmp_path / "data"
    with mounted(data, "--bind", "-o", "ro", str(ROOT / "data")):
        with pytest.raises(OSError):
            (data / "probe").touch()
        place = tmp_path / "run"
        status, said = runs.run(place, data=str(data))
        assert status == 0, said
        assert content(place) == content(whole[0])


@pytest.mark.slow
def test_data_stays_as_it_is(runs: Warm, whole: tuple[Path, float], tmp_path: Path) -> None:
    def state() -> dict[Path, tuple[int, int, int]]:
        stats = {path: path.lstat() for path in (ROOT / "data").rglob("*")}
        return {path: (s.st_ino, s.st_size, s.st_mtime_ns) for path, s in stats.items()}

    before = state()
    check_goes_on(runs, tmp_path, whole[0])
    assert state() == before


def test_store_through_a_link_and_under_a_wrong_clock(letters: Warm, tmp_path: Path) -> None:
    place, link = tmp_path / "place", tmp_path / "link"
    letters.run(place, work="letters", die_at=25)
    link.symlink_to(place)
    before = finished(place)
    assert before
    letters.run(link, work="letters")
    after = finished(place)
    assert {name: after[name] for name in before} == before
    for year in (1970, 2100):
        for file in (place / "store").rglob("*"):
            os.utime(file, ((year - 1970) * 31_556_952,) * 2)
        before = finished(place)
        assert letters.run(link, work="letters") == (0, "")
        assert finished(place) == before


def test_what_another_process_finished_first_stays(tmp_path: Path) -> None:
    """Later stages may have been computed from it already, and results may differ in last bits."""

    def slow(keys: list[str]) -> dict[str, Any]:
        Store(tmp_path).stage("s", 1, {}).compute(keys, lambda keys: {"x": np.ones(2)})
        return {"x": np.full(2, 1 + 1e-15)}

    stage = Store(tmp_path).stage("s", 1, {})
    stage.compute(["a", "b"], slow)
    assert stage.read(["a", "b"], "x")[0].tolist() == [1, 1]
    assert len(list(stage.folder.iterdir())) == 3


def test_records_without_a_digest_still_count(letters: Warm, tmp_path: Path) -> None:
    """As the first stores had them; what is no record of any kind is still noticed."""
    letters.run(tmp_path, work="letters")
    notes = sorted((tmp_path / "store").rglob("shard-*.json"))
    for note in notes:
        record = json.loads(note.read_text())
        del record["digest"]
        note.write_text(json.dumps(record))
    assert letters.run(tmp_path, work="letters") == (0, "")
    for note, name in zip(notes, ("parts", "files", "rows", "keys"), strict=True):
        change(name, lambda _: [])(note)
    status, said = letters.run(tmp_path, work="letters")
    assert status == 0 and said.count("altered") == 4
    assert list(totals(said).values()) == [7]
