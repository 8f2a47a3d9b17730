"""The main result in a sentence, made from a run's tables."""

from __future__ import annotations

import pandas as pd
import pytest

from tasnb.method.metrics import Difference
from tasnb.results.comparison import _points
from tasnb.workbook.headline import Gain, gains, headline, numbers, verdicts


@pytest.fixture
def out(tmp_path):
    (tmp_path / "tables").mkdir()
    return tmp_path


def claims(out, **found: tuple[Difference, str]) -> None:
    rows = [
        (f"TAS beats CLIP-only with {name} (Table 1)", f"{_points(gain)}, {columns}", gain.verdict)
        for name, (gain, columns) in found.items()
    ]
    rows.append(("P helps (Table 4)", "+0.1 [-1.0, +1.0] points of mIoU", "undecided"))
    frame = pd.DataFrame(rows, columns=["the paper says", "measured here", "verdict"])
    frame.to_csv(out / "tables/claims.csv", index=False)


def test_a_gain_of_each_encoder(out):
    claims(
        out,
        rn=(Difference(3.91, 2.12, 5.5, 0.01), "ahead in 8 of 9 columns"),
        vit=(Difference(-1.26, -2.2, -0.4, 0.01), "ahead in 2 of 9 columns"),
        albef=(Difference(0.5, -0.7, 1.9, 0.4), "ahead in 5 of 9 columns"),
    )
    assert gains(out)[0] == Gain("rn", 3.9, 2.1, 5.5, 8, 9)
    assert headline(out) == (
        "With rn, TAS is 3.9 points of mIoU ahead of CLIP-only (95 % confidence interval "
        "2.1 to 5.5), with TAS ahead in 8 of 9 columns; "
        "with vit, TAS is 1.3 points of mIoU behind CLIP-only (95 % confidence interval "
        "-2.2 to -0.4), with TAS ahead in 2 of 9 columns; "
        "with albef, TAS and CLIP-only do not differ significantly (+0.5 points of mIoU, "
        "95 % confidence interval -0.7 to 1.9), with TAS ahead in 5 of 9 columns."
    )


def test_without_claims_columns_are_counted(out):
    names = ["method", "encoder", "metric", "CI low", "CI high"]
    rows = [
        ("CLIP-only", "vit", "mIoU", 0.5, 3), ("CLIP-only", "vit", "mIoU", -0.5, 3),
        ("CLIP-only", "vit", "oIoU", 0.5, 3), ("TAS", "vit", "mIoU", None, None),
        ("CLIP-only", "vit", "mIoU", -3, -0.5), ("CLIP-only", "vit", "mIoU", 2, 3),
    ]  # fmt: skip
    pd.DataFrame(rows, columns=names).to_csv(out / "tables/intervals.csv", index=False)
    assert headline(out) == (
        "With vit, TAS is ahead of CLIP-only in 2 of 4 columns and behind in 1; the rest are "
        "undecided (95 % confidence intervals of mIoU)."
    )


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n"])
def test_a_run_without_those_tables(out, content):
    if content is not None:
        for name in ("claims", "intervals", "table1"):
            (out / f"tables/{name}.csv").write_text(content)
    assert headline(out) == "" and numbers(out) == []


def test_numbers_are_means_over_columns(out):
    names = ["method", "encoder", "split", "metric", "value", "n"]
    rows = [
        ("TAS", "vit", "val", "mIoU", 40, 1000), ("TAS", "vit", "test", "mIoU", 50, 500),
        ("CLIP-only", "vit", "val", "mIoU", 30, 1000), ("TAS", "vit", "val", "oIoU", 9, 1000),
        ("CLIP-only", "vit", "test", "mIoU", 41, 500), ("Maps", "vit", "val", "mIoU", 60, 1000),
        ("Maps", "vit", "test", "mIoU", 61, 500), ("TSEG", None, "val", "mIoU", None, 0),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=names).assign(dataset="d")
    frame.to_csv(out / "tables/table1.csv", index=False)
    first = ("45.0 %", "mean mIoU of TAS with vit; CLIP-only: 35.5, best other method (Maps): 60.5")
    last = ("1,500", "sentences in 2 columns of Table 1")
    assert numbers(out) == [first, last] and verdicts(out) == {}
    claims(out, vit=(Difference(-1.26, -2.2, 0.4, 0.01), "ahead in 2 of 9 columns"))
    gain = (
        "points of mIoU over CLIP-only with vit, all sentences together; 95 % confidence interval "
    )
    assert numbers(out) == [
        first,
        ("-1.3", f"{gain}-2.2 to +0.4"),
        ("0 · 0 · 2", "of 2 claims of the paper: held, not held, undecided"),
        last,
    ]
    assert verdicts(out) == {"held": 0, "not held": 0, "undecided": 2}
