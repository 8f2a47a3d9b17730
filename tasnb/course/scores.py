"""Checks of the exercises of notebook 03: V, P, N and their sum."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from tasnb.course.checking import Exercise, call, call_number, expect_same
from tasnb.course.verdicts import expect, is_whole
from tasnb.datasets.splits import columns
from tasnb.method import scores
from tasnb.method.pipeline import Pipeline

GOOD = 0.5  # IoU from which a choice counts as right


def total(pipeline: Pipeline, total: Any) -> str:
    settings = pipeline.settings
    column = columns(settings)[0]
    pairs = pipeline.scored(*column, settings.encoders[-1]).pairs.head(500)
    v, p, n = (pairs[name].to_numpy() for name in "VPN")
    for alpha, lam, hint in (
        (0.0, 0.0, "With both weights 0, the sum should be V alone."),
        (1.0, 0.0, "With lambda = 0, the sum should be V plus alpha times P."),
        (0.0, 1.0, "The N of the table is negative already: does it lower the sum?"),
        (settings.alpha, settings.lambda_of(column[0]), "Does each weight go with its own score?"),
    ):
        got = np.asarray(call(total, v, p, n, alpha, lam))
        expect(got.shape == v.shape, "Return one value per mask.")
        expect(np.allclose(got, scores.total_score(v, p, n, alpha, lam)), hint)
    return "Equation 5. Everything else in this notebook is about what goes into it."


def negative(_: Pipeline, n_score: Any) -> str:
    rng = np.random.default_rng(1)
    crop, phrases = rng.normal(size=8), rng.normal(size=(5, 8))
    crop /= np.linalg.norm(crop)
    phrases /= np.linalg.norm(phrases, axis=1, keepdims=True)

    def truth(some: Any) -> float:
        return float(scores.n_score(crop[None], some, np.ones((1, len(some)), int))[0, 0])

    one = call_number(n_score, crop, phrases[:1])
    expect(
        not np.isclose(one, -truth(phrases[:1])),
        "The score punishes a mask that looks like a negative, so a similar one should get less.",
    )
    expect(np.isclose(one, truth(phrases[:1])), "Wrong even for one phrase. What is its cosine?")
    expect(
        np.isclose(call_number(n_score, crop, phrases), truth(phrases)),
        "Right for one phrase but not for several. A picture with many phrases should not be "
        "punished more than one with few.",
    )
    empty = call_number(n_score, crop, phrases[:0])
    expect(np.isclose(empty, 0), "If no phrase is left, no mask should be punished: return 0.")
    return "Equation 4, and the case that it leaves open."


def pick(pipeline: Pipeline, mended: Any, spoilt: Any) -> str:
    right = _right(pipeline)
    wanted = {
        "mended": ~right["V"] & right["S"],
        "spoilt": right["V"] & ~right["S"],
    }
    for (name, those), given in zip(wanted.items(), (mended, spoilt), strict=True):
        if not those.any():
            continue  # this run has none
        expect(
            is_whole(given) and 0 <= given < len(those),
            f"{name} should be the number of a sentence, from 0 to {len(those) - 1}.",
        )
        v, s = ("right" if right[k][given] else "wrong" for k in "VS")
        expect(bool(those[given]), f"For {name} = {given}, V alone is {v} and S is {s}.")
    return "Look at both in the explorer: which term tips the balance?"


def _right(pipeline: Pipeline) -> dict[str, np.ndarray]:
    """Whether V alone and S, without the rectifier, are right on each sentence."""
    settings = pipeline.settings
    dataset, split = columns(settings)[0]
    scored = pipeline.scored(dataset, split, settings.encoders[-1])
    total = scored.total(settings.alpha, settings.lambda_of(dataset))
    by = {"V": scored.pairs["V"].to_numpy(), "S": total}
    return {
        name: (scored.outcome(scored.choose(score, False))["iou"] >= GOOD).to_numpy()
        for name, score in by.items()
    }


PHRASES = (
    ("dog house", "house", "A phrase names the subject if any of its nouns does."),
    ("dog house", "dog", "A phrase names the subject if any of its nouns does."),
    ("woman", "man", "A word may contain another one."),
    ("man", "woman", "A word may contain another one."),
    ("cat", "dog", "A phrase about another object is a negative."),
)


def is_negative(pipeline: Pipeline, is_negative: Any) -> str:
    def phrases_and_subjects() -> Iterator[tuple[str, str]]:
        split = pipeline.split(*columns(pipeline.settings)[0])
        overall = pipeline.image_captions(split.images)
        found = {p.nouns for some in pipeline.noun_phrases(overall).values() for p in some}
        heads = sorted({word for nouns in found for word in nouns.split()})[:30]
        yield from product(sorted(found)[:60], heads)

    def truth(nouns: str, subject: str) -> bool:
        return subject not in nouns.split()

    expect_same(is_negative, truth, PHRASES, phrases_and_subjects())
    return "What is still missing are synonyms: section 3.3 asks WordNet."


EXERCISES: dict[str, Exercise] = {
    "3.1": Exercise(("total",), "Write a function total(v, p, n, alpha, lam).", total),
    "3.2": Exercise(("n_score",), "Write a function n_score(crop, phrases), Eq. 4.", negative),
    "3.3": Exercise(
        ("mended", "spoilt"), "Find a sentence that S mends and one that it spoils.", pick
    ),
    "3.4": Exercise(("is_negative",), "Mend is_negative(nouns, subject).", is_negative),
}
