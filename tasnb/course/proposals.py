"""Checks of the exercises of notebook 01: overlap, IoU, refinement."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasnb.course.checking import Exercise, call, call_number
from tasnb.course.verdicts import expect, is_number
from tasnb.datasets.splits import columns
from tasnb.method import proposals
from tasnb.method.pipeline import Pipeline

IMAGES = 20  # of the first split: enough to see an effect, and fast
LOWER = 0.4  # the overlap in the authors' code
FALL = 1.0  # points by which the upper bound has to fall in exercise 1.4


def kept_and_bound(pipeline: Pipeline, overlap: float) -> tuple[int, float]:
    """Refined masks of the first images with another overlap, and their upper bound (percent)."""
    split = pipeline.split(*columns(pipeline.settings)[0])
    images = dict(list(split.images.items())[:IMAGES])
    masks = pipeline.variant(subset_overlap=overlap).refined(images)
    sentences = split.sentences[split.sentences["image"].isin(images)]
    return len(masks), 100 * float(proposals.best_proposals(sentences, masks)["iou"].mean())


def lower_overlap(pipeline: Pipeline, masks_will: Any, bound_will: Any) -> str:
    words = ("rise", "fall", "stay")
    expect(
        masks_will in words and bound_will in words,
        'Answer with one of the words "rise", "fall" and "stay".',
    )
    before = kept_and_bound(pipeline, max(pipeline.settings.subset_overlap, LOWER))
    after = kept_and_bound(pipeline, LOWER)
    said = "A mask is dropped if it shares more than this fraction with a larger one. "
    hints = (
        said + "With a lower threshold, are there more such masks, or fewer?",
        said + "The oracle chooses the best mask that is left. Can it do better with fewer masks?",
    )
    for given, one, two, hint in zip((masks_will, bound_will), before, after, hints, strict=True):
        # Lowering never adds a mask; on a few images it may also remove none.
        expect(given == ("fall" if two < one else "stay") or (given == "fall" and one == two), hint)
    return "Fewer masks can only lower the bound; the question is how much, and what it buys."


def iou(_: Pipeline, iou: Any) -> str:
    rng = np.random.default_rng(0)
    masks = rng.random((6, 9, 7)) > np.array([0.1, 0.5, 0.5, 0.9, 0.3, 0.7])[:, None, None]
    half = np.zeros((4, 4), bool)
    half[:2] = True
    got = call_number(iou, half, half)
    expect(
        np.isclose(got, 1),
        "Two equal masks should have an IoU of 1. Does your denominator count every shared pixel "
        "only once?",
    )
    got = call_number(iou, half, ~half)
    expect(np.isclose(got, 0), "Two masks without a common pixel should have an IoU of 0.")
    for a in masks:
        for b in masks:
            truth = (a & b).sum() / (a | b).sum()
            expect(
                np.isclose(call_number(iou, a, b), truth),
                "Right for equal masks and for separate ones, but not for two that overlap. Which "
                "pixels are in either of the two?",
            )
    return "This is the measure of every table in this workbook."


def refine(pipeline: Pipeline, kept: Any) -> str:
    overlap = pipeline.settings.subset_overlap
    settings = pipeline.settings.model_copy(update={"min_mask_area": 0})
    toy = np.zeros((4, 1, 12), bool)
    toy[0, 0, :6], toy[1, 0, 2:5], toy[2, 0, 4:12], toy[3, 0, 4:12] = True, True, True, True
    got = np.asarray(call(kept, toy, 0.9))
    expect(got.shape == (4,), "Return one truth value per mask, an array of shape (M,).")
    expect(
        bool(got.astype(bool)[0]),
        "A mask that only touches another one is dropped. Compare the shared pixels with the "
        "smaller of the two areas, and leave out the comparison of a mask with itself.",
    )
    expect(not got.astype(bool)[1], "A mask that lies within a larger one is kept.")
    expect(
        got.astype(bool)[2:].sum() == 1 and bool(got.astype(bool)[2]),
        "Of two equal masks, exactly one should be kept: the first.",
    )
    # The first covers most of the second, which covers the third.
    chain = np.zeros((3, 1, 120), bool)
    chain[0, 0, :110], chain[1, 0, 15:115], chain[2, 0, 105:115] = True, True, True
    expect(
        np.asarray(call(kept, chain, 0.9)).astype(bool).tolist() == [True, False, False],
        "A mask should be compared with all larger ones, including those that are dropped "
        "themselves.",
    )
    split = pipeline.split(*columns(pipeline.settings)[0])
    for image in list(split.images)[:5]:
        rows = pipeline.proposals({image: split.images[image]})
        truth = proposals.refine(rows, settings)
        got = np.asarray(call(kept, proposals.decode(rows), overlap)).astype(bool)
        wrong = int((got != truth).sum()) if got.shape == truth.shape else len(truth)
        expect(
            not wrong,
            f"Right on small examples, but on one of the images {wrong} of {len(truth)} masks are "
            "decided differently. Is the threshold the argument `overlap`, and is the shared area "
            "divided by that of the smaller mask?",
        )
    return "The same choice as tasnb.method.proposals.refine, apart from the smallest masks."


def spoil(pipeline: Pipeline, overlap: Any) -> str:
    expect(is_number(overlap) and 0 <= overlap <= 1, "An overlap is a number from 0 to 1.")
    _, usual = kept_and_bound(pipeline, max(pipeline.settings.subset_overlap, LOWER))
    _, found = kept_and_bound(pipeline, float(overlap))
    _, least = kept_and_bound(pipeline, 0.0)
    fall = usual - found
    expect(
        fall >= min(FALL, usual - least),
        f"With this overlap, the upper bound changes by {found - usual:+.1f} points. Which masks "
        "does the oracle need, and what would make the refinement drop them?",
    )
    return f"The bound falls by {fall:.1f} points: neighbours that merely overlap are dropped."


EXERCISES: dict[str, Exercise] = {
    "1.1": Exercise(
        ("masks_will", "bound_will"),
        'Predict, with "rise", "fall" or "stay", what a lower overlap does.',
        lower_overlap,
    ),
    "1.2": Exercise(("iou",), "Write a function iou(a, b) of two masks.", iou),
    "1.3": Exercise(("kept",), "Write a function kept(masks, overlap), the refinement.", refine),
    "1.4": Exercise(
        ("overlap",),
        "Find an overlap for which the refinement lowers the upper bound by at least a point.",
        spoil,
    ),
}
