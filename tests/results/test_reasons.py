"""Why P and N help or do not, on made-up scores."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tasnb.datasets.splits import Split
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.results import reasons, remarks
from tasnb.settings import make_settings

COLUMN = ("refscenesg", "val(U)")
ENCODER = "open_clip:embedded/clip-vit"
MAN, COW, DOG = ("man", "guy"), ("cow",), ("dog", "puppy")


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """Four sentences on an image each, with two masks, of which the first is the target."""
    settings = make_settings(
        datasets=[COLUMN[0]], splits=[COLUMN[1]], encoders=[ENCODER], out=tmp_path
    )
    run = Pipeline(settings)
    sentences = pd.DataFrame(
        {
            "image": list("abcd"),
            "truth_area": 100,
            "names": [MAN, COW, COW, COW],
            "negatives": [["a puppy", "two guys"], ["a puppy"], ["a ninja"], []],
            "own_negative": [True, False, False, False],
        }
    )
    pairs = pd.DataFrame(
        {
            "sentence": [0, 0, 1, 1, 2, 2, 3, 3],
            "mask_id": [0, 1] * 4,
            "V": [0.5, 0.3, 0.3, 0.4, 0.5, 0.4, 0.1, 0.2],
            "P": 0.0,
            "N": [-0.5, -0.2, -0.1, -0.5, -0.5, -0.35, 0.0, 0.0],
            "in_region": True,
            "intersection": [100, 0] * 4,
            "area": 100,
            "caption": ["a guy", "a cow", "a bull", "a cow", "two cows", "a man", "a dog", "a dog"],
        }
    )
    things = {"a": [MAN, DOG], "b": [COW, DOG], "c": [COW, DOG], "d": [COW, DOG]}
    run._splits[COLUMN] = Split(*COLUMN, sentences, {}, things=things)
    run._scored[(*COLUMN, ENCODER, "blur", "crop")] = ScoreTable(sentences, pairs)
    return run


def test_what_the_negatives_name(pipeline: Pipeline) -> None:
    """With 0.3, N mends the second sentence; with more, it also spoils the first and the third."""
    found = reasons.negatives(pipeline, ENCODER).set_index("negatives name")
    assert found.index.tolist() == [reasons.EVERY, *reasons.NEGATIVES]
    assert set(found["dataset"]) == {"RefScenesg"} and set(found["lambda"]) == {1.0}
    assert found["sentences"].tolist() == [4, 1, 1, 1]  # the fourth has no negatives
    assert found["gain at lambda 0.3"].tolist() == [25, 0, 100, 0]
    assert found["gain at lambda 0.7"].tolist() == [-25, -100, 100, -100]
    assert found["gain at lambda 1"].tolist() == [-25, -100, 100, -100]
    low, high = found.loc[reasons.EVERY, ["CI low", "CI high"]]
    assert low < -25 < high
    assert found.loc["the target", ["CI low", "CI high"]].tolist() == [-100, -100]


def test_the_runs_own_lambda_is_among_the_weights(pipeline: Pipeline) -> None:
    pipeline.settings = pipeline.settings.model_copy(update={"lam_g": 0.0})
    found = reasons.negatives(pipeline, ENCODER)
    assert (found["gain at lambda 0"] == 0).all() and (found["CI high"] == 0).all()
    pipeline.settings = pipeline.settings.model_copy(update={"lam_g": 0.287654321})
    found = reasons.negatives(pipeline, ENCODER)
    assert found["gain at lambda 0.287654"].tolist() == [25, 0, 100, 0]
    assert "with its lambda of 0.287654 (" in remarks.negatives(found).data


def test_where_captions_name_the_target(pipeline: Pipeline) -> None:
    """Also by a synonym or a kind of it ("a bull" is none), and in the plural."""
    found = reasons.why(pipeline, ENCODER, *COLUMN)
    assert found["sentences"].tolist() == [2, 2, 1, 3]  # "a guy" and "two cows"
    assert found["mIoU gain"].tolist() == pytest.approx([0, 0, -100, 0])
