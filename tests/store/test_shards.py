from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasnb.settings import InputError
from tasnb.store.files import atomic_write, file_digest, fingerprint
from tasnb.store.shards import Store

NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of b""
EMPTY_OBJECT = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of b"{}"


class Letters:
    """Work that counts the letters of words and remembers which words it was given."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, words: list[str]) -> dict:
        self.asked.append(words)
        pairs = [(word, letter) for word in words for letter in word]
        return {
            "letters": pd.DataFrame(pairs, columns=["key", "letter"]),
            "length": np.array([len(word) for word in words], dtype=np.float32),
            "codes": (np.array([ord(c) for _, c in pairs]), [word for word, _ in pairs]),
        }


@pytest.fixture
def stage(tmp_path):
    return Store(tmp_path).stage("letters", 1, {"alpha": 0.1})


def again(stage):
    """The same stage as seen by another process."""
    return Store(stage.folder.parent.parent).stage("letters", 1, {"alpha": 0.1})


# --- atomic_write


def test_atomic_write_keeps_suffix_and_folder(tmp_path):
    target = tmp_path / "new" / "table.csv"
    with atomic_write(target) as temporary:
        assert temporary.suffix == ".csv" and temporary.parent == target.parent
        temporary.write_text("a")
        assert not target.exists()
    assert target.read_text() == "a"
    assert os.listdir(target.parent) == ["table.csv"]


def test_atomic_write_leaves_the_old_file_when_the_body_fails(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_atomic_write_below_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"^cannot write .*table.csv: .*choose a folder") as caught,
        atomic_write(tmp_path / "file" / "table.csv"),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_full_disk_is_an_input_error(tmp_path):
    with (
        pytest.raises(InputError, match="No space left on device"),
        atomic_write(tmp_path / "x.npy"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_someone_elses_error_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "x.csv"):
        (tmp_path / "not there").read_text()


# --- fingerprints


def test_fingerprint_by_hand():
    assert fingerprint({}) == EMPTY_OBJECT
    assert fingerprint({"b": (1, 2), "a": 0.5}) == fingerprint({"a": 0.5, "b": [1, 2]})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    with pytest.raises(ValueError, match="Out of range"):
        fingerprint(float("nan"))


def test_file_digest(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    assert file_digest(tmp_path / "x") == NOTHING


def test_stage_folder_depends_on_all_it_is_given(tmp_path):
    store = Store(tmp_path)
    stages = [
        store.stage("a", 1, {"k": 1}),
        store.stage("b", 1, {"k": 1}),
        store.stage("a", 2, {"k": 1}),
        store.stage("a", 1, {"k": 2}),
        store.stage("a", 1, {"k": 1}, ["input"]),
    ]
    assert len({stage.folder for stage in stages}) == len({s.fingerprint for s in stages}) == 5
    assert stages[0].folder == tmp_path / "a" / stages[0].fingerprint[:16]
    assert store.stage("a", 1, {"k": 1}).fingerprint == stages[0].fingerprint


# --- compute and read


def test_values_in_the_order_asked(stage):
    stage.compute(["be", "a", "sea", "be"], Letters(), shard_size=2)
    frame = stage.read(["sea", "be"], "letters")
    assert frame.to_dict("list") == {"key": [*["sea"] * 3, *["be"] * 2], "letter": [*"seabe"]}
    assert list(frame.index) == [0, 1, 2, 3, 4]
    lengths, keys = stage.read(["a", "sea", "be"], "length")
    assert lengths.tolist() == [1, 3, 2] and keys == ["a", "sea", "be"]
    assert lengths.dtype == np.float32
    codes, keys = stage.read(["a", "be", "a"], "codes")
    assert codes.tolist() == [97, 98, 101] and keys == ["a", "be", "be"]


def test_a_key_may_have_no_rows(stage):
    stage.compute(["", "it", ""], Letters(), shard_size=1)
    assert stage.read(["", "it"], "letters")["letter"].tolist() == ["i", "t"]
    empty = stage.read([""], "letters")
    assert len(empty) == 0 and list(empty.columns) == ["key", "letter"]
    assert stage.missing(["", "it"]) == []


def test_reading_no_keys(stage):
    assert list(stage.read([], "letters").columns) == ["key"]  # nothing is known yet
    stage.compute(["a"], Letters())
    assert list(stage.read([], "letters").columns) == ["key", "letter"]
    assert len(stage.read([], "letters")) == 0
    lengths, keys = stage.read([], "length")
    assert lengths.shape == (0,) and keys == []


def test_an_empty_arrays_width_does_not_matter(stage):
    """A shard whose images have no masks cannot know the length of vectors."""

    def work(keys):
        if keys == ["none"]:
            return {"vectors": (np.zeros((0, 1), np.float32), [])}
        return {"vectors": (np.ones((2 * len(keys), 5), np.float32), [*keys, *keys])}

    stage.compute(["none", "a", "b"], work, shard_size=1)
    vectors, keys = stage.read(["none", "a", "b"], "vectors")
    assert vectors.shape == (4, 5) and keys == ["a", "a", "b", "b"]
    assert stage.read(["none"], "vectors")[0].shape == (0, 1)


def test_column_types_survive_an_empty_shard(stage):
    def work(keys):
        if keys == ["none"]:
            return {"masks": pd.DataFrame(columns=["key", "area", "counts", "kept"])}
        return {"masks": pd.DataFrame({"key": keys, "area": 7, "counts": b"\0x", "kept": True})}

    stage.compute(["none", "one"], work, shard_size=1)
    frame = stage.read(["none", "one"], "masks")
    assert frame["area"].dtype == np.int64 and frame["kept"].dtype == bool
    assert frame["counts"].tolist() == [b"\0x"]


def test_each_key_once_and_only_what_is_missing(stage):
    work = Letters()
    stage.compute(["a", "b", "a", "c", "b"], work, shard_size=2)
    assert work.asked == [["a", "b"], ["c"]]
    again(stage).compute(["d", "c", "b", "e"], work, shard_size=2)
    assert work.asked[2:] == [["d", "e"]]
    assert again(stage).missing(["e", "f", "a", "f"]) == ["f"]


def test_unfinished_work_leaves_finished_shards(stage):
    def work(words):
        if "bad" in words:
            raise RuntimeError("half way")
        return Letters()(words)

    with pytest.raises(RuntimeError, match="half way"):
        stage.compute(["a", "b", "bad", "c"], work, shard_size=2)
    assert again(stage).missing(["a", "b", "bad", "c"]) == ["bad", "c"]


def test_rows_of_strangers_are_refused(stage):
    with pytest.raises(ValueError, match=r"part 'x': .*unexpected keys: \['z'\]"):
        stage.compute(["a"], lambda keys: {"x": pd.DataFrame({"key": ["a", "z"]})})
    with pytest.raises(ValueError, match="part 'x': 3 rows, 1 keys"):
        stage.compute(["a"], lambda keys: {"x": np.zeros(3)})
    assert stage.missing(["a"]) == ["a"]


def test_reading_what_is_not_there(stage):
    stage.compute(["a"], Letters())
    with pytest.raises(KeyError, match="1 of 2 keys have not been computed; the first is 'b'"):
        stage.read(["a", "b"], "letters")
    with pytest.raises(KeyError, match="no part 'lettres': letters, length, codes"):
        stage.read(["a"], "lettres")


def test_says_what_was_hashed(stage):
    stage.compute(["a"], Letters())
    note = json.loads((stage.folder / "stage.json").read_text())
    assert note == {"stage": "letters", "version": 1, "settings": {"alpha": 0.1}, "inputs": []}
    assert fingerprint(note) == stage.fingerprint


def test_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    work = Letters()
    with pytest.raises(InputError, match=r"^cannot write "):
        Store(tmp_path / "file").stage("letters", 1, {}).compute(["a"], work)
    assert work.asked == []


def test_progress_counts_keys(stage, capsys):
    stage.compute(["a", "b", "c"], Letters(), shard_size=2, desc="counting")
    assert "counting: 100%" in (shown := capsys.readouterr().err) and "3/3" in shown
    stage.compute(["a", "b", "c"], Letters(), shard_size=2)
    assert capsys.readouterr().err == ""


# --- damage


@pytest.mark.parametrize("damage", ["truncate", "alter", "delete", "json", "json keys"])
def test_damaged_shard_is_computed_again_with_a_warning(stage, damage):
    stage.compute(["a", "b", "c", "d"], Letters(), shard_size=2)
    note = next(f for f in stage.folder.glob("shard-*.json") if "a" in f.read_text().split("]")[0])
    data = stage.folder / json.loads(note.read_text())["parts"]["letters"]
    if damage == "truncate":
        data.write_bytes(data.read_bytes()[:-7])
    elif damage == "alter":
        data.write_bytes(data.read_bytes().replace(b"PAR1", b"PAR2"))
    elif damage == "delete":
        data.unlink()
    elif damage == "json":
        note.write_text(note.read_text()[:40])
    else:
        note.write_text(note.read_text().replace('"b"', '"z"'))

    work, other = Letters(), again(stage)
    with pytest.warns(UserWarning, match="truncated or was modified.*computed again"):
        other.compute(["a", "b", "c", "d"], work, shard_size=2)
    assert work.asked == [["a", "b"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again(stage).read([*"abcd"], "letters")["letter"].tolist() == [*"abcd"]


def test_repair_under_another_grouping_ends_the_warnings(stage):
    stage.compute(["a", "b"], Letters(), shard_size=2)
    next(stage.folder.glob("*.npy")).unlink()
    with pytest.warns(UserWarning, match="was modified"):
        again(stage).compute(["a", "b"], Letters(), shard_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again(stage).missing(["a", "b"]) == []


def test_damage_is_noticed_within_one_process(stage):
    stage.compute(["a"], Letters())
    assert stage.missing(["a"]) == []
    next(stage.folder.glob("*.npy")).write_bytes(b"short")
    with pytest.warns(UserWarning, match="was modified"):
        assert stage.missing(["a"]) == ["a"]


def test_first_of_overlapping_shards_wins(stage):
    for value, keys in enumerate((["a", "b"], ["b", "c"], ["a", "c"])):
        stage._write(keys, {"x": pd.DataFrame({"key": keys, "value": value})}, time.perf_counter())
    first = {}
    for note in sorted(stage.folder.glob("shard-*.json")):
        keys = json.loads(note.read_text())["keys"]
        for key in keys:
            first.setdefault(key, {"ab": 0, "bc": 1, "ac": 2}["".join(keys)])
    frame = again(stage).read(["a", "b", "c"], "x")
    assert dict(zip(frame["key"], frame["value"], strict=True)) == first


def test_temporary_files_are_ignored_and_removed_when_old(stage):
    stage.compute(["a"], Letters())
    old, new = stage.folder / ".tmp-1-shard-1.json", stage.folder / ".tmp-2-shard-2.json"
    for file in (old, new):
        file.write_text("{")
    os.utime(old, (time.time() - 7200,) * 2)
    stage.compute(["b"], Letters())
    assert not old.exists() and new.exists()


# --- other processes

_PROGRAM = """
import sys, time
import pandas as pd
from tasnb.store.shards import Store

def work(keys):
    print(*keys, flush=True)
    time.sleep(float(sys.argv[2]))
    return {"x": pd.DataFrame({"key": keys, "n": [int(k) for k in keys]})}

Store(sys.argv[1]).stage("numbers", 1, {}).compute([str(i) for i in range(8)], work, 2)
"""


def _start(root: Path, seconds: float) -> subprocess.Popen:
    package = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(root), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(package)},
    )


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])  # after the first and before the last
def test_killed_run_goes_on_where_it_was(tmp_path, shards):
    killed = _start(tmp_path / "killed", 0.5)
    for _ in range(shards + 1):  # computing the next shard
        killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL

    resumed = _start(tmp_path / "killed", 0)
    assert resumed.communicate()[0].split() == [str(i) for i in range(2 * shards, 8)]
    _start(tmp_path / "whole", 0).communicate()
    frames = [
        Store(tmp_path / name).stage("numbers", 1, {}).read([str(i) for i in range(8)], "x")
        for name in ("killed", "whole")
    ]
    pd.testing.assert_frame_equal(*frames)
    assert frames[0]["n"].tolist() == list(range(8))


def test_two_processes_at_once(tmp_path):
    both = [_start(tmp_path, 0.05) for _ in range(2)]
    for process in both:
        process.communicate()
    assert [process.returncode for process in both] == [0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stage = Store(tmp_path).stage("numbers", 1, {})
        assert stage.read([str(i) for i in range(8)], "x")["n"].tolist() == list(range(8))


def test_many_shards_are_read_quickly(stage):
    keys = [str(i) for i in range(300)]
    stage.compute(keys, Letters(), shard_size=1)
    stage = again(stage)
    stage.missing(keys)
    start = time.perf_counter()
    assert stage.missing(keys) == []
    assert time.perf_counter() - start < 0.5
    start = time.perf_counter()
    assert len(stage.read(keys, "length")[1]) == 300
    assert time.perf_counter() - start < 2
