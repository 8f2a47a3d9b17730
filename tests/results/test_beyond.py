"""Words of place counted, both recipes side by side, and the pictures of notebook 08."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from quick import ENCODER, pipeline

from tasnb import Pipeline
from tasnb.baselines import scoring
from tasnb.datasets.splits import Split
from tasnb.drawing import places as drawn
from tasnb.method.metrics import evaluate
from tasnb.models.encoders import load_encoder
from tasnb.results import ablations, beyond, tables
from tasnb.settings import make_settings

COLUMN = ("refscenes", "val")


@pytest.fixture(scope="module")
def run(shared_store: Path) -> Pipeline:
    return pipeline(shared_store)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the lamp", ["none of these"]),
        ("left lamp", ["one side"]),
        ("lamp on the bottom left", ["a corner"]),
        ("leftmost lamp", ["the far end"]),
        ("lamp far right", ["the far end"]),
        ("uppermost lamp", ["the far end"]),
        ("upper lamp", ["one side"]),
        ("lamp in the middle", ["the middle"]),
        ("closest lamp", ["front or back"]),
        ("lamp in the background", ["front or back"]),
        ("third lamp from the left", ["a count"]),
        ("smallest lamp on the right", ["one side", "a size"]),
        ("the lamp next to a chair", ["a second object"]),
        ("the lamp left of the chair", ["a second object"]),  # the side is that of the chair
        ("the right lamp behind the chair", ["one side", "a second object"]),
        ("man in a red top", ["none of these"]),
        ("woman looking left", ["none of these"]),
    ],
)
def test_kinds_of_words(text: str, expected: list[str]) -> None:
    assert beyond.kinds_of(text) == expected


def test_one_column_per_dataset() -> None:
    settings = make_settings()
    assert beyond.studied(settings) == [
        ("refscenes", "val"), ("refscenes+", "val"), ("refscenesg", "val(U)"),
    ]  # fmt: skip
    some = make_settings(datasets=["refscenesg", "refscenes"], splits=["test(G)", "testB"])
    assert beyond.studied(some) == [("refscenesg", "test(G)"), ("refscenes", "testB")]
    assert beyond.studied(make_settings(datasets=["phrasescenes"])) == [("phrasescenes", "test")]


@pytest.mark.slow
def test_words_are_counted(shared_store: Path) -> None:
    both = pipeline(shared_store, datasets=["refscenes", "refscenes+"], limit=2)
    found = beyond.spoken(both).set_index("words of place")
    assert tuple(found.index) == beyond.KINDS
    texts = {
        d: both.split(d, "val").sentences["sentence"].tolist() for d in ("refscenes", "refscenes+")
    }
    every = [text for some in texts.values() for text in some]
    for kind, row in found.iterrows():
        mine = [text for text in every if kind in beyond.kinds_of(text)]
        assert row["sentences"] == len(mine)
        assert row["share (%)"] == pytest.approx(100 * len(mine) / len(every))
        assert (row["example"] in mine) if mine else row["example"] == ""
        plus = [text for text in texts["refscenes+"] if kind in beyond.kinds_of(text)]
        assert row["RefScenes+"] == pytest.approx(100 * len(plus) / len(texts["refscenes+"]))
        read = both.expressions(every)["orientation"]
        seen = [read[text] != "" for text in mine]
        assert row[beyond.READ] == pytest.approx(100 * np.mean(seen)) if mine else True
    assert found.loc["one side", beyond.READ] == 100
    plt.close(drawn.spoken(found.reset_index()))


def test_both_recipes_by_kind() -> None:
    frame = pd.DataFrame(
        {"image": ["a", "a", "b"], "kinds": [["one side"], ["one side", "a size"], ["a size"]],
         "published intersection": [1, 2, 3], "published union": [10, 10, 10],
         "extended intersection": [5, 2, 1], "extended union": [10, 10, 10]}
    )  # fmt: skip
    for recipe in beyond.RECIPES:
        frame[f"{recipe} IoU"] = frame[f"{recipe} intersection"] / 10
    found = beyond.by_kind(frame).set_index("words of place")
    assert list(found.index) == ["one side", "a size", "all"]
    assert found["sentences"].tolist() == [2, 2, 3]
    assert found["mIoU gain"].tolist() == pytest.approx([20, -10, 20 / 3])
    assert found.loc["all", ["published", "extended"]].tolist() == pytest.approx([20, 80 / 3])
    assert found["better (%)"].tolist() == pytest.approx([50, 0, 100 / 3])
    assert found["worse (%)"].tolist() == pytest.approx([0, 50, 100 / 3])
    assert (found["CI low"] <= found["mIoU gain"]).all()


def with_things(things: dict[str, list[str]], targets: list[tuple[str, str]]) -> Pipeline:
    """A pipeline whose only column has these images: what is in each, and (image, target)."""
    run = Pipeline(make_settings())
    sentences = pd.DataFrame(targets, columns=["image", "target"])
    sentences["ref_id"] = range(len(sentences))
    named = {image: [(name, "thing") for name in names] for image, names in things.items()}
    run._splits[COLUMN] = Split(*COLUMN, sentences, {}, things=named)
    return run


def test_the_image_with_most_things_of_one_name() -> None:
    targets = [("a", "cat"), ("b", "dog"), ("c", "cat")]
    things = {"a": ["cat"] * 5, "b": ["dog", "dog", "cat"], "c": ["cow", "cat", "cat", "cat"]}
    assert beyond.crowded(with_things(things, targets), COLUMN) == ("c", "cat", "cow")
    only = {"a": ["cat"] * 5, "b": ["dog"]}
    assert beyond.crowded(with_things(only, targets[:2]), COLUMN) == ("a", "cat", "cat")
    assert beyond.crowded(with_things({}, [("a", "cat"), ("a", "cow")]), COLUMN)[1:] == (
        "cat",
        "cow",
    )


@pytest.mark.slow
def test_each_sentence_by_both_recipes(run: Pipeline) -> None:
    found = beyond.compared(run, ENCODER, [COLUMN])
    assert found["sentence"].tolist() == run.split(*COLUMN).sentences["sentence"].tolist()
    for recipe in beyond.RECIPES:
        outcome = tables.outcome(run.in_recipe(recipe), "TAS", ENCODER, *COLUMN)
        assert found[f"{recipe} IoU"].tolist() == outcome["iou"].tolist()
        assert found[f"{recipe} mask"].tolist() == outcome["mask_id"].tolist()
    assert (found["published mask"] != found["extended mask"]).any()


@pytest.mark.slow
def test_one_choice_alone(run: Pipeline) -> None:
    choice = "subject embedded as a prompt as well"
    found = beyond.alone(run, ENCODER, COLUMN, choice)
    table = ablations.extended(run, ENCODER, [COLUMN]).set_index("choice")
    assert 100 * found["gain"].mean() == pytest.approx(table.loc[choice, "first"])
    assert all(one >= other for one, other in pairwise(found["gain"]))
    shown = beyond.subjects(run, found, 3)
    prompts = shown["subject, as a prompt"]
    assert len(shown) and prompts.map(lambda text: text.startswith("a photo of a ")).all()
    assert ((shown["IoU with"] - shown["IoU without"]).abs() > 0.1).all()


@pytest.mark.slow
def test_both_views_of_every_mask(run: Pipeline) -> None:
    row = beyond.compared(run, ENCODER, [COLUMN]).iloc[0]
    crops, blurs, *said = beyond.views(run, ENCODER, row)
    encoder = load_encoder(ENCODER, run.settings)
    text = encoder.encode_texts([row["sentence"]])[0]
    for pictures, labels in zip((crops, blurs), said, strict=True):
        v = encoder.encode_images(pictures) @ text
        assert [float(label.split()[1]) for label in labels] == pytest.approx(list(v), abs=6e-4)
        assert [label.endswith("(best)") for label in labels].index(True) == v.argmax()


@pytest.mark.slow
def test_the_prior_over_an_image(run: Pipeline) -> None:
    """Left in the map where it says left; the choices are those of ``extended``."""
    split = run.split(*COLUMN)
    row = split.sentences.iloc[0]
    asked = [row["sentence"], "thing on the left", "thing", "second thing from the right"]
    found = beyond.placed(run, ENCODER, COLUMN, row["image"], asked)
    scored = run.in_recipe("extended").scored(*COLUMN, ENCODER)
    lam = run.in_recipe("extended").settings.lam
    chosen = scored.choose(scored.total(0.1, lam), rectify=True)[0]
    assert found[0].after == chosen - scored.pairs.index[scored.pairs["sentence"] == 0][0]
    left, plain, counted = found[1:]
    half = left.prior.shape[1] // 2  # farther left than the first likely mask, there is no gain
    assert (np.diff(left.prior[:, half:], axis=1) < 0).all() and left.reading == "left"
    assert left.prior[:, :half].min() > left.prior[:, half:].max()
    assert np.ptp(plain.prior) == pytest.approx(0)
    areas = plain.masks.sum((1, 2))  # without a place, only the size of a mask matters
    assert areas[plain.after] >= areas[plain.before]
    assert np.ptp(counted.prior, axis=0).max() == pytest.approx(0)
    assert plain.likely.max() == 1 and plain.centers.shape == (len(plain.masks), 2)
    plt.close(drawn.priors(found))


def test_no_heat_map_of_an_encoder_without_a_tower(
    run: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = pd.DataFrame({"image": ["a", "b"], "intersection": [1, 2], "union": [2, 2]})
    monkeypatch.setattr(ablations, "outcome", lambda *_: outcome)
    monkeypatch.setattr(scoring, "methods_of", lambda *_: ())
    found = ablations.extended(run, "albef:embedded/albef", [COLUMN])
    assert list(found["choice"]) == [
        "extended", *ablations.CHOICES, "N from the captions of the other masks"
    ]  # fmt: skip
    assert evaluate([1, 2], [2, 2])["mIoU"] == found["last mIoU"].iloc[0]
    plt.close(drawn.choices(found))
