"""gRefCOCO's layout: lists of annotations, and sentences without a target."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_dataset import BIRD, CAT, DOG, Damage, change

from tasnb.datasets.splits import check_complete, columns, load_split
from tasnb.settings import InputError


def grefs(refs: list[dict], _: dict) -> None:
    """Rewrites the refs in gRefCOCO's format."""
    for one in refs:
        keys = one.pop("ann_ids", [one["ann_id"]])
        one.update(ann_id=keys, category_id=[3] * len(keys), no_target=False)
    refs[3].update(ann_id=[-1], category_id=[-1], no_target=True)


def test_refs_of_lists(own: Path) -> None:
    settings = change(own, grefs)
    split = load_split(settings, str(own), "val")
    assert split.sentences["sentence"].tolist() == ["left cat", "the cat", "cat and bird", "dog"]
    for row, mask in enumerate((CAT, CAT, CAT | BIRD, DOG)):
        np.testing.assert_array_equal(split.ground_truth(row), mask)
    apart = split.no_target
    assert apart["sentence"].tolist() == ["bird"] and apart["target"].tolist() == [""]
    assert apart["names"].tolist() == [()]
    assert apart["truth_area"].tolist() == [0] and list(apart) == list(split.sentences)
    assert apart["image"][0] in split.images
    check_complete(settings, str(own), "val")


def test_an_image_on_which_nothing_is_meant_is_kept(own: Path) -> None:
    def damage(refs: list[dict], tables: dict) -> None:
        grefs(refs, tables)
        refs[2].update(ann_id=[-1], category_id=[-1], no_target=True)

    split = load_split(change(own, damage), str(own), "val")
    assert len(split.images) == 3 and split.no_target["sentence"].tolist() == ["bird", "dog"]


@pytest.mark.parametrize("name", ["grefs(unc).json", "grefs(unc).p"])
def test_its_own_name_of_the_file(own: Path, name: str) -> None:
    change(own, grefs)
    refs = json.loads((own / "refs(me).json").read_text())
    content = pickle.dumps(refs) if name.endswith(".p") else json.dumps(refs).encode()
    (own / name).write_bytes(content)
    both = change(own, lambda refs, _: refs.clear())
    (own / "refs(me).json").unlink()
    assert columns(both) == [(str(own), "val"), (str(own), "testA")]
    assert len(load_split(both, str(own), "val").no_target) == 1


def test_beside_refs_of_the_plain_layout(own: Path) -> None:
    refs = json.loads((own / "refs(me).json").read_text())
    (own / "grefs(me).json").write_text(json.dumps(refs[:1]))
    settings = change(own, lambda refs, tables: None)
    assert columns(settings)[-1] == (str(own), "val(grefs(me))")
    assert len(load_split(settings, str(own), "val(grefs(me))").sentences) == 2
    assert len(load_split(settings, str(own), "val").sentences) == 5


NOTHING = {
    "an empty list": {"ann_ids": []},
    "an empty list that says so": {"ann_ids": [], "no_target": True},
    "minus one": {"ann_id": -1},
    "minus one in a list": {"ann_id": [-1], "category_id": [-1]},
}


@pytest.mark.parametrize("what", NOTHING)
def test_ways_to_mean_nothing(own: Path, what: str) -> None:
    split = load_split(change(own, lambda refs, _: refs[0].update(NOTHING[what])), str(own), "val")
    assert split.no_target["sentence"].tolist() == ["left cat", "the cat"]
    assert split.sentences["sentence"].tolist() == ["bird", "cat and bird", "dog"]


def test_an_annotation_that_is_called_minus_one(own: Path) -> None:
    def damage(refs: list[dict], tables: dict) -> None:
        tables["annotations"][0]["id"] = -1
        refs[0]["ann_id"], refs[4]["ann_ids"] = -1, [-1, 13]

    split = load_split(change(own, damage), str(own), "val")
    np.testing.assert_array_equal(split.ground_truth(0), CAT)
    assert split.no_target.empty


def test_several_categories(own: Path) -> None:
    def damage(refs: list[dict], tables: dict) -> None:
        tables["categories"].append({"id": 4, "name": "bird"})
        refs[4].update(category_id=[3, 4, 3])

    split = load_split(change(own, damage), str(own), "val")
    assert split.sentences["target"].tolist() == ["thing"] * 3 + ["thing and bird", "thing"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"no_target": True}, r"ref 1 has no_target True but the annotations \[11\]; one of"),
     ({"no_target": False, "ann_ids": []}, r"ref 1 has no_target False but the annotations \[\]")],
)  # fmt: skip
def test_what_contradicts_itself(own: Path, fields: dict[str, Any], message: str) -> None:
    damage: Damage = lambda refs, _: refs[0].update(fields)  # noqa: E731
    with pytest.raises(InputError, match=message):
        load_split(change(own, damage), str(own), "val")
