"""A small stage that is killed, damaged and run twice at every step it takes on disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook
from on_disk import (
    alter,
    change,
    content,
    cut,
    empty,
    finished,
    mounted,
    temporaries,
    totals,
)
from warm_runs import Warm, warm

from tasnb.results import shown
from tasnb.settings import InputError, make_settings
from tasnb.store.files import atomic_write
from tasnb.store.shards import Store
from tasnb.workbook.report import write_index
from tasnb.workbook.runner import run, select


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with warm(tmp_path_factory.mktemp("letters"), models=False) as server:
        yield server


# --- killed


@pytest.mark.slow
def test_killed_before_any_change_of_a_file(letters: Warm, tmp_path: Path) -> None:
    """SIGKILL at each of the forty or so steps that a run takes on disk."""
    assert letters.run(tmp_path / "whole", work="letters")[0] == 0
    for step in range(1, 200):
        place = tmp_path / str(step)
        status, said = letters.run(place, work="letters", die_at=step)
        if status == 0:
            break
        assert status == -signal.SIGKILL, said
        before = finished(place)
        status, said = letters.run(place, work="letters")
        assert status == 0 and "was modified" not in said, said
        after = finished(place)
        assert {name: after[name] for name in before} == before
        assert content(place) == content(tmp_path / "whole")
    assert 30 < step < 199


def test_temporary_files_are_never_results(letters: Warm, tmp_path: Path) -> None:
    """Recent ones may belong to another run and stay; old ones are removed, even if nothing is left
    to compute."""
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


@pytest.mark.slow
def test_two_at_every_step(letters: Warm, tmp_path: Path) -> None:
    """Many pairs of runs on one store: neither sees a half-written file of the other."""
    letters.run(tmp_path / "whole", work="letters")
    for pair in range(20):
        place = tmp_path / str(pair)
        both = [letters.start(place, work="letters") for _ in range(2)]
        for pid in both:
            status, said = letters.wait(pid)
            assert status == 0 and "was modified" not in said, said
        assert content(place) == content(tmp_path / "whole")
        assert temporaries(place) == []


# --- damaged


def swapped(rows: dict[str, list[int]]) -> dict[str, list[int]]:
    return {part: [counts[-1], *counts[1:-1], counts[0]] for part, counts in rows.items()}


RECORDS = [
    *(cut, empty, Path.unlink),
    change("rows", lambda rows: {part: [n + 1 for n in rows[part]] for part in rows}),
    change("rows", swapped),
    change("rows", lambda rows: {}),
    change("parts", lambda parts: dict.fromkeys(parts, "shard-x.npy")),
    change("files", lambda files: []),
    change("keys", lambda keys: [*keys, "another"]),
    lambda note: note.write_text("[]"),
]


@pytest.mark.parametrize("damage", RECORDS)
def test_damaged_record(letters: Warm, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Wrong counts would assign rows to other keys, and no digest of a data file would show it."""
    letters.run(tmp_path, work="letters")
    undisturbed = content(tmp_path)
    notes = (tmp_path / "store").rglob("shard-*.json")
    note = next(note for note in notes if '"a"' in note.read_text())  # of words of two lengths
    computed = len(json.loads(note.read_text())["keys"])
    damage(note)
    status, said = letters.run(tmp_path, work="letters")
    assert status == 0
    gone = damage is Path.unlink  # as if it had never existed
    assert (f"{note.name}: the shard is truncated or was modified" in said) is not gone
    assert list(totals(said).values()) == [computed]
    assert content(tmp_path) == undisturbed
    assert letters.run(tmp_path, work="letters") == (0, "")


def test_a_cut_record_is_said_once(letters: Warm, tmp_path: Path) -> None:
    """With keys in other groups the record, which no longer names any, is not rewritten."""
    letters.run(tmp_path, work="letters")
    for note in (tmp_path / "store").rglob("shard-*.json"):
        cut(note)
    assert "was modified" in letters.run(tmp_path, work="letters", shard_size=3)[1]
    status, said = letters.run(tmp_path, work="letters", shard_size=3)
    assert status == 0 and said == ""


@pytest.mark.parametrize("damage", [cut, empty, alter, Path.unlink])
def test_damaged_note_of_a_stage(letters: Warm, tmp_path: Path, damage: Any) -> None:
    """stage.json is only for people to read: it is rewritten, and no shard is recomputed."""
    letters.run(tmp_path, work="letters")
    undisturbed = content(tmp_path)
    note = next((tmp_path / "store").rglob("stage.json"))
    shard = sorted(note.parent.glob("shard-*.json"))[0]
    damage(note)
    shard.unlink()
    status, said = letters.run(tmp_path, work="letters")
    assert status == 0 and content(tmp_path) == undisturbed
    assert list(totals(said).values()) == [2]


def test_records_without_a_digest_still_count(letters: Warm, tmp_path: Path) -> None:
    """As in the first stores; a file that is not a record at all is still noticed."""
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
    assert status == 0 and said.count("was modified") == 4
    assert list(totals(said).values()) == [7]


def test_what_another_process_finished_first_stays(tmp_path: Path) -> None:
    """Later stages may already have used it, and results may differ in the last bits."""

    def slow(keys: list[str]) -> dict[str, Any]:
        Store(tmp_path).stage("s", 1, {}).compute(keys, lambda keys: {"x": np.ones(2)})
        return {"x": np.full(2, 1 + 1e-15)}

    stage = Store(tmp_path).stage("s", 1, {})
    stage.compute(["a", "b"], slow)
    assert stage.read(["a", "b"], "x")[0].tolist() == [1, 1]
    assert len(list(stage.folder.iterdir())) == 3


# --- other places


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


# --- no space


def test_a_full_disk_is_one_line_from_every_library(tmp_path: Path) -> None:
    """pandas, pyarrow and Pillow each raise a different error."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    frame = pd.DataFrame(noise.reshape(-1, 30)).rename(columns=str)
    writers = {
        "x.parquet": lambda path: frame.to_parquet(path, index=False),
        "x.csv": lambda path: frame.to_csv(path, index=False),
        "x.png": lambda path: Image.fromarray(noise).save(path),
        "x.npy": lambda path: np.save(path, noise),
        "x.json": lambda path: path.write_text(frame.to_json()),
    }
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=32k", "tmpfs"):
        for name, write in writers.items():
            with (
                pytest.raises(InputError, match=r"^cannot write .*free space") as caught,
                atomic_write(disk / name) as path,
            ):
                write(path)
            assert "\n" not in str(caught.value) and list(disk.iterdir()) == []


def test_a_half_written_table_is_none(tmp_path: Path) -> None:
    """A run killed while writing a table or figure leaves a temporary file with the same suffix."""
    settings = make_settings(out=str(tmp_path), data=str(tmp_path / "data"))
    shown.save(pd.DataFrame({"method": ["TAS"]}), "table1", settings)
    (tmp_path / "figures").mkdir()
    for half in ("tables/.tmp-12345678-table2.csv", "figures/.tmp-12345678-01_proposals.png"):
        (tmp_path / half).write_bytes(b"")
    page = write_index(settings, {"finished": "now", "seconds": 1.0, "versions": {}}).read_text()
    assert re.findall("<h3>(.*?)</h3>", page) == ["Table 1: every method on the RefCOCO family"]
    assert ".tmp-" not in page and "12345678" not in page


def test_temporary_files_are_no_outputs_of_a_notebook(tmp_path: Path) -> None:
    """A file that another run is writing is not recorded; an old one is removed."""
    write_table = """\
for name in ("table1.csv", ".tmp-12345678-table2.csv"):
    Path(out, "tables", name).write_text("a\\n1\\n")
"""
    first = new_code_cell('out: str = ""\nstore: str = ""', metadata={"tags": ["parameters"]})
    cells = [first, new_code_cell("from pathlib import Path\n" + write_table)]
    write(new_notebook(cells=cells), tmp_path / "01_x.ipynb")
    (tmp_path / "tables").mkdir()
    old = tmp_path / "tables/.tmp-00000000-table1.csv"
    old.write_text("")
    os.utime(old, (0, 0))
    where = {"out": str(tmp_path), "store": str(tmp_path / "store")}
    run(select(folder=tmp_path), where)
    record = json.loads((tmp_path / "notebooks/01_x.run.json").read_text())
    assert list(record["outputs"]) == ["tables/table1.csv"]
    assert not old.exists()
