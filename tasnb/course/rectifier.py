"""Checks of the exercises of notebook 04: location words and the median cross."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tasnb.course.checking import Exercise, call
from tasnb.course.verdicts import (
    NotDone,
    expect,
    expect_answers,
    is_number,
    is_whole,
    items,
    parts,
)
from tasnb.datasets.splits import columns
from tasnb.method import language, rectifier
from tasnb.method.pipeline import Pipeline
from tasnb.models import parsers

EXPRESSIONS = (
    "the left cat",
    "the cat left of the dog",
    "the dog that left",
    "bottom right chair",
    "girl in a red top",
)
PLACES = ("left", "right", "top", "bottom")


def places(pipeline: Pipeline, places: Any) -> str:
    expect_answers(places, EXPRESSIONS, "places")
    parser = parsers.load_parser(pipeline.settings.spacy_model)
    read = language.read_expressions(list(EXPRESSIONS), parser).set_index("key")["orientation"]
    given = {text: set(" ".join(parts(places[text])).split()) for text in EXPRESSIONS}
    expect(
        set().union(*given.values()) <= set(PLACES),
        'Each answer is a text with the words that count, such as "left top", or "" for none.',
    )
    wrong = [text for text in EXPRESSIONS if given[text] != set(read[text].split())]
    expect(
        not wrong,
        f"{len(wrong)} of {len(EXPRESSIONS)} are not what the rectifier reads; the first is "
        f"{(wrong or [''])[0]!r}. Ask what the word describes: the subject, another object, or "
        "something that happens?",
    )
    return "A list of words is not enough; the parse tree says what they describe."


_CASES: tuple[tuple[str, list[float], list[float], list[float], str], ...] = (
    (
        "Without a location word, every mask may be chosen.",
        [0.1, 0.3, 0.2], [1, 2, 3], [1, 2, 3], "",
    ),
    (
        "Left is where x is small, top is where y is small: y counts downwards.",
        [0.4, 0.3, 0.2, 0.1], [9, 8, 2, 1], [1, 2, 8, 9], "bottom",
    ),
    (
        "Left is where x is small, top is where y is small: y counts downwards.",
        [0.1, 0.2, 0.3, 0.4], [9, 8, 2, 1], [1, 2, 8, 9], "top",
    ),
    (
        "The half is that of the centres: half of the masks, wherever the middle of the image is.",
        [0.1, 0.2, 0.9, 0.3], [0, 1, 2, 100], [0, 0, 0, 0], "right",
    ),
    (
        "A centre exactly on the median belongs to both halves.",
        [0.1, 0.9, 0.2], [1, 5, 9], [0, 0, 0], "left",
    ),
    (
        "With an uneven spread, the mean of the centres is not their median.",
        [0.1, 0.2, 0.9, 0.3, 0.4], [0, 1, 20, 30, 100], [0, 0, 0, 0, 0], "right",
    ),
    (
        "Two words name a quarter: both conditions should hold.",
        [0.9, 0.8, 0.1, 0.2], [1, 9, 1, 9], [9, 1, 1, 9], "left top",
    ),
    (
        "If no centre lies in the quarter, the choice should not change.",
        [0.1, 0.9], [1, 9], [9, 1], "left top",
    ),
)  # fmt: skip


def rectify(pipeline: Pipeline, rectify: Any) -> str:
    for hint, values, x, y, words in _CASES:
        arrays = (np.array(values), np.array(x, float), np.array(y, float))
        wanted = rectifier.rectify(*arrays, words)
        expect(_same(call(rectify, *arrays, words), wanted, len(x)), hint)
    rng = np.random.default_rng(2)
    for _ in range(100):
        count = int(rng.integers(1, 7))
        values, x, y = rng.random(count), *rng.integers(0, 4, (2, count)).astype(float)
        words = str(rng.choice(["left", "right", "top", "bottom", "left top", "right bottom"]))
        wanted = rectifier.rectify(values, x, y, words)
        expect(
            _same(call(rectify, values, x, y, words), wanted, count),
            f"Right on the simple cases, but not for scores {values.round(2).tolist()}, "
            f"x {x.tolist()}, y {y.tolist()} and {words!r}.",
        )
    settings = pipeline.settings
    dataset, split = columns(settings)[0]
    scored = pipeline.scored(dataset, split, settings.encoders[-1])
    pairs = scored.pairs.assign(S=scored.total(settings.alpha, settings.lambda_of(dataset)))
    groups = dict(list(pairs.groupby("sentence")))
    counted = differ = 0
    for number, words in enumerate(scored.sentences["orientation"]):
        if words and number in groups:
            arrays = [groups[number][name].to_numpy() for name in ("S", "center_x", "center_y")]
            wanted = rectifier.rectify(*arrays, words)
            differ += not _same(call(rectify, *arrays, words), wanted, len(arrays[0]))
            counted += 1
    expect(not differ, f"On {differ} of {counted} sentences of this run, the choice differs.")
    return f"The same choice as ours on all {counted} sentences with a location word."


def _same(given: Any, wanted: int, count: int) -> bool:
    expect(is_whole(given), "Return the number of the chosen mask, a whole number counted from 0.")
    expect(0 <= given < count, "The returned number is not that of one of the given masks.")
    return int(given) == wanted


def scenes(_: Pipeline, by_median: Any, by_middle: Any) -> str:
    for name, scene in (("by_median", by_median), ("by_middle", by_middle)):
        keys = isinstance(scene, Mapping) and {"width", "x", "target"} <= scene.keys()
        expect(keys, f"{name} should be a dictionary with width, x and target.")
        if any(value is ... for value in scene.values()):
            raise NotDone(f"{name} is not complete yet.")
        x, width, target = items(scene["x"]), scene["width"], scene["target"]
        expect(is_number(width), f"{name}: width should be a number.")
        fits = len(x) > 1 and all(is_number(one) and 0 <= one < width for one in x)
        expect(fits, f"{name}: x should hold two centres or more, each between 0 and the width.")
        inside = is_whole(target) and 0 <= target < len(x)
        expect(inside, f"{name}: target is the number of a centre in x, counted from 0.")
        median = bool(rectifier.in_region(x, np.zeros(len(x)), "left")[target])
        middle = x[target] < width / 2
        wanted = name == "by_median"
        expect(
            (median, middle) == (wanted, not wanted),
            f"{name}: the target is {'' if median else 'not '}in the left half of the centres, and "
            f"{'' if middle else 'not '}in the left half of the image.",
        )
    return "The paper's sentence allows both readings; what people mean depends on the scene."


EXERCISES: dict[str, Exercise] = {
    "4.1": Exercise(("places",), "Predict where each expression looks.", places),
    "4.2": Exercise(("rectify",), "Write rectify(scores, x, y, words) in ten lines.", rectify),
    "4.3": Exercise(
        ("by_median", "by_middle"), "Construct a scene for each of the two readings.", scenes
    ),
}
