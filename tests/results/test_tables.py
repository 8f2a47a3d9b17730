"""The paper's numbers, and our rows beside them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from tasnb.method.scores import ScoreTable
from tasnb.results import ablations, tables
from tasnb.settings import make_settings

VIT, RN = "open_clip:embedded/clip-vit", "open_clip:embedded/clip-rn"
SPLITS = [
    *product(["RefCOCO", "RefCOCO+"], ["val", "testA", "testB"]),
    *product(["RefCOCOg"], ["val(U)", "test(U)", "test(G)"]),
]
# Typed from the paper's pages, not from paper.csv.
TABLE1 = {
    ("oIoU", "", "Text-only"): "18.65 17.60 18.32 21.78 21.68 20.58 25.11 25.48 25.93",
    ("oIoU", "RN50", "Global-Local"): "20.54 22.15 20.35 24.41 25.73 24.58 26.75 28.86 29.01",
    ("oIoU", "RN50", "CLIP-only"): "23.41 24.77 24.07 29.83 35.46 26.25 31.26 32.47 33.08",
    ("oIoU", "RN50", "TAS"): "29.75 32.85 28.23 33.58 40.65 27.78 36.80 37.06 38.03",
    ("oIoU", "ViT-B/32", "CLIP-only"): "23.01 23.18 24.27 30.05 33.74 27.01 30.66 31.41 32.27",
    ("oIoU", "ViT-B/32", "TAS"): "29.53 30.26 28.24 33.21 38.77 28.01 35.84 36.16 36.36",
    ("mIoU", "", "Text-only"): "26.17 24.19 25.98 30.00 29.66 29.61 35.83 35.74 36.21",
    ("mIoU", "RN50", "Grad-CAM"): "30.22 31.90 27.17 33.96 25.66 32.29 33.05 32.50 33.25",
    ("mIoU", "RN50", "CLIP-only"): "34.16 35.80 31.70 41.07 46.61 34.50 43.73 44.09 45.08",
    ("mIoU", "RN50", "TAS"): "39.91 42.85 35.85 43.99 50.58 36.44 47.68 47.41 48.69",
    ("mIoU", "ViT-B/32", "CLIP-only"): "33.01 33.60 31.46 40.59 43.73 35.25 42.66 42.59 44.37",
    ("mIoU", "ViT-B/32", "TAS"): "39.84 41.08 36.24 43.63 49.13 36.54 46.62 46.80 48.05",
}
ABLATIONS = [  # RefCOCO val, ViT-B/32
    ("table3", "alpha = 0", 27.41, 37.89),
    ("table3", "alpha = 0.05", 28.75, 39.35),
    ("table3", "alpha = 0.1", 29.53, 39.84),
    ("table3", "alpha = 0.2", 29.17, 39.13),
    ("table3", "alpha = 0.4", 26.93, 36.39),
    ("table3", "lambda = 0", 27.46, 38.54),
    ("table3", "lambda = 0.3", 28.62, 39.56),
    ("table3", "lambda = 0.5", 29.23, 39.97),
    ("table3", "lambda = 0.7", 29.53, 39.84),
    ("table3", "lambda = 0.9", 28.96, 39.18),
    ("table4", "V", 23.01, 33.01),
    ("table4", "V + P", 25.44, 35.94),
    ("table4", "V + P + N", 27.11, 37.03),
    ("table4", "V + P + N + spatial", 29.53, 39.84),
    ("table5", "BLIP-2 crop, CLIP crop", 28.87, 39.08),
    ("table5", "BLIP-2 blur, CLIP blur", 27.17, 37.85),
    ("table5", "BLIP-2 crop, CLIP blur", 27.07, 37.43),
    ("table5", "BLIP-2 blur, CLIP crop", 29.53, 39.84),
]

SWAPS = [  # table, method, encoder, then RefCOCO+ testA oIoU and mIoU, RefCOCOg val(U) the same
    ("table6", "no captioner", "RN50", 35.46, 46.61, 31.26, 43.73),
    ("table6", "no captioner", "ViT-B/32", 33.74, 43.73, 30.66, 46.62),
    ("table6", "BLIP-2", "RN50", 40.65, 50.58, 36.80, 47.68),
    ("table6", "BLIP-2", "ViT-B/32", 38.77, 49.13, 35.84, 46.62),
    ("table6", "GIT", "RN50", 40.10, 50.55, 35.43, 46.79),
    ("table6", "GIT", "ViT-B/32", 38.09, 48.42, 34.99, 46.02),
    ("table7", "CLIP", "ViT-B/32", 33.74, 43.73, 30.66, 42.66),
    ("table7", "CLIP-TAS", "ViT-B/32", 38.77, 49.13, 35.84, 46.62),
    ("table7", "BLIP-2-ITC", "", 38.78, 51.75, 32.99, 46.91),
    ("table7", "BLIP-2-TAS", "", 43.48, 54.90, 37.97, 50.07),
    ("table7", "ALBEF-ITC", "", 7.22, 11.70, 10.55, 15.35),
    ("table7", "ALBEF-TAS", "", 24.59, 35.10, 26.58, 37.20),
]


def test_the_papers_numbers() -> None:
    known = tables.paper_numbers()
    assert len(known) == 330 and known.index.is_unique
    assert known.drop("speed", level="table").between(5, 60).all()
    assert known["speed"].tolist() == [1.88, 2.01, 3.63, 22]
    for (metric, encoder, method), values in TABLE1.items():
        for (dataset, split), value in zip(SPLITS, values.split(), strict=True):
            assert known["table1", method, encoder, dataset, split, metric] == float(value)
    phrasecut = known["table2"].to_dict()
    assert phrasecut == {
        ("Global-Local", "", "PhraseCut", "test", "oIoU"): 23.64,
        ("TAS", "ViT-B/32", "PhraseCut", "test", "oIoU"): 25.64,
        ("TAS", "ViT-B/32", "PhraseCut", "test", "mIoU"): 24.66,
        ("TAS", "RN50", "PhraseCut", "test", "oIoU"): 25.00,
        ("TAS", "RN50", "PhraseCut", "test", "mIoU"): 24.51,
    }
    for table, method, oiou, miou in ABLATIONS:
        where = (table, method, "ViT-B/32", "RefCOCO", "val")
        assert (known[(*where, "oIoU")], known[(*where, "mIoU")]) == (oiou, miou)
    for table, method, encoder, *values in SWAPS:
        found = [
            known[table, method, encoder, dataset, split, metric]
            for dataset, split in (("RefCOCO+", "testA"), ("RefCOCOg", "val(U)"))
            for metric in ("oIoU", "mIoU")
        ]
        assert found == values
    assert len(known["table6"]) + len(known["table7"]) == 4 * len(SWAPS)
    assert len(known["table3"]) + len(known["table4"]) + len(known["table5"]) == 2 * len(ABLATIONS)
    assert known["table1"].groupby("metric").size().to_dict() == {"oIoU": 120, "mIoU": 117}


def test_names() -> None:
    assert [tables.counterpart(e) for e in (VIT, RN, "", "ViT-L-14")] == [
        "ViT-B/32", "RN50", "", "ViT-B/32"
    ]  # fmt: skip
    assert [tables.short(e) for e in (VIT, "open_clip:RN50", "")] == ["clip-vit", "RN50", ""]


# --- our rows


def outcome(*pairs: tuple[int, int]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["intersection", "union"])


def test_rows_stand_beside_the_papers() -> None:
    rows = tables.rows("table1", "TAS", VIT, "refscenes+", "testA", outcome((1, 2), (3, 4)))
    assert list(rows.columns) == tables.COLUMNS
    assert rows["metric"].tolist() == ["oIoU", "mIoU", *(f"P@0.{t}" for t in range(5, 10))]
    first = rows.iloc[0].to_dict()
    assert first == {
        "table": "table1", "method": "TAS", "encoder": "clip-vit", "dataset": "refscenes+",
        "split": "testA", "metric": "oIoU", "value": pytest.approx(100 * 4 / 6), "paper": 38.77,
        "n": 2,
    }  # fmt: skip
    assert rows["paper"][1] == 49.13 and rows["paper"][2:].isna().all()
    text = tables.rows("table1", "Text-only", "", "refscenes", "val", outcome((1, 2)))
    assert text["paper"][:2].tolist() == [18.65, 26.17] and set(text["encoder"]) == {""}


@pytest.fixture
def scored() -> ScoreTable:
    """One sentence and three masks; each way to choose takes another mask."""
    pairs = pd.DataFrame(
        {
            "sentence": 0, "mask_id": [0, 1, 2], "V": [0.30, 0.29, 0.25], "P": [0.0, 0.2, 0.9],
            "N": [-0.1, -0.2, -0.2], "in_region": [False, True, False],
            "intersection": [5, 10, 0], "area": [10, 10, 10],
        }
    )  # fmt: skip
    return ScoreTable(pd.DataFrame({"image": ["a"], "truth_area": [10]}), pairs)


def test_what_each_method_chooses(scored: ScoreTable) -> None:
    """V 0.30 0.29 0.25; V + 0.1 P 0.30 0.31 0.34; V + 0.1 P + 0.7 N 0.23 0.17 0.20."""
    chosen = {
        method: int(tables.choose(method, scored, make_settings(), "refscenes")[0])
        for method in [*tables.OWN, *tables.MODULES]
    }
    assert chosen == {
        "Text-only": 2, "CLIP-only": 0, "TAS": 1,
        "V": 0, "V + P": 2, "V + P + N": 0, "V + P + N + spatial": 1,
    }  # fmt: skip


def test_the_g_family_has_its_own_lambda(scored: ScoreTable) -> None:
    settings = make_settings(lam=0.0)  # V + 0.1 P, against V + 0.1 P + N: 0.20 0.11 0.14
    chosen = [
        tables.choose("V + P + N", scored, settings, d)[0] for d in ("refscenes", "refscenesg")
    ]
    assert chosen == [2, 0]


def test_tables_3_and_4(scored: ScoreTable) -> None:
    three = ablations.table3(scored, VIT, make_settings())
    four = ablations.table4(scored, VIT, make_settings())
    for found, name in ((three, "table3"), (four, "table4")):
        main = found[found["metric"].isin(["oIoU", "mIoU"])]
        wanted = [(m, *values) for table, m, *values in ABLATIONS if table == name]
        assert list(dict.fromkeys(main["method"])) == [m for m, *_ in wanted]
        assert main["paper"].tolist() == [value for _, *both in wanted for value in both]
    assert (
        three.loc[three["metric"] == "oIoU", "value"] == 100
    ).all()  # the only one in the region
    ious = four.loc[four["metric"] == "mIoU", "value"]
    np.testing.assert_allclose(ious, [100 * 5 / 15, 0, 100 * 5 / 15, 100])


def test_the_grid_is_table_3_where_they_meet(scored: ScoreTable) -> None:
    grid = ablations.grid(scored, ablations.ALPHAS, ablations.LAMBDAS)
    assert len(grid) == 25 and list(grid.columns) == ["alpha", "lambda", "oIoU", "mIoU"]
    assert grid[["alpha", "lambda"]].values.tolist() == [
        [a, b] for a in ablations.ALPHAS for b in ablations.LAMBDAS
    ]
    assert (grid[["oIoU", "mIoU"]] == 100).all(axis=None)


def test_what_is_cited_has_no_value_of_ours() -> None:
    columns = [("refscenes", "val"), ("refscenes", "testA"), ("refscenesg", "val(U)")]
    rows = pd.concat([tables.rows("table1", "TAS", VIT, *c, outcome((1, 2))) for c in columns])
    tseg = tables._cited("TSEG", rows)
    assert tseg["value"].isna().all() and (tseg["n"] == 0).all()
    assert tseg[["dataset", "split", "metric", "paper"]].values.tolist() == [
        ["refscenes", "val", "oIoU", 25.95],
        ["refscenesg", "val(U)", "oIoU", 23.41],
    ]
    phrases = rows.iloc[:1].assign(table="table2", dataset="phrasescenes", split="test")
    assert tables._cited("Global-Local", phrases)["paper"].tolist() == [23.64]
    assert tables._cited("TSEG", phrases).empty
