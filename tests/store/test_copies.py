"""Parts of a store, and how a process knows which ones it has used."""

from __future__ import annotations

import numpy as np
import pytest

from tasnb.store import shards
from tasnb.store.copies import copy_shards
from tasnb.store.shards import Store


def work(keys):
    return {"lengths": np.array([len(key) for key in keys])}


def stage(root):
    return Store(root).stage("lengths", 1, {})


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """A store of three shards with two keys each; no shard has been used yet."""
    stage(tmp_path / "store").compute(["a", "bb", "c", "dd", "e", "ff"], work, 2)
    monkeypatch.setattr(shards, "used", set())
    return tmp_path / "store"


def test_only_shards_with_a_needed_key_are_used(filled):
    stage(filled).compute(["bb"], work, 2)  # asks, and finds it
    assert stage(filled).read(["e", "ff"], "lengths")[0].tolist() == [1, 2]
    keys = {key for file in shards.used for key in shards.json.loads(file.read_bytes())["keys"]}
    assert keys == {"a", "bb", "e", "ff"}


def test_a_read_without_keys_uses_the_shard_that_tells_the_type(filled):
    assert stage(filled).read([], "lengths")[0].dtype == int
    assert len(shards.used) == 1


def test_used_shards_are_all_that_a_copy_needs(filled, tmp_path):
    stage(filled).read(["dd", "c"], "lengths")
    names = [str(file.relative_to(filled)) for file in shards.used]
    copy_shards(filled, names, tmp_path / "copy")
    copied = [file for file in (tmp_path / "copy").rglob("*") if file.is_file()]
    assert len(copied) == 3  # the record of the stage, the shard, its only part
    copy = stage(tmp_path / "copy")
    assert copy.read(["c", "dd"], "lengths")[0].tolist() == [1, 2]
    assert copy.missing(["a", "c"]) == ["a"]
    copy_shards(filled, names, tmp_path / "copy")  # a second time, with the same files
    assert copy.missing(["c"]) == []
