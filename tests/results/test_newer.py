"""The table of newer methods: its rows, the precision of boxes, and what is cited."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasnb import Pipeline
from tasnb.profiles import RECIPES
from tasnb.results import newer, shown, tables
from tasnb.settings import make_settings

RN, VIT = "open_clip:embedded/clip-rn", "open_clip:embedded/clip-vit"
COLUMN = ("refscenes", "val")
VIEWS = ["Red circle", "Blur", "Crop + blur"]


@pytest.fixture(scope="module")
def pipeline(shared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    out = str(tmp_path_factory.mktemp("newer"))
    return Pipeline(make_settings(limit=2, splits=["val"], store=str(shared_store), out=out))


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_boxes_one_by_one(pipeline: Pipeline) -> None:
    """The IoU of boxes, by painting them; no mask is wrong."""
    split = pipeline.split(*COLUMN)
    scored = pipeline.scored(*COLUMN, VIT)  # the best masks for some, the worst for others
    pick = scored.best_possible()
    pick[1::2] = scored.choose(-scored.pairs["intersection"].to_numpy(float), rectify=False)[1::2]
    outcome = tables.by_image(scored, pick)
    outcome.loc[0, "mask_id"] = -1
    right = []
    for row, chosen in outcome.iterrows():
        if chosen["mask_id"] < 0:
            right.append(False)
            continue
        truth = split.ground_truth(row)
        boxes = []
        for mask in (truth, *pipeline.masks(split.images, chosen["image"], [chosen["mask_id"]])):
            top, bottom, left, right_ = box_of(mask)
            boxes.append(np.zeros(truth.shape, bool))
            boxes[-1][top:bottom, left:right_] = True
        right.append((boxes[0] & boxes[1]).sum() / (boxes[0] | boxes[1]).sum() >= 0.5)
    assert 0 < np.mean(right) < 1
    found = newer.box_precision(pipeline, split, outcome)
    assert found == pytest.approx(100 * np.mean(right))


def test_which_rows_there_are(pipeline: Pipeline) -> None:
    """HybridGL and the maps need a ViT; every recipe has a row."""
    recipes = [f"TAS ({recipe})" for recipe in RECIPES if recipe != "published"]
    ends = ["CLIP-only", "TAS", *recipes]
    assert newer.methods(pipeline, RN) == [*VIEWS, "ReCLIP relations", *ends]
    vit = ["GEM", *VIEWS, "ReCLIP relations", "HybridGL", "CLIP Surgery", *ends]
    assert newer.methods(pipeline, VIT) == vit


def test_tables_1_and_2_show_only_the_two_readings_of_the_paper() -> None:
    run = Pipeline(make_settings(both_recipes=True))
    assert tables.methods(run, VIT)[-2:] == ["TAS", "TAS (released)"]


def test_the_table(pipeline: Pipeline) -> None:
    few = pipeline.variant(datasets=["refscenes", "phrasescenes"], encoders=[VIT])
    found = newer.newer(few)
    assert list(found.columns) == tables.COLUMNS and set(found["table"]) == {"newer"}
    assert set(found["dataset"]) == {"refscenes"}
    ours = found.dropna(subset="value").set_index(["method", "metric"])
    assert ours.index.is_unique and ours["value"].between(0, 100).all()
    assert list(dict.fromkeys(ours.index.get_level_values(0))) == newer.methods(few, VIT)
    for recipe in RECIPES:
        own = Pipeline(few.settings.in_recipe(recipe))
        expected = 100 * tables.outcome(own, "TAS", VIT, *COLUMN)["iou"].mean()
        name = "TAS" if recipe == "published" else f"TAS ({recipe})"
        assert ours.loc[(name, "mIoU"), "value"] == pytest.approx(expected)
    assert ours.loc[("TAS", "mIoU"), "paper"] == 39.84  # of Table 1
    assert np.isnan(ours.loc[("TAS", tables.BOX), "paper"])
    surgery = 100 * tables.outcome(few, "CLIP Surgery", VIT, *COLUMN)["iou"].mean()
    assert ours.loc[("CLIP Surgery", "mIoU"), "value"] == pytest.approx(surgery)
    cited = found[found["value"].isna()].set_index("method")
    assert (cited["n"] == 0).all() and cited.index.str.endswith(" (cited)").all()
    values = dict(zip(cited["metric"] + ": " + cited.index, cited["paper"], strict=True))
    assert values == {
        "box P@0.5: ReCLIP: crop, blur outside the box, relations (cited)": 45.8,
        "box P@0.5: Red circle: with crop and relations (cited)": 43.9,
        "box P@0.5: FGVP: crop, blur outside the mask, relations (cited)": 52.0,
        "mIoU: Ref-Diff: with Stable Diffusion (cited)": 37.21,
    }


def test_the_cited_results_have_a_source() -> None:
    known = newer.published()
    assert (known["source"].str.len() > 10).all()
    assert not known.duplicated(["method", "dataset", "split", "metric"]).any()
    assert set(known["metric"]) <= set(shown.METRICS)
    assert known["split"].isin(["val", "val(U)"]).all()


def test_as_it_is_shown(tmp_path: Path) -> None:
    """Our rows first, then those that are only cited; boxes below oIoU and mIoU."""
    ours = [
        ("newer", "Blur", "clip-vit", "refscenes", split, metric, 50.0, np.nan, 3)
        for split, metric in product(["val", "testA"], ["oIoU", "mIoU", tables.BOX])
    ]
    frame = pd.DataFrame(ours, columns=tables.COLUMNS)
    frame = pd.concat([frame, newer._cited(frame)], ignore_index=True)
    settings = make_settings(out=str(tmp_path))
    shown.save(frame, "newer", settings)
    lines = (tmp_path / "tables" / "newer.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:9]]
    assert [row[0] for row in cells] == ["oIoU", "mIoU", "mIoU", *["box P@0.5"] * 4]
    assert [row[2].partition(":")[0] for row in cells] == [
        "Blur", "Blur", "Ref-Diff", "Blur", "ReCLIP", "Red circle", "FGVP"
    ]  # fmt: skip
    assert cells[-1][3:] == ["(52.00)", ""] and lines[-1].startswith(
        "Published results in parentheses"
    )


def test_without_a_column_of_table_1_it_says_so(tmp_path: Path) -> None:
    settings = make_settings(datasets=["phrasescenes"], out=str(tmp_path))
    assert newer.newer(Pipeline(settings)).empty
    said = shown.save(newer.newer(Pipeline(settings)), "newer", settings)
    assert said.data == "*This run has no split of Table 1, only phrase datasets.*"
