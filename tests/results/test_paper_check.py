"""The paper's numbers held against our intervals: by hand, and on data in the published layout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from published_layout import MODELS, write

from tasnb.method.metrics import interval
from tasnb.method.pipeline import Pipeline
from tasnb.results import paper_check, tables
from tasnb.settings import ROOT, make_settings
from tasnb.workbook import headline

RN, VIT = make_settings("paper").encoders
TAS = ("table1", "TAS", VIT, "refcoco", "val")  # the paper: 29.53 oIoU, 39.84 mIoU


def outcome(*images: tuple[float, float]) -> pd.DataFrame:
    """Outcome of one sentence per image, given its intersection and union."""
    frame = pd.DataFrame(images, columns=["intersection", "union"])
    return frame.assign(image=[f"image{n}" for n in range(len(frame))])


def checked(frame: pd.DataFrame, *cell: str) -> pd.DataFrame:
    return paper_check.checked(*(cell or TAS), frame).set_index("metric")


def test_an_interval_of_two_images() -> None:
    """Draws of two images: both are the first or the second one in a quarter of cases each."""
    found = checked(outcome((20, 100), (180, 300)))
    assert found.loc["mIoU", ["ours", "low", "high"]].tolist() == pytest.approx([40, 20, 60])
    assert found.loc["oIoU", ["ours", "low", "high"]].tolist() == pytest.approx([50, 20, 60])
    assert found["paper"].to_dict() == {"oIoU": 29.53, "mIoU": 39.84}
    assert found["off"].tolist() == [0, 0] and set(found["verdict"]) == {"within"}
    assert set(found["sentences"]) == set(found["images"]) == {2}


@pytest.mark.parametrize(
    ("iou", "off"), [(0.3, (-0.47, 9.84)), (0.4, (-10.47, -0.16)), (0.2, (9.53, 19.84))]
)
def test_off_is_counted_from_the_nearest_end(iou: float, off: tuple[float, float]) -> None:
    """Where all images are alike, the interval is a point."""
    found = checked(outcome(*[(100 * iou, 100)] * 5))
    assert found["off"].tolist() == pytest.approx(off)
    assert set(found["verdict"]) == {"outside"}


def test_the_ends_belong_to_the_interval() -> None:
    """The paper rounds to two decimals, and so do the ends."""
    assert paper_check.distance(39.84, 39.844, 50) == 0
    assert paper_check.distance(39.84, 30, 39.836) == 0
    assert paper_check.distance(39.84, 39.86, 50) == pytest.approx(-0.02)
    assert paper_check.distance(39.84, 30, 39.8) == pytest.approx(0.04)
    assert np.isnan(paper_check.distance(np.nan, 0, 100))


def test_images_are_counted_and_not_sentences() -> None:
    found = checked(outcome((1, 2), (1, 2), (1, 2)).assign(image=["a", "a", "b"]))
    assert set(found["sentences"]) == {3} and set(found["images"]) == {2}


def test_numbers_that_the_paper_does_not_give() -> None:
    found = checked(outcome((1, 2)), "table2", "Global-Local", VIT, "phrasecut", "test")
    assert found["paper"].isna().all() and set(found["verdict"]) == {"not in the paper"}
    frame = pd.concat([checked(outcome((1, 2))).reset_index(), found.reset_index()])
    summary = paper_check.by_table(frame.assign(recipe="published"))
    assert summary["table"].tolist() == ["table1"] and summary["numbers"].tolist() == [2]


def test_a_summary_by_table() -> None:
    cells = [TAS, ("table1", "CLIP-only", VIT, "refcoco", "val")]  # 23.01 and 33.01
    rows = [paper_check.checked(*cell, outcome((295.3, 1000))) for cell in cells]
    row = paper_check.by_table(pd.concat(rows, ignore_index=True).assign(recipe="released")).iloc[0]
    assert row["numbers"] == 4 and row["within"] == 1 and row["within (%)"] == 25
    assert row["furthest off"] == "TAS ViT-B-32-openai RefCOCO val mIoU"
    assert row["off"] == pytest.approx(39.84 - 29.53)


def test_it_applies_to_the_papers_data_only() -> None:
    assert paper_check.applies(make_settings("paper", limit=3))
    assert paper_check.applies(make_settings("lite", datasets=["phrasecut"]))
    embedded = make_settings()
    assert not paper_check.applies(embedded)
    assert not paper_check.applies(make_settings("paper", datasets=["refscenes"]))
    nothing = paper_check.table(Pipeline(embedded))
    assert nothing.empty and list(nothing.columns) == list(paper_check.COLUMNS)
    assert "does not apply" in paper_check.save(nothing, embedded).data
    assert headline.paper_check(embedded.model_copy(update={"out": Path("nowhere")})) == ""


def test_one_sentence(tmp_path: Path) -> None:
    verdicts = {
        "published": ["within", "outside", "within", "not in the paper"],
        "released": ["outside", "outside", "within", "not in the paper"],
    }
    rows = [(recipe, verdict) for recipe, some in verdicts.items() for verdict in some]
    (tmp_path / "tables").mkdir()
    frame = pd.DataFrame(rows, columns=["recipe", "verdict"])
    frame.to_csv(tmp_path / "tables" / "paper_check.csv", index=False)
    assert headline.paper_check(make_settings("paper", limit=100, out=str(tmp_path))) == (
        "Check against the paper, on 100 images of each split, drawn at random: the paper's number "
        "lies within the 95 % interval of ours in 2 of 3 cases by the recipe published and in 1 of "
        "3 cases by the recipe released; 1 result is not in the paper and left out."
    )
    whole = headline.paper_check(make_settings("paper", out=str(tmp_path)))
    assert whole.startswith("Check against the paper, on all images: ")
    small = headline.paper_check(make_settings("lite", out=str(tmp_path)))
    assert small.startswith("Check against the paper, which used other models, on all images: ")


# --- The whole path, from the command to the report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Notebook 6 with the profile paper and the embedded models: its folder and what it prints."""
    root = tmp_path_factory.mktemp("paper")
    data = root / "data"
    data.mkdir()
    write(data)
    command = [sys.executable, "-m", "tasnb", "run", "--profile", "paper", "--notebooks", "06"]
    command += ["--datasets", "refcoco,phrasecut", "--splits", "val,test", "--limit", "2"]
    command += ["--out", str(root / "out"), "--store", str(root / "store")]
    command += ["-p", "data", str(data), "-p", "few", "1"]
    for name, value in MODELS.items():
        text = json.dumps(value) if isinstance(value, list) else str(value)
        command += ["-p", name, text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return root, done.stdout


@pytest.mark.slow
def test_a_run_on_the_papers_data_is_checked(run: tuple[Path, str]) -> None:
    root, said = run
    frame = pd.read_csv(root / "out" / "tables" / "paper_check.csv", keep_default_na=False)
    assert list(frame.columns) == list(paper_check.COLUMNS)
    assert list(dict.fromkeys(frame["recipe"])) == ["published", "released"]
    both = [frame[frame["recipe"] == r] for r in ("published", "released")]
    same = ["table", "method", "encoder", "dataset", "split", "metric", "paper"]
    assert both[0][same].to_numpy().tolist() == both[1][same].to_numpy().tolist()
    assert sorted(set(frame["table"])) == [f"table{n}" for n in range(1, 8)]
    assert set(frame["images"]) == {2} and not frame["method"].str.contains("released").any()

    # All the paper's numbers on these columns, but those that are only cited.
    known = tables.paper_numbers().reset_index()
    known = known[known["table"].str.startswith("table") & (known["method"] != "TSEG")]
    known = known[~((known["table"] == "table2") & (known["method"] == "Global-Local"))]
    known = known[
        (known["table"] != "table1") | (known["dataset"] + known["split"] == "RefCOCOval")
    ]
    ours = both[0][both[0]["verdict"] != "not in the paper"]
    assert sorted(ours["paper"].astype(float)) == pytest.approx(sorted(known["paper"]))

    counts = [(rows["verdict"] == "within").sum() for rows in both]
    line = said.splitlines()[-1]
    assert "on 2 images of each split, drawn at random" in line
    for recipe, count in zip(("published", "released"), counts, strict=True):
        assert f"in {count} of {len(ours)} cases by the recipe {recipe}" in line
    for page in ("index.html", "notebooks/06_ablations.html"):
        assert line in BeautifulSoup((root / "out" / page).read_text(), "html.parser").get_text()
    for suffix in ("md", "tex", "parquet"):
        assert (root / "out" / "tables" / f"paper_check.{suffix}").is_file()


@pytest.mark.slow
def test_its_numbers_are_those_of_a_run_by_each_recipe(run: tuple[Path, str]) -> None:
    root, _ = run
    frame = pd.read_csv(root / "out" / "tables" / "paper_check.csv")
    seen = []
    for recipe in tables.READINGS:
        place = {name: str(root / name) for name in ("data", "store")}
        changes = {**MODELS, **place, "recipe": recipe, "both_recipes": False, "limit": 2}
        alone = Pipeline(make_settings("paper", out=str(root / recipe), **changes))
        found = tables.outcome(alone, "TAS", alone.settings.encoders[-1], "refcoco", "val")
        row = frame.query(
            "recipe == @recipe and table == 'table4' and metric == 'mIoU' and "
            "method == 'V + P + N + spatial'"
        ).iloc[0]
        assert row["ours"] == pytest.approx(100 * found["iou"].mean(), abs=1e-3)
        assert row[["low", "high"]].tolist() == pytest.approx(interval(found, "mIoU"), abs=1e-3)
        assert row["sentences"] == len(found)
        seen.append(found["iou"].tolist())
    assert seen[0] != seen[1]  # or this says nothing about the recipes
