"""A user's own datasets: what is allowed, and errors that name what is wrong."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_dataset import BIRD, CAT, change, ref

from tasnb.datasets.splits import ablated, check_complete, column_name, columns, load_split
from tasnb.settings import InputError, Settings, make_settings


def test_a_dataset_of_one_s_own(own: Path, settings: Settings) -> None:
    """A folder with instances.json, refs(anything) and images/, whose splits have any names."""
    folder = own.rename(own.with_name("my dog"))  # ends in g, but is not a RefCOCOg
    train = ref(9, 4, "train", ["dog"], ann_id=12)
    change(folder, lambda refs, _: refs.append(train))
    mine = make_settings(datasets=[str(folder)], lam_g=0.2)
    assert columns(mine) == [(str(folder), "val"), (str(folder), "testA")]
    assert columns(mine.model_copy(update={"splits": ("train",)})) == [(str(folder), "train")]
    assert ablated(mine) == (str(folder), "val")
    assert mine.lambda_of(str(folder)) == mine.lam
    found = load_split(mine, str(folder), "val").sentences
    assert found["sentence"].tolist() == ["left cat", "the cat", "bird", "cat and bird", "dog"]
    with pytest.raises(InputError, match="unknown split 'test': did you mean 'testA'"):
        columns(make_settings(datasets=[str(folder)], splits=["test"]))


def test_a_dataset_without_refs(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(InputError, match=r"contains no refs\(\.\.\.\)\.json"):
        columns(make_settings(datasets=[str(tmp_path)]))
    (tmp_path / "refs(x).json").write_text("[]")
    with pytest.raises(InputError, match=r"contains no refs: refs\(x\)\.json is empty"):
        columns(make_settings(datasets=[str(tmp_path)]))
    with pytest.raises(InputError, match=r"is not a dataset: .*instances\.json does not exist"):
        make_settings(datasets=[str(tmp_path / "none")])


def first(table: str, **fields: Any) -> Any:
    """Damage that changes the first row of a table of instances.json."""
    return lambda _, tables: tables[table][0].update(fields)


def said(**fields: Any) -> Any:
    """Damage that changes the first sentence of the first ref."""
    return lambda refs, _: refs[0]["sentences"][0].update(fields)


HALF = "cat \ud83d left"  # half of an emoji
BROKEN = {
    "annotation": (
        lambda refs, _: refs[0].update(ann_id=99),
        r"ref 1 refers to 99, which is not among the annotations in instances\.json",
    ),
    "annotation of two": (
        lambda refs, _: refs[0].update(ann_id=[11, -1]),
        r"ref 1 refers to -1, which is not among the annotations",
    ),
    "annotation of null": (
        lambda refs, _: refs[0].update(ann_id=None),
        "ref 1 refers to None, which is not among the annotations",
    ),
    "no annotation": (lambda refs, _: refs[0].pop("ann_id"), "ref 1 has no ann_id"),
    "annotation of another image": (
        first("annotations", image_id=6),
        "ref 1 belongs to image 5, but its annotation 11 to image 6",
    ),
    "image": (
        lambda refs, _: refs[0].update(image_id=99),
        r"a ref refers to 99, which is not among the images in instances\.json",
    ),
    "image that is a list": (
        lambda refs, _: refs[0].update(image_id=[5]),
        r"\[5\] is not an id",
    ),
    "category": (
        lambda refs, _: refs[0].update(category_id=99),
        r"ref 1 refers to 99, which is not among the categories in instances\.json",
    ),
    "no category": (lambda refs, _: refs[0].pop("category_id"), "ref 1 has no category_id"),
    "nameless category": (first("categories", name=None), "the name of category 3 is blank"),
    "blank category": (first("categories", name=" "), "the name of category 3 is blank"),
    "half a category": (first("categories", name=HALF), "name of category 3 is not valid Unicode"),
    "polygon": (
        first("annotations", segmentation=[[1, 2, 3]]),
        r"the segmentation of annotation 11 has a polygon that is not a list of numbers",
    ),
    "no polygon": (
        first("annotations", segmentation=[]),
        r"the segmentation of annotation 11 has no polygon",
    ),
    "null": (
        first("annotations", segmentation=None),
        r"the segmentation of annotation 11 is neither",
    ),
    "only a box": (
        lambda _, tables: tables["annotations"][0].pop("segmentation"),
        r"the segmentation of annotation 11 is neither",
    ),
    "run lengths of another size": (
        lambda _, tables: tables["annotations"][1]["segmentation"].update(size=[5, 6]),
        r"the segmentation of annotation 12 has run lengths of size \[5, 6\]",
    ),
    "sentences": (lambda refs, _: refs[0].pop("sentences"), "ref 1 has no sentences"),
    "sentences of a text": (
        lambda refs, _: refs[0].update(sentences="cat"),
        "ref 1 has sentences that are not a list: 'cat'",
    ),
    "a sentence that is a text": (
        lambda refs, _: refs[0].update(sentences=["cat"]),
        "ref 1: a sentence is not an object: 'cat'",
    ),
    "no sentence": (said(sent=None), "ref 1: the sentence with sent_id 10 is blank; say what to"),
    "blank": (said(sent=" \t"), "the sentence with sent_id 10 is blank; say what to find"),
    "a number": (said(sent=7), "the sentence with sent_id 10 is 7, which is not text"),
    "half an emoji": (said(sent=HALF), "the sentence with sent_id 10 is not valid Unicode: after"),
    "no sent": (
        lambda refs, _: refs[0]["sentences"][0].pop("sent"),
        "the sentence with sent_id 10 has no sent",
    ),
    "no sent_id": (
        lambda refs, _: refs[0]["sentences"][0].pop("sent_id"),
        "ref 1: a sentence has no sent_id",
    ),
    "huge id": (said(sent_id=10**30), "is not an id; it should be a whole number or a string"),
    "id of a fraction": (said(sent_id=1.5), r"1\.5 is not an id"),
    "ids of two kinds": (said(sent_id="ten"), "sent_id is a number in some places and a string in"),
    "ref_id of null": (lambda refs, _: refs[0].update(ref_id=None), "None is not an id"),
    "no ref_id": (lambda refs, _: refs[0].pop("ref_id"), "a ref has no ref_id"),
    "two refs of one id": (
        lambda refs, _: refs[0].update(ref_id=4),
        "two refs in one split have ref_id 4",
    ),
    "two annotations of one id": (
        lambda _, tables: tables["annotations"].append({"id": 11, "segmentation": [[1] * 6]}),
        "annotations has two different rows with id 11",
    ),
    "two images of one id": (
        lambda _, tables: tables["images"].append({"id": 5, "file_name": "b.png"}),
        "images has two different rows with id 5",
    ),
    "no categories": (
        lambda _, tables: tables.pop("categories"),
        r"instances\.json has no list 'categories' of objects with an id; it should contain images",
    ),
    "no images": (lambda _, tables: tables.pop("images"), "has no list 'images'"),
    "annotations as an object": (
        lambda _, tables: tables.update(annotations={"11": {}}),
        "has no list 'annotations'",
    ),
    "a nameless row": (lambda _, tables: tables["images"].append({}), "has no list 'images'"),
    "id of a list": (first("images", id=[5]), r"images has an unusable id: \[5\]"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_named(own: Path, what: str) -> None:
    damage, message = BROKEN[what]
    settings = change(own, damage)
    with pytest.raises(InputError, match=message) as error:
        load_split(settings, str(own), "val")
    text = str(error.value)
    assert str(own) in text and "\n" not in text and text.isascii()


REFS = {
    "no list": ({"refs": []}, r"refs\(me\)\.json is not a list of refs"),
    "of numbers": ([3], r"refs\(me\)\.json is not a list of refs"),
    "without a split": (
        [{"ref_id": 1}],
        "contains a ref without a valid split: {'ref_id': 1}",
    ),
    "split of null": ([{"ref_id": 1, "split": None}], "contains a ref without a valid split"),
    "blank split": ([{"ref_id": 1, "split": " "}], "the name of a split is blank"),
    "half a split": ([{"ref_id": 1, "split": HALF}], "name of a split is not valid Unicode"),
}


@pytest.mark.parametrize("what", REFS)
def test_refs_that_are_none(own: Path, what: str) -> None:
    content, message = REFS[what]
    (own / "refs(me).json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as error:
        columns(make_settings(datasets=[str(own)], splits=["val"]))
    assert "\n" not in str(error.value)


def test_what_is_odd_and_yet_right(own: Path) -> None:
    """Duplicate rows, a number as the name of a split, ids that are strings, any letters."""
    expected = load_split(change(own, lambda refs, tables: None), str(own), "val").sentences

    def odd(refs: list[dict], tables: dict) -> None:
        tables["images"].append(dict(tables["images"][0]))
        tables["annotations"].append(dict(tables["annotations"][0]))
        for row in tables["annotations"]:  # neither is read
            row.update(bbox=None, iscrowd=1)
        for one in refs:
            one.update(split=7 if one["split"] == "val" else 8, ref_id=f"r{one['ref_id']}")
            one.pop("file_name", None)
        refs[0]["sentences"][1]["sent_id"] = 10  # same as the first; nothing is looked up by it
        refs[0]["sentences"][0]["sent"] = "chat à gauche 🐈"

    found = load_split(change(own, odd), str(own), "7").sentences
    assert found["ref_id"].tolist() == [f"r{number}" for number in expected["ref_id"]]
    assert found["ground_truth"].equals(expected["ground_truth"])
    assert found["sentence"][0] == "chat à gauche 🐈"


OUTSIDE = [[5000, 5000, 6000, 5000, 6000, 6000]]


def test_a_target_outside_its_picture_is_left_out(own: Path) -> None:
    settings = change(own, lambda _, tables: tables["annotations"][1].update(segmentation=OUTSIDE))
    with pytest.warns(UserWarning, match=r"own val: 1 of 4 refs are left out.*: ref 3 \(image 4\)"):
        split = load_split(settings, str(own), "val")
    assert split.sentences["ref_id"].tolist() == [1, 1, 4, 5]
    assert (split.sentences["truth_area"] > 0).all() and len(split.images) == 3


def test_a_part_outside_its_picture_is_cut_off(own: Path) -> None:
    """One of two annotations of a ref, or of two polygons of an annotation."""

    def damage(refs: list[dict], tables: dict) -> None:
        tables["annotations"][1].update(segmentation=OUTSIDE)
        tables["annotations"][0]["segmentation"] += OUTSIDE
        refs[0]["ann_id"] = [11, 12]
        del refs[2]

    settings = change(own, damage)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = load_split(settings, str(own), "val")
    np.testing.assert_array_equal(split.ground_truth(0), CAT)
    np.testing.assert_array_equal(split.ground_truth(3), CAT | BIRD)


def test_nothing_left_to_measure(own: Path) -> None:
    """In the first image, or in all; checking whether a dataset is complete still works."""
    settings = change(own, lambda refs, _: [one.update(ann_id=[], ann_ids=[]) for one in refs])
    check_complete(settings, str(own), "val")
    with pytest.raises(InputError, match="own val: no sentence has a target in its image, so n"):
        load_split(settings, str(own), "val")
    limited = settings.model_copy(update={"limit": 1})
    with pytest.raises(InputError, match=r"the first 1 images of own val: .*; raise the limit"):
        load_split(limited, str(own), "val")


# --- names


def splits_of(own: Path, *names: str) -> Settings:
    def damage(refs: list[dict], _: dict) -> None:
        refs[:] = [
            {**one, "split": name, "ref_id": 100 * k + one["ref_id"]}
            for k, name in enumerate(names)
            for one in refs
        ]

    return change(own, damage)


def test_names_of_splits_are_safe_in_files(own: Path) -> None:
    names = ("val", "val/new", "val-new", "../val", "val:new", "n\u00e4chste", ".hidden", "x" * 300)
    settings = splits_of(own, *names)
    found = [column_name(settings, *column) for column in columns(settings)]
    assert found[0] == "own-val" and found[2] == "own-val-new" and found[5] == "own-n\u00e4chste"
    assert len({name.casefold() for name in found}) == len(names)
    for name in found:
        assert Path(name).name == name and not name.startswith(".") and len(name) < 100


def test_columns_that_would_share_a_file(own: Path, tmp_path: Path) -> None:
    """The split "b-val" of the folder a, and the split "val" of the folder a-b."""
    one, other = own.rename(own.with_name("a")), tmp_path / "a-b"
    settings = splits_of(one, "b-val")
    other.mkdir()
    for name in ("refs(me).json", "instances.json"):
        (other / name).write_bytes((one / name).read_bytes())
    splits_of(other, "val")
    both = settings.model_copy(update={"datasets": (str(one), str(other))})
    found = [column_name(both, *column) for column in columns(both)]
    assert found[0] == "a-b-val" and found[1].startswith("a-b-val-") and len(found[1]) == 14
