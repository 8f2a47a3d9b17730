"""Answers of several masks or none: ``segment``, the command, and what they write."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import tasnb
from tasnb.cli.arguments import main
from tasnb.datasets.splits import load_split
from tasnb.method import proposals
from tasnb.method.pipeline import Pipeline
from tasnb.segmentation.answer import COLUMNS, NOTHING, Segmentation, apart
from tasnb.segmentation.pictures import asked
from tasnb.settings import make_settings

# Few proposals of any quality, so that nothing depends on how well the embedded SAM was trained.
SOME = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
ANY = {**SOME, "recipe": "extended", "answers": "any"}
EVERY = {**ANY, "least_evidence": -10.0, "several_share": 0.0}
NONE = {**ANY, "least_evidence": 10.0}


def answer(chosen: list[bool], wide: int = 1) -> Segmentation:
    """A grey image whose proposals are its columns of `wide` pixels; E is 0.1 less than S."""
    rows = [
        {**dict.fromkeys(COLUMNS, 0.0), "mask_id": k, "S": k / 10, "E": k / 10 - 0.1, "kept": True,
         "chosen": yes, "caption": "x"}
        for k, yes in enumerate(chosen)
    ]  # fmt: skip
    masks = np.repeat(np.eye(len(chosen), dtype=bool), wide, 1)[:, None].repeat(40, 1)
    image = np.full((40, wide * len(chosen), 3), 200, np.uint8)
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "E"])
    return Segmentation(image, "the dogs", masks[chosen][::-1], frame, 0.8)


def test_several() -> None:
    one = answer([False, True, True, False])
    assert not one.fits_nothing and one.chosen["mask_id"].tolist() == [2, 1]
    assert repr(one).endswith("50.0 % of 4 x 40 pixels, 2 chosen from 4 masks)")
    record = one.record()
    assert (record["mask_id"], record["score"], record["mask_ids"]) == (2, 0.2, [2, 1])
    assert record["no_target"] is False and record["area"] == 80
    each = [coco_mask.decode(rle).astype(bool) for rle in record["segmentations"]]
    np.testing.assert_array_equal(each, one.masks)
    assert [mask[0].nonzero()[0].tolist() for mask in each] == [[2], [1]]  # the best first
    np.testing.assert_array_equal(one.mask, each[0] | each[1])
    page = one._repr_html_()
    assert NOTHING not in page and "“the dogs”: 2 masks, together 50.0 % of the picture</p>" in page
    assert answer([True, False]).in_words() == "one mask, 50.0 % of the picture"


def test_each_of_several_is_outlined() -> None:
    """Two that touch: a line lies between them, which a union would not have."""
    one = answer([False, True, True], wide=30)
    shown = np.asarray(one.overlay())[20]
    assert shown[:27].tolist() == [[200] * 3] * 27  # outside, up to the outline
    tinted = shown[45].tolist()
    assert tinted == shown[75].tolist() != [200] * 3
    assert [255] * 3 in shown[55:66].tolist() and [17] * 3 in shown[55:66].tolist()
    alone = replace(one, masks=one.mask[None])
    assert np.asarray(alone.overlay())[20, 45:75].tolist() == [tinted] * 30


def test_none() -> None:
    one = answer([False, False])
    assert one.fits_nothing and one.chosen.empty
    assert repr(one).endswith(
        "0.0 % of 2 x 40 pixels, nothing fits (evidence 0.00 < 0.80), of 2 masks)"
    )
    record = one.record()
    assert (record["mask_id"], record["score"], record["caption"]) == (-1, None, "")
    assert record["mask_ids"] == [] and record["no_target"] is True and record["area"] == 0
    json.dumps(record)
    assert (record["evidence"], record["least_evidence"]) == (0.0, 0.8)
    assert record["segmentations"] == []
    assert f"“the dogs”: {NOTHING} (evidence 0.00 &lt; 0.80)</p>" in one._repr_html_()
    assert np.asarray(one.overlay())[0, 0].max() < 160  # dimmed


def test_no_proposals_are_not_the_same_as_none_that_fits() -> None:
    one = answer([])
    assert not one.fits_nothing and one.record()["no_target"] is False


def test_two_numbers_are_told_apart() -> None:
    assert apart(0.31, 0.8) == ("0.31", "0.80")
    assert apart(0.7996, 0.8) == ("0.7996", "0.8000")
    assert apart(0.8, 0.8) == ("0.80", "0.80")


def test_evidence_is_that_of_the_best_mask_that_is_kept() -> None:
    one = answer([False, False, False])
    assert one.evidence == pytest.approx(0.1)
    one.frame.loc[2, "kept"] = False
    assert one.evidence == pytest.approx(0.0)


# --- Through the models


@pytest.fixture(scope="module")
def path() -> Path:
    split = load_split(make_settings(limit=1), "refscenes", "val")
    return next(iter(split.images.values())).path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store"))


@pytest.mark.slow
def test_segment_several(path: Path, store: str) -> None:
    result = tasnb.segment(path, "people", store=store, **EVERY)
    assert result.frame["chosen"].all() and len(result.frame) > 1
    assert list(result.frame.columns) == [*COLUMNS[:4], "G", "S", "E", *COLUMNS[5:]]
    run = Pipeline(make_settings(store=store, **EVERY))
    key = asked(path, run.settings)
    whole = proposals.decode(run.refined({key.key: key.source})).any(0)
    np.testing.assert_array_equal(result.mask, whole)
    area = dict(zip(result.record()["mask_ids"], result.masks.sum((1, 2)), strict=True))
    rows = run.refined({key.key: key.source}).set_index("mask_id")["area"]
    assert area == rows.to_dict() and len(set(area.values())) > 1
    best = result.frame.loc[result.frame["S"].idxmax()]
    assert result.record()["mask_id"] == best["mask_id"]
    # several, but not all
    least = tasnb.segment(path, "people", store=store, **{**EVERY, "several_share": 1.0})
    assert least.frame["chosen"].sum() == 1 and least.record()["mask_id"] == best["mask_id"]


@pytest.mark.slow
def test_segment_none(path: Path, store: str) -> None:
    result = tasnb.segment(path, "people", store=store, **NONE)
    assert result.fits_nothing and not result.mask.any() and len(result.frame) > 1


def options(store: str, changes: dict) -> list[str]:
    found = ["-p", "store", store]
    for name, value in changes.items():
        found += ["-p", name, str(value)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "last"),
    [(EVERY, "masks: together "), (NONE, ", is below least_evidence, 10.00; overlay: ")],
)
def test_the_command_says_so(
    path: Path, store: str, tmp_path: Path, capsys, changes: dict, last: str
) -> None:
    out, rle = tmp_path / "o.png", tmp_path / "r.json"
    arguments = ["segment", str(path), "people", "--out", str(out), "--rle", str(rle)]
    assert main([*arguments, *options(store, changes)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert last in line
    (record,) = json.loads(rle.read_text())
    assert record["no_target"] == (changes is NONE)
    assert len(record["segmentations"]) == len(record["mask_ids"])
    if changes is NONE:
        assert line.startswith("no mask: nothing in the picture fits 'people': the evidence for ")
        assert f"the best mask, {record['evidence']:.2f}, is below" in line
    mask = coco_mask.decode(record["segmentation"]).astype(bool)
    assert mask.any() == (changes is EVERY)
    with Image.open(out) as picture:
        dark = np.asarray(picture.convert("RGB")).mean()
    with Image.open(path) as picture:
        bright = np.asarray(picture.convert("RGB")).mean()
    assert (dark < 0.75 * bright) == (changes is NONE)


@pytest.mark.slow
def test_a_folder(path: Path, store: str, tmp_path: Path, capsys) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    (pictures / "a.jpg").write_bytes(path.read_bytes())
    for changes, masks in ((EVERY, None), (NONE, "0")):
        arguments = ["segment", str(pictures), "people", "--out", f"{out}/"]
        assert main([*arguments, *options(store, changes)]) == 0
        (row,) = csv.DictReader((out / "results.csv").open(encoding="utf-8"))
        (record,) = json.loads((out / "masks.json").read_text())
        assert row["masks"] == (masks or str(len(record["mask_ids"])))
        assert row["error"] == "" and (row["mask_id"] == "-1") == (changes is NONE)
        assert float(row["evidence"]) == pytest.approx(record["evidence"], abs=1e-6)
        said = capsys.readouterr().out.splitlines()
        assert ("no mask: nothing fits the expression in 1 of 1 rows" in said) == (changes is NONE)
        assert said[-1].startswith(f"masks: {int(changes is EVERY)} of 1 rows")
