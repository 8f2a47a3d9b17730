"""Checks of the exercises of notebook 06: modules, weights, the released code."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasnb.course.checking import Exercise
from tasnb.course.verdicts import Hint, expect, is_number, items
from tasnb.datasets.splits import ablated
from tasnb.method import metrics
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.results import ablations

ALPHAS = (0, 0.05, 0.1, 0.2, 0.4, 0.8)
LAMBDAS = (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.1)
HUGE = 1e6
WANTED = 3  # expressions to find in exercise 6.4


def scored_of(pipeline: Pipeline) -> ScoreTable:
    """The scores of Tables 3 and 4."""
    return pipeline.scored(*ablated(pipeline.settings), pipeline.settings.encoders[-1])


def _miou(scored: ScoreTable, alpha: float, lam: float, rectify: bool) -> float:
    chosen = scored.choose(scored.total(alpha, lam), rectify)
    return metrics.evaluate(*scored.overlap(chosen))["mIoU"]


def limit(pipeline: Pipeline, decides: Any) -> str:
    expect(decides in ("V", "P", "N"), 'Answer "V", "P" or "N".')
    scored = scored_of(pipeline)
    chosen = scored.choose(scored.total(pipeline.settings.alpha, HUGE), False)
    agree = {
        name: float((scored.choose(scored.pairs[name].to_numpy(), False) == chosen).mean())
        for name in "VPN"
    }
    expect(
        agree[decides] == max(agree.values()),
        "Divide S by lambda: what becomes of each of the three terms as lambda grows?",
    )
    return (
        f"It decides {100 * agree[decides]:.0f} % of the sentences; the others have no negatives."
    )


def v_and_n(pipeline: Pipeline, v_and_n: Any) -> str:
    expect(is_number(v_and_n), "Answer with a number, the mIoU in percent.")
    scored, settings = scored_of(pipeline), pipeline.settings
    lam = settings.lambda_of(ablated(settings)[0])
    truth = _miou(scored, 0, lam, False)
    close = 0.006
    expect(abs(100 * v_and_n - truth) > close or truth < 1, "Give the mIoU in percent.")
    others = {
        "This is the mIoU with the rectifier; the row is to have none.": (0, lam, True),
        "This is the mIoU of V, P and N together.": (settings.alpha, lam, False),
        "This is the mIoU of V alone.": (0, 0, False),
    }
    for hint, (alpha, weight, rectify) in others.items():
        other = _miou(scored, alpha, weight, rectify)
        expect(abs(v_and_n - other) > close or abs(other - truth) <= close, hint)
    found = scored.overlap(scored.choose(scored.total(0, lam), False))
    expect(
        abs(v_and_n - metrics.evaluate(*found)["oIoU"]) > close, "This is oIoU rather than mIoU."
    )
    expect(
        abs(v_and_n - truth) <= close,
        "Not the mIoU of V + lambda N. Set alpha to 0, keep lambda, and leave the rectifier out.",
    )
    return "Compare it with the rows of Table 4: what do P and N do to each other?"


def best(pipeline: Pipeline, best_alpha: Any, best_lam: Any) -> str:
    grid = ablations.grid(scored_of(pipeline), ALPHAS, LAMBDAS)
    point = grid[np.isclose(grid["alpha"], _number(best_alpha))]
    point = point[np.isclose(point["lambda"], _number(best_lam))]
    expect(len(point) == 1, "This point is not part of the grid of section 6.1.")
    value, top = float(point["mIoU"].iloc[0]), float(grid["mIoU"].max())
    above = int((grid["mIoU"] > value + 1e-9).sum())
    expect(
        value >= top - 1e-9,
        f"{above} points of the grid have a higher mIoU. Sort the grid, or read the heat map.",
    )
    return "Chosen on the split it is measured on, it says little about another one."


def _number(value: Any) -> float:
    expect(is_number(value), "Answer with two numbers.")
    return float(value)


def differ(pipeline: Pipeline, differ: Any) -> str:
    given = items(differ)
    listed = all(isinstance(text, str) for text in given)
    expect(listed, "Answer with a list of expressions.")
    texts = sorted(set(pipeline.split(*ablated(pipeline.settings)).sentences["sentence"]))
    ours, theirs = (
        pipeline.in_recipe(recipe).expressions(texts)["orientation"]
        for recipe in ("published", "released")
    )
    apart = {text for text in texts if set(ours[text].split()) != set(theirs[text].split())}
    found = set(given)
    if strangers := found - set(texts):
        raise Hint(f"{sorted(strangers)[0]!r} is not an expression of this split.")
    if same := found - apart:
        raise Hint(f"Both rectifiers read {sorted(same)[0]!r} alike.")
    wanted = min(WANTED, len(apart))
    expect(
        len(found) >= wanted, f"{len(found)} of {wanted} found. Which words do the two treat apart?"
    )
    return "For each of them, decide which of the two is right."


EXERCISES: dict[str, Exercise] = {
    "6.1": Exercise(("decides",), "Predict which score decides if lambda is huge.", limit),
    "6.2": Exercise(
        ("v_and_n",), "Compute the mIoU of V + lambda N without the rectifier.", v_and_n
    ),
    "6.3": Exercise(("best_alpha", "best_lam"), "Find the best point of the grid.", best),
    "6.4": Exercise(
        ("differ",), "Find three expressions that the two rectifiers read differently.", differ
    ),
}
