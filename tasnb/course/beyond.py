"""Checks of the exercises of notebook 08: words of place, order, relations, soft and hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasnb.course.checking import Exercise, call
from tasnb.course.verdicts import NotDone, expect, expect_answers, is_number, items, parts
from tasnb.method import rectifier
from tasnb.method.pipeline import Pipeline
from tasnb.method.places import in_words, read
from tasnb.method.places.layout import Layout
from tasnb.method.places.priors import Weights, ahead, prior
from tasnb.profiles import RECIPES

EXPRESSIONS = (
    "second cat from the left",
    "bottom right chair",
    "the man looking left",
    "girl in a red top",
    "the dog right behind",
    "the biggest one",
)
WIDE = 0.1  # of the boxes in exercise 8.4, as a share of the image


def readings(_: Pipeline, readings: Any) -> str:
    expect_answers(readings, EXPRESSIONS, "readings")
    wrong = [
        text
        for text in EXPRESSIONS
        if set(parts(readings[text])) != set(parts(in_words(read(text))))
    ]
    expect(
        not wrong,
        f"{len(wrong)} of {len(EXPRESSIONS)} are read differently, among them "
        f"{(wrong or [''])[0]!r}. What does the word say: where the subject is, where it looks, "
        "what it wears, or how near something else is?",
    )
    return "No parse is needed for these; the neighbours of a word tell what it says."


def order(_: Pipeline, before: Any) -> str:
    cases = (
        (
            "Every mask here is likely, so count: none is left of the first, one of the second.",
            [1.0, 2.0, 3.0], [1.0, 1.0, 1.0],
        ),
        ("The masks come in any order, not from left to right.", [3.0, 1.0, 2.0], [1.0, 1.0, 1.0]),
        (
            "A mask counts by how likely it is: two masks of 0.5 to the left count as one.",
            [1.0, 2.0, 3.0], [0.5, 0.5, 1.0],
        ),
        ("A mask is not left of itself, nor of one with the same x.", [1.0, 1.0, 2.0], [1.0] * 3),
    )  # fmt: skip
    for hint, x, likely in cases:
        expect(_close(call(before, np.array(x), np.array(likely)), _ahead(x, likely)), hint)
    rng = np.random.default_rng(8)
    for _ in range(50):
        x, likely = rng.integers(0, 5, 6).astype(float), rng.random(6)
        expect(
            _close(call(before, x, likely), _ahead(x, likely)),
            f"Right on the simple cases, but not for x {x.tolist()} and likely "
            f"{likely.round(2).tolist()}.",
        )
    return "The k-th from the left is the mask with k - 1 likely masks before it."


def _ahead(x: Sequence[float], likely: Sequence[float]) -> np.ndarray:
    low = np.stack([np.asarray(x, float), np.zeros(len(x))], 1)
    return ahead("left", Layout(low, low, np.zeros(len(x))), np.asarray(likely, float))


def relation(_: Pipeline, related: Any) -> str:
    cases = (
        (
            "With a single other thing, it is the product: it has to be what the second noun says, "
            "and to stand in the relation.",
            [[0.0, 0.5], [0.5, 0.0]], [0.0, 0.8],
        ),
        (
            "A chance is at most 1: two things that are certain do not make 2.",
            [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]], [1.0, 1.0, 1.0],
        ),
        (
            "It is enough to be next to one of them, and two give a better chance than one. When "
            "is a mask next to none of them?",
            [[0.0, 0.5, 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [0.0, 1.0, 1.0],
        ),
    )  # fmt: skip
    for hint, table, chance in cases:
        arrays = np.array(table), np.array(chance)
        expect(_close(call(related, *arrays), _some(*arrays)), hint)
    rng = np.random.default_rng(8)
    for _ in range(50):
        arrays = rng.random((5, 5)), rng.random(5)
        expect(
            _close(call(related, *arrays), _some(*arrays)),
            "Right on the simple cases, but not for five masks with chances of all sizes.",
        )
    return "No second thing has to be chosen, so a wrong one cannot decide alone."


def _some(fits: np.ndarray, chance: np.ndarray) -> np.ndarray:
    return 1 - np.prod(1 - fits * chance, axis=1)


def _close(given: Any, wanted: np.ndarray) -> bool:
    values = np.asarray(given)
    numbers = values.dtype.kind in "fiu"
    expect(
        numbers and values.shape == wanted.shape,
        f"Return an array with one number per mask, of shape {wanted.shape}.",
    )
    return bool(np.allclose(values, wanted))


def scene(_: Pipeline, scene: Any) -> str:
    expect(
        isinstance(scene, Mapping) and {"x", "s"} <= scene.keys(),
        "scene should be a dictionary with x and s.",
    )
    if any(scene[name] is ... for name in "xs"):
        raise NotDone("scene is not complete yet.")
    given = [items(scene[name]) for name in "xs"]
    fits = all(len(values) > 1 and all(map(is_number, values)) for values in given)
    expect(fits, "x and s should be lists of two numbers or more.")
    x, s = (np.asarray(values, float) for values in given)
    expect(len(x) == len(s), "x and s should have one number for each mask.")
    expect(bool(((x >= 0) & (x <= 1)).all()), "x goes from 0 at the left to 1 at the right.")
    hard, soft = by_both(x, s)
    expect(
        hard != soft,
        f"Both rules choose mask {hard}. Two masks in the left half: what tells them apart for the "
        "soft prior, and not for the hard half? Compare the difference of their S with the weight.",
    )
    return f"The hard half chooses mask {hard}, the soft prior mask {soft}. Which would you?"


def by_both(x: np.ndarray, s: np.ndarray) -> tuple[int, int]:
    """The masks chosen for "the left one" by the hard half and by the soft prior.

    Args:
        x: Centres of the masks, from 0 to 1, (M,).
        s: Their scores S without place, (M,).
    """
    hard = rectifier.rectify(s, x, np.zeros(len(x)), "left")
    center = np.stack([x, np.full(len(x), 0.5)], 1)
    where = Layout(center - WIDE / 2, center + WIDE / 2, np.full(len(x), WIDE))
    weights = Weights(RECIPES["extended"]["places_weight"], 0.0, 0.0)
    added = prior(read("the left one"), where, np.ones(len(x)), {}, weights)
    return hard, int((s + added).argmax())


EXERCISES: dict[str, Exercise] = {
    "8.1": Exercise(("readings",), "Read the words of place in each expression.", readings),
    "8.2": Exercise(("before",), "Write before(x, likely), which counts softly.", order),
    "8.3": Exercise(("related",), "Write related(fits, chance).", relation),
    "8.4": Exercise(("scene",), "Construct a scene on which both rules disagree.", scene),
}
