"""Splits: sentences, images and ground truth of one column of the tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from own_dataset import BIRD, CAT, DOG, ref
from PIL import Image

from tasnb.datasets.images import image_key
from tasnb.datasets.splits import check_complete, check_there, load_split
from tasnb.settings import InputError, Settings


def test_a_split(settings: Settings) -> None:
    """Only the sentences of the split, by image, in the order of the refs; `sent`, not `raw`."""
    split = load_split(settings, "refscenes", "val")
    frame = split.sentences
    assert [key.split("-")[0] for key in split.images] == ["a", "b", "c"]
    assert all(key == image_key(file.path) for key, file in split.images.items())
    assert frame["sentence"].tolist() == ["left cat", "the cat", "bird", "cat and bird", "dog"]
    assert frame["sent_id"].tolist() == [10, 11, 40, 50, 30]
    assert frame["ref_id"].tolist() == [1, 1, 4, 5, 3]
    assert [image.split("-")[0] for image in frame["image"]] == ["a", "a", "a", "b", "c"]
    assert set(frame["target"]) == {"thing"}
    assert load_split(settings, "refscenes", "testA").sentences["ref_id"].tolist() == [2]


def test_names_of_targets_and_of_everything_in_an_image(settings: Settings) -> None:
    """COCO's annotations have only a category; others may list names and further possible names."""
    split = load_split(settings, "refscenes", "val")
    assert set(split.sentences["names"]) == {("thing",)}
    assert [key[0] for key in split.things] == ["a", "b", "c"]
    assert list(split.things.values()) == [[("thing",)]] * 3
    path = settings.data / "embedded" / "refscenes" / "instances.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 4, "name": "tree"})
    cat, _, bird = content["annotations"]
    cat["attributes"] = {"names": ["thing", "cat"], "maybe": ["kitty"], "colour": "red"}
    bird["attributes"] = {"names": "bird", "maybe": [["big", 3], "", "animal"]}  # another program's
    content["annotations"] += [
        {"id": 20, "image_id": 5, "category_id": 4, "segmentation": []},
        {"id": 21, "image_id": 5, "category_id": 4, "attributes": None},
        {"id": 22, "image_id": 5, "category_id": 99},
        {"id": 23, "image_id": [5], "category_id": 4},
        {"id": 24, "image_id": 77, "category_id": 4},
        {"id": 25, "image_id": 4, "attributes": {"names": ["bush"]}},
    ]
    path.write_text(json.dumps(content))
    split = load_split(settings, "refscenes", "val")
    cat_names, bird_names = ("thing", "cat", "kitty"), ("thing", "animal")
    assert split.sentences["names"].tolist() == [
        cat_names, cat_names, bird_names, (*cat_names, "animal"), ("thing",)
    ]  # fmt: skip
    assert {key[0]: named for key, named in split.things.items()} == {
        "a": [("tree",), cat_names, bird_names],
        "b": [(*cat_names, "animal")],
        "c": [("bush",), ("thing",)],
    }


def test_three_ways_to_write_a_mask_and_a_union_of_two(settings: Settings) -> None:
    split = load_split(settings, "refscenes", "val")
    for row, truth in enumerate([CAT, CAT, BIRD, CAT | BIRD, DOG]):
        np.testing.assert_array_equal(split.ground_truth(row), truth)
        assert split.sentences["truth_area"][row] == truth.sum()


@pytest.mark.parametrize(
    ("limit", "images", "sentences"), [(1, "a", 3), (2, "ac", 4), (3, "abc", 5), (9, "abc", 5)]
)
def test_the_limit_takes_the_first_images(
    settings: Settings, limit: int, images: str, sentences: int
) -> None:
    limited = settings.model_copy(update={"limit": limit})
    split = load_split(limited, "refscenes", "val")
    assert "".join(key[0] for key in split.images) == images
    assert len(split.sentences) == sentences


def _kept(settings: Settings, dataset: str, limit: int, **changes) -> set[str]:
    changed = settings.model_copy(update={"limit": limit, "sample": "random", **changes})
    return {key.split("-")[0] for key in load_split(changed, dataset, "val").images}


def test_a_random_sample_is_not_the_first_images(settings: Settings) -> None:
    """Forty images of one size: every image has the same chance, whatever its place in the file."""
    root = settings.data / "embedded"
    images = [{"id": 7 * n, "file_name": f"p{n}.png", "height": 10, "width": 12} for n in range(40)]
    for image in images:
        Image.new("RGB", (12, 10), (image["id"] % 256, 1, 2)).save(
            root / "images" / image["file_name"]
        )
    path = root / "refscenes" / "instances.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "images": images}))
    refs = [ref(n, 7 * n, "val", ["cat"], ann_id=11) for n in range(40)]
    (root / "refscenes" / "refs(unc).json").write_text(json.dumps(refs))
    shutil.copytree(root / "refscenes", root / "refscenes+")
    (root / "refscenes+" / "refs(unc).json").write_text(json.dumps(refs[::-1]))

    ten, twenty = (_kept(settings, "refscenes", limit) for limit in (10, 20))
    assert len(ten) == 10 and ten < twenty
    assert ten == _kept(settings, "refscenes", 10) == _kept(settings, "refscenes+", 10)
    assert len(_kept(settings, "refscenes", 99)) == 40
    draws = [_kept(settings, "refscenes", 10, seed=seed) for seed in range(60)]
    counts = np.array([sum(f"p{n}" in drawn for drawn in draws) for n in range(40)])
    assert counts.min() >= 3 and counts.max() <= 29  # binomial (60, 1/4): mean 15, sd 3.4
    assert abs(counts[:10].mean() - 15) < 3


def test_the_key_of_an_image_changes_with_its_content(settings: Settings, tmp_path: Path) -> None:
    one, other = tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"
    for path, colour in ((one, "red"), (other, "blue")):
        path.parent.mkdir()
        Image.new("RGB", (2, 2), colour).save(path)
    assert image_key(one).startswith("a-") and image_key(one) != image_key(other)
    with pytest.raises(InputError, match=r"cannot read .*none\.png"):
        image_key(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("refscene", "val", "unknown dataset 'refscene': did you mean 'refscenes'"),
        ("refscenes", "testC", "unknown split of RefScenes 'testC': did you mean 'test"),
        ("refscenes", "testB", "RefScenes testB contains no sentences; restore it with `git"),
        ("refscenesg", "val(U)", "refscenesg/refs(umd).json is missing; restore it with `git"),
    ],
)
def test_unknown_and_missing(settings: Settings, dataset: str, split: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_split(settings, dataset, split)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_completeness(settings: Settings, tmp_path: Path) -> None:
    check_complete(settings, "refscenes", "val")
    (tmp_path / "embedded" / "images" / "b.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 images of RefScenes val are .*b\.png"):
        check_complete(settings, "refscenes", "val")
    only = settings.model_copy(update={"datasets": ("refscenes",)})
    with pytest.raises(InputError, match=r"refscenes/refs\(unc\)\.json is missing"):
        (tmp_path / "embedded" / "refscenes" / "refs(unc).json").unlink()
        check_there(only)
