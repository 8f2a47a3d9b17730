"""Analyses beyond the paper's tables, on made-up scores."""

from __future__ import annotations

import pandas as pd

from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.results import analysis
from tasnb.settings import make_settings


def test_own_negatives_are_pointed_out_once_per_image() -> None:
    """A name is a whole word, in the singular or plural, and any of the target's names counts."""
    princess = ("princess", "woman")
    sentences = pd.DataFrame(
        {
            "sentence": ["left princess", "right princess", "a cow", "the guy"],
            "image": ["a", "a", "b", "c"],
            "head": ["princess", "princess", "cow", "guy"],
            "target": ["princess", "princess", "cow", "man"],
            "names": [princess, princess, ("cow",), ("man", "guy")],
            "caption": ["a bear and two women"] * 2 + ["a man"] * 2,
            "negatives": [["a bear", "two women"]] * 2 + [["a man"], ["a man", "a woman"]],
            "own_negative": [True, True, False, True],
            "truth_area": 100,
        }
    )
    scored = ScoreTable(sentences, pd.DataFrame({"sentence": [0, 1, 2, 3]}))
    found = analysis.own_negatives(Pipeline(make_settings()), scored)
    assert found["sentence"].tolist() == ["left princess", "the guy"]
    assert found["naming the target"].tolist() == [["two women"], ["a man"]]
