"""Text generated from numbers: it is true for any made-up table."""

from __future__ import annotations

import pandas as pd
import pytest

from tasnb.method.scores import ScoreTable
from tasnb.results import comparison, reasons, remarks, tables
from tasnb.settings import make_settings

VIT, RN = "open_clip:embedded/clip-vit", "open_clip:embedded/clip-rn"
COLUMNS = [("refscenes", "val"), ("refscenes", "testA"), ("refscenesg", "val(U)")]


def table(values: dict[tuple[str, str], list[float]], name: str = "table1") -> pd.DataFrame:
    """(encoder, method) -> mIoU of each of the first columns."""
    found = []
    for (encoder, method), some in values.items():
        for column, value in zip(COLUMNS, some, strict=False):
            cells = pd.DataFrame({"intersection": [round(100 * value)], "union": [10_000]})
            found.append(tables.rows(name, method, encoder, *column, cells))
    return pd.concat(found, ignore_index=True)


def test_table_1_in_words() -> None:
    frame = table(
        {
            (VIT, "CLIP-only"): [30, 40, 50], (VIT, "TAS"): [35.5, 41, 48],
            (VIT, "Region Token"): [36, 30, 49], (VIT, "Global-Local"): [10, 10, 10],
            ("", "Text-only"): [31.5, 20, 20],
            (RN, "CLIP-only"): [30, 30, 30], (RN, "TAS"): [31, 32, 33],
        }
    )  # fmt: skip
    vit, rn = remarks.table1(frame).data.splitlines()
    assert vit == (
        "* With clip-vit, TAS is ahead of CLIP-only in 2 of 3 columns (mIoU). The gain ranges from "
        "-2.0 points on RefScenesg val(U) to +5.5 points on RefScenes val. Other methods ahead of "
        "TAS: Region Token in 2 of 3 columns."
    )
    assert rn == (
        "* With clip-rn, TAS is ahead of CLIP-only in all 3 columns (mIoU). The gain ranges from "
        "+1.0 points on RefScenes val to +3.0 points on RefScenesg val(U). Other methods ahead of "
        "TAS: Text-only in 1 of 3 columns."
    )


@pytest.mark.parametrize(("tas", "words"), [(41, "in the only column"), (39, "in no column")])
def test_table_1_of_one_column(tas: float, words: str) -> None:
    """No plural and no range; the encoder has no other method."""
    frame = table({(VIT, "CLIP-only"): [40], (VIT, "TAS"): [tas], (VIT, "Grad-CAM"): [1]})
    (line,) = remarks.table1(frame).data.splitlines()
    gain = f"{tas - 40:+.1f}"
    assert line == (
        f"* With clip-vit, TAS is ahead of CLIP-only {words} (mIoU). The gain is {gain} points on "
        "RefScenes val. No other method is ahead of TAS in any column."
    )


def test_extra_rows_against_tas() -> None:
    extra = table({(VIT, "Grad-CAM"): [10, 20], ("", "Text-only"): [30, 32]}, "table2_extra")
    main = table({(VIT, "TAS"): [40, 42], (VIT, "Global-Local"): [1, 1]}, "table2")
    assert remarks.against_tas(extra, main).data == (
        "Mean mIoU over the columns of this run: Text-only 31.0, Grad-CAM with clip-vit 15.0; "
        "for comparison, TAS with clip-vit 41.0."
    )
    assert remarks.against_tas(extra.iloc[:0], main).data == ""


def gains(**rows: tuple[float, float, float]) -> pd.DataFrame:
    names = ["step", "mIoU gain", "CI low", "CI high"]
    frame = pd.DataFrame([(name, *values) for name, values in rows.items()], columns=names)
    return frame.assign(encoder="clip-vit", dataset="RefScenes")


def test_modules_in_words() -> None:
    frame = pd.concat(
        [
            gains(P=(1.0, 0.5, 2.0), N=(-2.0, -3.0, -1.0)),
            gains(P=(0.0, -1.0, 1.0)),
            gains(P=(0.0, 0.0, 0.0)),
        ]
    )
    assert remarks.modules(frame).data.splitlines() == [
        "* **P** helps with clip-vit on RefScenes (+1.0 points); has no effect in 1 of 3 cases; is "
        "undecided in 1 of 3 cases.",
        "* **N** hurts with clip-vit on RefScenes (-2.0 points).",
    ]
    frame = gains(P=(0.0, -1.0, 1.0))
    assert remarks.modules(frame).data == "* **P** is undecided in the only case."


def test_what_negatives_name_in_words() -> None:
    """Parts add up to the whole: 2 of 10 sentences lose 5 points each, 6 gain half a point."""
    names = ["dataset", "lambda", "negatives name", "sentences", "gain at lambda 0.3",
             "gain at lambda 1", "CI low", "CI high"]  # fmt: skip
    target, _, nothing = reasons.NEGATIVES
    rows = [
        ("A", 1.0, reasons.EVERY, 10, 0.25, -0.7, -1.5, 0.1),
        ("A", 1.0, target, 2, -1.0, -5.0, -9.0, -1.0),
        ("A", 1.0, reasons.NEGATIVES[1], 0, float("nan"), float("nan"), float("nan"), float("nan")),
        ("A", 1.0, nothing, 6, 0.75, 0.5, -1.0, 2.0),
        ("B", 0.3, reasons.EVERY, 4, 1.0, 2.0, 0.5, 1.5),
    ]
    assert remarks.negatives(pd.DataFrame(rows, columns=names)).data.splitlines() == [
        "The gain of N is smaller with lambda = 1 than with 0.3 on 1 of 2 datasets.",
        "",
        "* A: -0.7 [-1.5, +0.1] points of mIoU with its lambda of 1 (+0.2 with 0.3). By what the "
        "negatives name (share of sentences): the target -1.0 (20 %), no annotated object +0.3 "
        "(60 %).",
        "* B: +1.0 [+0.5, +1.5] points of mIoU with its lambda of 0.3 (+2.0 with 1).",
    ]
    alone = remarks.negatives(pd.DataFrame(rows[-1:], columns=names)).data
    assert alone.startswith("* B: +1.0")


def test_which_rows_can_be_told_apart() -> None:
    frame = gains(a=(0.1, -1.0, 1.0), b=(-2.0, -3.0, -1.0), c=(float("nan"),) * 3)
    said = remarks.inputs(frame.rename(columns={"step": "inputs"})).data
    assert said == (
        "Compared with the paper's choice: b -2.0 [-3.0, -1.0] points of mIoU; undecided in 1 of 2 "
        "cases."
    )
    said = remarks.inputs(frame.iloc[:1].rename(columns={"step": "inputs"})).data
    assert said == (
        "Compared with the paper's choice: undecided in all cases, since every 95 % interval "
        "contains zero."
    )


def test_recipes_in_words() -> None:
    names = ["recipe", "gain", "low", "high"]
    rows = [
        ("published", 0, 0, 0), ("one", 2, 1, 3), ("two", -0.04, -1, 1), ("all", 1.5, 0.5, 2.5)
    ]  # fmt: skip
    assert remarks.recipes(pd.DataFrame(rows, columns=names)).data == (
        "Individual differences: one +2.0 [+1.0, +3.0] points of mIoU; undecided in 1 of 2 cases. "
        "The individual effects add up to +2.0 points; all differences together change the result "
        "by +1.5 [+0.5, +2.5] points."
    )


def test_refinement_in_words() -> None:
    said = remarks.refinement(make_settings(), 240, 320).data
    assert "predicted IoU of at least 0.4" in said and "320 × 240 pixels" in said
    assert "holes smaller than 200 pixels are filled" in said
    assert "masks smaller than 500 pixels" in said
    assert "more than 90 % is covered by" in said
    said = remarks.refinement(make_settings(recipe="released", pred_iou_thresh=0.5), 240, 320).data
    assert "predicted IoU of at least 0.5" in said
    assert "holes smaller than 800 pixels are filled" in said
    assert "masks smaller than 2,000 pixels" in said and "more than 40 % is covered" in said


def test_networks_in_words() -> None:
    names = ["network", "proposals", "masks per image", "best IoU (%)", "IoU ≥ 0.5 (%)"]
    rows = [("SAM", "all", 12.0, 78.04, 90.0), ("SAM", "refined", 5.25, 70.46, 80.0)]
    assert remarks.networks(pd.DataFrame(rows, columns=names)).data == (
        "* SAM: 12.0 masks per image, the best of which has an IoU of 78.0 % on average; after the "
        "refinement, 5.2 masks and 70.5 % (-7.5 points)."
    )


def test_spread_of_the_terms() -> None:
    """Medians over two sentences of the largest less the smallest value."""
    pairs = pd.DataFrame(
        {"sentence": [0, 0, 1, 1], "V": [0.1, 0.3, 0.0, 0.4], "P": [0.0, 1.0, 0.5, 0.5],
         "N": [-0.2, -0.1, -0.4, -0.3]}
    )  # fmt: skip
    scored = ScoreTable(pd.DataFrame({"truth_area": [1, 1]}), pairs)
    said = remarks.spread(scored, 0.1, 0.7).data
    assert "0.300 for V, 0.050 for 0.1 P and 0.070 for 0.7 N." in said


def test_claims_that_a_run_says_nothing_about() -> None:
    assert comparison.left_out(make_settings()) == []
    assert "all the columns" in remarks.claims(make_settings()).data
    assert remarks.claims(make_settings(splits=["testA"])).data.splitlines() == [
        "* Not tested: Table 5, because this run does not include RefScenes val.",
        "* Not tested: Tables 6 and 7, because this run does not include RefScenesg val(U).",
    ]
    (first, *_) = comparison.left_out(make_settings(datasets=["phrasescenes"]))
    assert first == "Tables 1, 3 and 4, because this run has none of the columns of Table 1"
    (first, *_) = comparison.left_out(make_settings(datasets=["refscenes+"]))
    assert first == ("the rectifier (Table 4), because no expression of this run may name a place")


def test_what_stands_for_the_papers_columns() -> None:
    said = remarks.measured_on(make_settings("paper")).data
    assert "Tables 3 to 5 use RefCOCO val with ViT-B-32-openai;" in said
    assert "Tables 6 and 7 use RefCOCO+ testA and RefCOCOg val(U)." in said


def test_captions_in_words() -> None:
    same = pd.DataFrame({"image": "a", "mask_id": [0, 1], "A": ["x", "y"], "B": ["x", "z"]})
    assert remarks.captions(same).data == "A and B give the same caption for 50 % of the masks."
    assert "only one captioner" in remarks.captions(same.drop(columns="B")).data


def test_speed_in_words() -> None:
    frame = pd.DataFrame(
        {"method": ["CLIP-only", "TAS"], "seconds per image": [0.5, 1.25],
         "seconds (paper)": [1.88, 3.63]}
    )  # fmt: skip
    said = "TAS takes 2.5 times as long as CLIP-only (paper: 1.9 times)."
    assert remarks.speed(frame).data == said


def test_words_of_place_in_words() -> None:
    names = ["words of place", "share (%)", remarks.READ]
    rows = [("one side", 30, 100), ("a size", 12, 10), ("a count", 0, float("nan")),
            ("none of these", 60, 0)]  # fmt: skip
    assert remarks.spoken(pd.DataFrame(rows, columns=names)).data == (
        "In this run, 40 % of the sentences have words of these kinds. The paper's rule reads a "
        "side in fewer than half of those with: a size (10 %)."
    )
    rows[1] = ("a size", 12, 80)
    assert remarks.spoken(pd.DataFrame(rows, columns=names)).data.endswith(
        "The paper's rule reads a side in most of those with each kind."
    )


def test_the_worth_of_choices_in_words() -> None:
    parts = ["", " low", " high", " mIoU"]
    names = ["choice", *(f"{name}{part}" for name in ("first", "last") for part in parts)]
    rows = [
        ("extended", 5, 4, 6, 45, 5, 4, 6, 45),
        ("a", 3, 2, 4, 43, 1, -1, 2, 45),
        ("b", -1, -2, 0.5, 39, -2, -3, -1, 45),
    ]
    assert remarks.extended(pd.DataFrame(rows, columns=names)).data.splitlines() == [
        "All choices of `extended` together: +5.0 [+4.0, +6.0] points of mIoU over `published`, "
        "which has 40.0 %.",
        "",
        "* Added to `published`: a +3.0 [+2.0, +4.0] points of mIoU; undecided in 1 of 2 cases.",
        "* Added to all the others: b -2.0 [-3.0, -1.0] points of mIoU; undecided in 1 of 2 cases.",
    ]
