"""Checks of the exercises of notebook 05: metrics and their uncertainty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tasnb.course.checking import Exercise, call, call_number
from tasnb.course.verdicts import expect
from tasnb.datasets.splits import columns
from tasnb.method import metrics
from tasnb.method.pipeline import Pipeline
from tasnb.results import tables

NOISE = 0.25  # relative difference between two bootstraps that is no mistake


def outcome(pipeline: Pipeline, method: str = "CLIP-only") -> pd.DataFrame:
    """Results of a method on the first column with the last encoder."""
    settings = pipeline.settings
    dataset, split = columns(settings)[0]
    scored = pipeline.scored(dataset, split, settings.encoders[-1])
    found = scored.outcome(tables.choose(method, scored, settings, dataset))
    return found.assign(image=scored.sentences["image"].to_numpy())


def two_means(pipeline: Pipeline, oiou: Any, miou: Any) -> str:
    small = (np.array([90, 1]), np.array([100, 10]))
    real = outcome(pipeline)
    run = (real["intersection"].to_numpy(), real["union"].to_numpy())
    for inter, union in (small, run):
        truth = metrics.evaluate(inter, union)
        for name, function in (("oIoU", oiou), ("mIoU", miou)):
            got = call_number(function, inter, union)
            expect(
                not np.isclose(100 * got, truth[name]) or truth[name] < 1.5,
                f"{name}: the number is right as a share; give it in percent.",
            )
            other = truth["mIoU" if name == "oIoU" else "oIoU"]
            swapped = np.isclose(got, other) and not np.isclose(got, truth[name])
            expect(not swapped, f"{name}: this is the other of the two means.")
            expect(
                np.isclose(got, truth[name]),
                f"{name}: not right for intersections {small[0].tolist()} and unions "
                f"{small[1].tolist()}. What is summed first, and what is divided?",
            )
    return "oIoU weighs sentences by pixels, mIoU weighs them equally."


def higher(pipeline: Pipeline, higher: Any) -> str:
    expect(higher in ("oIoU", "mIoU"), 'Answer "oIoU" or "mIoU".')
    real = outcome(pipeline)
    found = metrics.evaluate(real["intersection"], real["union"])
    expect(
        not found[higher] < max(found["oIoU"], found["mIoU"]),
        "A wrong choice often is a large mask. In which of the two means does it weigh more?",
    )
    gap = abs(found["oIoU"] - found["mIoU"])
    return f"They differ by {gap:.1f} points for CLIP-only in the first column."


def bootstrap(pipeline: Pipeline, interval: Any) -> str:
    rng = np.random.default_rng(3)
    image = np.repeat(np.arange(30), 10)
    iou = np.clip(rng.random(30)[image] + 0.02 * rng.normal(size=300), 0, 1)
    truth = _interval(iou, image)
    got = call(interval, iou, image)
    pair = isinstance(got, tuple | list | np.ndarray) and len(got) == 2
    expect(pair, "Return two numbers: the lower and the upper end.")
    low, high = (float(one) for one in got)
    expect(low < high, "The lower end should be below the upper one.")
    middle = 100 * iou.mean()
    expect(high > 1.5, "Give the ends in percent.")
    expect(low < middle < high, "The interval should contain the mean itself.")
    width, wanted = high - low, truth[1] - truth[0]
    expect(
        width > (1 - NOISE) * wanted,
        "Too narrow where the sentences of an image resemble each other. What is drawn: sentences, "
        "or images with all their sentences?",
    )
    expect(
        width < (1 + NOISE) * wanted,
        "Too wide. Does it leave 2.5 % of the draws on either side, and is a draw as large as the "
        "sample?",
    )
    real = outcome(pipeline)
    if real["image"].nunique() >= 20:
        truth = metrics.interval(real, "mIoU")
        values = real["iou"].to_numpy(), pd.factorize(real["image"])[0]
        low, high = (float(one) for one in call(interval, *values))
        off = max(abs(low - truth[0]), abs(high - truth[1]))
        expect(
            off < NOISE * (truth[1] - truth[0]),
            "Right for images with ten sentences each, but not for those of this run, which have "
            "different numbers of sentences.",
        )
    return "The same interval as in section 5.4, up to the chance of the draws."


def _interval(iou: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    frame = pd.DataFrame({"image": image, "intersection": 1e6 * iou, "union": 1e6})
    return metrics.interval(frame, "mIoU")


EXERCISES: dict[str, Exercise] = {
    "5.1": Exercise(("higher",), "Predict which of the two means is higher.", higher),
    "5.2": Exercise(("oiou", "miou"), "Write both means as functions.", two_means),
    "5.3": Exercise(("interval",), "Write interval(iou, image), a bootstrap.", bootstrap),
}
