"""ReCLIP's relations: what is read from expressions, and their execution against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco_mask

from tasnb import Pipeline
from tasnb.baselines import relations, scoring
from tasnb.baselines.relations import Entity, Places
from tasnb.method.proposals import decode
from tasnb.models.encoders import load_encoder
from tasnb.models.parsers import load_parser
from tasnb.settings import make_settings

VIT = "open_clip:embedded/clip-vit"
CAT = Entity("the cat")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog", None),
        ("dog with a hat", None),  # no keyword
        ("far right", None),  # no noun chunk
        ("dog left of the cat", Entity("dog", (("left", CAT),))),
        ("The dog to the right of the cat", Entity("the dog", (("right", CAT),))),
        ("cup in front of the cat", Entity("cup", (("below", CAT),))),
        ("a cup behind the cat", Entity("a cup", (("above", CAT),))),
        ("the box inside the basket", Entity("the box", (("within", Entity("the basket")),))),
        ("leftmost dog", Entity("leftmost dog", (), ("left",))),
        ("the man on the left", Entity("the man", (), ("left",))),
        ("biggest red mug", Entity("biggest red mug", (), ("bigger",))),
        ("closer car", Entity("closer car", (), ("bigger",))),
        (
            "smallest dog above the cat",
            Entity("smallest dog", (("above", CAT),), ("smaller",)),
        ),
        (
            "cup left of the dog above the cat",
            Entity("cup", (("left", Entity("the dog", (("above", CAT),))),)),
        ),
        ("left man with a hat", Entity("left man with a hat", (), ("left",))),
    ],
)
def test_what_is_read(text: str, expected: Entity | None) -> None:
    frame = relations.read_entities([text], load_parser(make_settings().spacy_model))
    assert frame["key"].tolist() == [text]
    assert relations.from_json(frame["entity"][0]) == expected


# --- Execution ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 20, 30), bool)
    for mask in masks:
        top, left = rng.integers(0, (12, 20))
        mask[top : top + rng.integers(2, 9), left : left + rng.integers(2, 11)] = True
    return masks


@pytest.fixture(scope="module")
def places(masks: np.ndarray) -> Places:
    rows, columns = zip(*(np.nonzero(mask) for mask in masks), strict=True)
    encoded = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    x, y = (np.array([along.mean() for along in axis]) for axis in (columns, rows))
    return Places(x, y, masks.sum((1, 2)).astype(float), encoded)


def literal(name: str, one: np.ndarray, other: np.ndarray) -> float:
    (y, x), (v, u) = (np.argwhere(mask).mean(0) for mask in (one, other))
    return {
        "left": x < u, "right": x > u, "above": y < v, "below": y > v,
        "bigger": one.sum() > other.sum(), "smaller": one.sum() < other.sum(),
        "within": (one & other).sum() / one.sum(),
    }[name]  # fmt: skip


@pytest.mark.parametrize("name", relations.RELATIONS)
def test_comparisons(name: str, masks: np.ndarray, places: Places) -> None:
    expected = [[literal(name, one, other) for other in masks] for one in masks]
    np.testing.assert_allclose(places.compare(name), np.array(expected, float))


def literally_executed(entity: Entity, likely: dict, masks: np.ndarray) -> list[float]:
    """Every p_i times sum_j R_ij q_j, then times sum_j S_ij p_j, summing to 1 after each step."""
    p = list(likely[entity.text])
    for name, other in entity.relations:
        q = literally_executed(other, likely, masks)
        p = [
            p[i] * sum(literal(name, masks[i], masks[j]) * q[j] for j in range(len(q)))
            for i in range(len(p))
        ]
        p = [one / sum(p) for one in p]
    for name in entity.superlatives:
        p = [
            sum(p[i] * p[j] * literal(name, masks[i], masks[j]) for j in range(len(p)))
            for i in range(len(p))
        ]
        p = [one / sum(p) for one in p]
    return p


def test_execution_against_loops(masks: np.ndarray, places: Places) -> None:
    dog = Entity("dog", (("above", CAT),))
    entity = Entity("cup", (("left", dog), ("within", Entity("box"))), ("smaller", "right"))
    rng = np.random.default_rng(1)
    likely = {text: rng.dirichlet(np.ones(6)) for text in entity.texts()}
    assert set(likely) == {"cup", "dog", "the cat", "box"}
    found = relations.execute(entity, likely.__getitem__, places.compare)
    np.testing.assert_allclose(found, literally_executed(entity, likely, masks))
    assert found.sum() == pytest.approx(1)


def test_a_relation_that_holds_for_no_mask_is_ignored(places: Places) -> None:
    """Of a single mask, or where nothing is left of the only likely one."""
    likely = {"dog": np.array([0.3, 0.7]), "the cat": np.array([1.0, 0.0])}
    two = Places(np.array([1.0, 2.0]), np.ones(2), np.ones(2), [])
    for entity in (Entity("dog", (("left", CAT),)), Entity("dog", (), ("above",))):
        found = relations.execute(entity, likely.__getitem__, two.compare)
        np.testing.assert_allclose(found, likely["dog"])


# --- Scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_input", ["crop", "both"])
def test_scores_sentence_by_sentence(shared_store: Path, tmp_path: Path, clip_input: str) -> None:
    changes = {"limit": 2, "store": str(shared_store), "out": str(tmp_path)}
    pipeline = Pipeline(make_settings(clip_input=clip_input, **changes))
    split = pipeline.split("refscenes", "val")
    table = pipeline.scored("refscenes", "val", VIT)
    scores = scoring.scores(pipeline, "ReCLIP relations", split, VIT, table)
    loaded = load_encoder(VIT, pipeline.settings)
    scale = float(loaded.model.logit_scale.detach().exp())
    crops_of, crops = pipeline.mask_embeddings(split.images, VIT, "crop")
    if clip_input == "both":
        crops = (crops + pipeline.mask_embeddings(split.images, VIT, "blur")[1]) / 2
    read = relations.read_entities(
        table.sentences["sentence"].tolist(), load_parser(pipeline.settings.spacy_model)
    )
    kinds = set()
    for sentence, mine in table.pairs.groupby("sentence"):
        image, text = table.sentences.loc[sentence, ["image", "sentence"]]
        refined = pipeline.refined({image: split.images[image]})
        assert mine["mask_id"].tolist() == refined["mask_id"].tolist()
        entity = relations.from_json(read["entity"][sentence])
        texts = [text, *(entity.texts() if entity else [])]
        vectors = loaded.encode_texts(texts)
        logits = scale * vectors @ crops[(crops_of["image"] == image).to_numpy()].T
        likely = dict(
            zip(texts, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), strict=True)
        )
        expected = np.array(likely[text])
        if entity is not None:
            kinds |= {bool(entity.relations), bool(entity.superlatives)}
            expected = expected * literally_executed(entity, likely, decode(refined))
        np.testing.assert_allclose(scores[mine.index], expected, rtol=2e-3, atol=1e-9)
    assert kinds == {True, False}
    assert pd.Series(scores).between(0, 1).all()
