"""The published datasets, in their published file formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_dataset import HEIGHT, REFERENCES, WIDTH, box
from PIL import Image
from python_2 import as_python_2

from tasnb.datasets.splits import load_split
from tasnb.profiles import DATASETS
from tasnb.settings import InputError, Settings, make_settings


def published(root: Path, dataset: str, which: str, refs: list[dict]) -> Settings:
    """The data of the fixture as a dataset that is published as a pickle."""
    (root / "images").mkdir(exist_ok=True)
    (root / "embedded" / "images").rename(root / "images" / "train2014")
    folder = root / dataset
    (root / "embedded" / "refscenes").rename(folder)
    (folder / "refs(unc).json").unlink()
    (folder / f"refs({which}).p").write_bytes(as_python_2(refs) + b".")
    return make_settings("paper", data=str(root))


def test_a_published_split_must_be_of_its_size(settings: Settings) -> None:
    paper = published(settings.data, "refcoco", "unc", REFERENCES)
    with pytest.raises(InputError) as error:
        load_split(paper, "refcoco", "val")
    message = str(error.value)
    assert "RefCOCO val in " in message and "has 4 refs instead of the published 3811, " in message
    assert "\n" not in message


def test_a_published_split_of_its_size(settings: Settings, monkeypatch) -> None:
    """With the table's numbers replaced by those of the test data."""
    expected = load_split(settings, "refscenes", "val").sentences
    paper = published(settings.data, "refcoco", "unc", REFERENCES)
    sizes = {**DATASETS["refcoco"].sizes, "val": (4, 5, 3)}
    monkeypatch.setitem(DATASETS, "refcoco", DATASETS["refcoco"]._replace(sizes=sizes))
    pd.testing.assert_frame_equal(load_split(paper, "refcoco", "val").sentences, expected)
    limited = load_split(paper.model_copy(update={"limit": 1}), "refcoco", "val")
    assert len(limited.images) == 1  # the whole split is counted even if only part of it is read


def test_the_paper_s_test_g_is_google_s_val(settings: Settings, monkeypatch) -> None:
    paper = published(settings.data, "refcocog", "google", REFERENCES)
    monkeypatch.setitem(DATASETS, "refcocog", DATASETS["refcocog"]._replace(sizes={}))
    assert len(load_split(paper, "refcocog", "test(G)").sentences) == 5


def test_images_that_are_missing_are_said(settings: Settings, monkeypatch) -> None:
    paper = published(settings.data, "refcoco", "unc", REFERENCES)
    monkeypatch.setitem(DATASETS, "refcoco", DATASETS["refcoco"]._replace(sizes={}))
    (settings.data / "images" / "train2014").rename(settings.data / "elsewhere")
    with pytest.raises(
        InputError, match="train2014, the folder of RefCOCO's images, is missing; `py"
    ):
        load_split(paper, "refcoco", "val")


TASK = {
    "task_id": "7__1",
    "image_id": 7,
    "ann_ids": [1, 2],
    "instance_boxes": [[2, 1, 5, 3], [8, 5, 3, 3]],
    "Polygons": [
        [[[2.9, 1.2], [6.7, 1.9], [6.1, 3.8], [2.2, 3.1]]],
        [[[8.5, 5.5], [10.5, 5.5], [10.5, 7.5]], [[0.4, 9.9], [1.6, 9.2], [1.2, 8.0]]],
    ],
    "phrase": "wooden chairs",
    "phrase_structure": {"name": "chairs", "attributes": ["wooden"], "type": "attribute"},
}


def phrasecut(root: Path, tasks: list[dict]) -> Settings:
    (root / "phrasecut").mkdir()
    (root / "phrasecut" / "refer_test.json").write_text(json.dumps(tasks))
    (root / "images" / "visual_genome").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "images" / "visual_genome" / "7.jpg")
    return make_settings("paper", data=str(root))


def test_phrasecut(tmp_path: Path, monkeypatch) -> None:
    """The union of all instances; corners truncated to whole pixels, outlines included."""
    paper = phrasecut(tmp_path, [TASK])
    with pytest.raises(InputError, match="has 1 refs instead of the published 14354"):
        load_split(paper, "phrasecut", "test")
    monkeypatch.setitem(DATASETS, "phrasecut", DATASETS["phrasecut"]._replace(sizes={}))
    split = load_split(paper, "phrasecut", "test")
    row = split.sentences.iloc[0]
    assert (row["sentence"], row["target"], row["sent_id"]) == ("wooden chairs", "chairs", "7__1")
    assert row["names"] == ("chairs",) and split.things == {row["image"]: [("chairs",)]}
    expected = box(1, 2, 4, 7)  # columns 2 to 6 and rows 1 to 3, both ends included
    expected |= np.array(
        [[8 <= x <= 10 and 5 <= y <= 7 and x - 8 >= y - 5 for x in range(WIDTH)]
         for y in range(HEIGHT)]
    )  # fmt: skip
    expected[8, 1] = expected[9, 0] = expected[9, 1] = True
    np.testing.assert_array_equal(split.ground_truth(0), expected)


def test_phrasecut_of_another_shape(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(DATASETS, "phrasecut", DATASETS["phrasecut"]._replace(sizes={}))
    broken = {**TASK, "Polygons": [[[3, 4]]]}
    with pytest.raises(InputError) as error:
        load_split(phrasecut(tmp_path, [broken]), "phrasecut", "test")
    assert "\n" not in str(error.value)


NO_POLYGONS = (
    [[float("nan"), 1], [5, 1], [5, 5]],
    [[1e10, 1], [5, 1], [5, 5]],
    [[1, 2, 3], [4, 5, 6]],
    [[1, "2"], [3, 4], [5, 6]],
    [1, 2, 3, 4, 5, 6],
    7,
)


@pytest.mark.parametrize("polygon", NO_POLYGONS)
def test_phrasecut_with_a_polygon_that_is_none(tmp_path: Path, monkeypatch, polygon: list) -> None:
    monkeypatch.setitem(DATASETS, "phrasecut", DATASETS["phrasecut"]._replace(sizes={}))
    paper = phrasecut(tmp_path, [{**TASK, "Polygons": [[polygon]]}])
    with pytest.raises(InputError, match=r"task 7__1 has a (coordinate|polygon)") as error:
        load_split(paper, "phrasecut", "test")
    assert "\n" not in str(error.value)


def test_phrasecut_with_short_polygons(tmp_path: Path, monkeypatch) -> None:
    """Filled as by its authors' code: two points are a line, one is nothing."""
    monkeypatch.setitem(DATASETS, "phrasecut", DATASETS["phrasecut"]._replace(sizes={}))
    task = {**TASK, "Polygons": [[[[1, 1], [6, 1]], [[3, 4]], []]]}
    split = load_split(phrasecut(tmp_path, [task]), "phrasecut", "test")
    np.testing.assert_array_equal(split.ground_truth(0), box(1, 1, 2, 7))
