"""Answers of any number of masks, possibly none (beyond the paper; ``answers`` in the settings).

Every expression of the paper refers to one object, so the mask with the largest S is the answer.
Expressions such as "the dogs" refer to several, and some to nothing in the image. Here, an answer
consists of all masks whose likelihood by S is at least a share of the best one's; it is empty if
there is too little evidence that the best mask shows what the expression names.

Both thresholds were fixed on development scenes with earlier checkpoints, with one value for both
encoders. On 470 phrases there, of which 166 have several targets, and 152 without a target, the
present checkpoints of the embedded profile give (ResNet / ViT):

=====================  ===========  ===========  ===========  ===========  ===========
recipe ``extended``    gIoU         cIoU         N-acc        T-acc        mIoU
=====================  ===========  ===========  ===========  ===========  ===========
one mask               45.4 / 46.5  40.7 / 43.0  0.0 / 0.0    100 / 100    60.0 / 61.5
several                50.5 / 52.0  45.2 / 48.0  0.0 / 0.0    100 / 100    66.9 / 68.8
several or none        63.0 / 63.2  52.1 / 54.4  59.9 / 53.3  93.0 / 93.6  64.0 / 66.4
=====================  ===========  ===========  ===========  ===========  ===========

The last column is over the phrases that have a target. Expressions with exactly one target lose
(mIoU on 535 ordinary expressions of development scenes: 72.9 / 75.1 with one mask, 68.3 / 69.9 with
several or none), so one mask is the default in every recipe.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.method.proposals import to_rles
from tasnb.method.scores import Floats, ScoreTable
from tasnb.settings import Settings

GENERIC = ("a photo of a thing", "a photo of something", "a photo", "a picture of an object")
"""What is true of every mask: the prompts that an expression has to surpass."""


class Answers(NamedTuple):
    """The answers to the sentences of a ``ScoreTable``.

    Attributes:
        best: The row of ``pairs`` with the best mask of each answer; -1 for an empty one, (S,).
        members: Which pairs are part of the answer to their sentence, (pairs,) bool.
    """

    best: npt.NDArray[np.int64]
    members: npt.NDArray[np.bool_]


def evidence(v: Floats, generic: Floats, told: Floats) -> Floats:
    """How much speaks for each mask showing what an expression names, whatever the other masks are.

    Args:
        v: V of every mask, (S, M).
        generic: Mean similarity of every masked image to the prompts ``GENERIC``, (M,).
        told: Similarity of the caption of every mask to the subject of the expression, both as
            prompts, (S, M).

    Returns:
        (S, M), in [-3, 3]: what the image says more about the expression than about ``GENERIC``,
        plus what the caption says.
    """
    return v - generic + told


def answers(scored: ScoreTable, total: Floats, settings: Settings, rectify: bool = True) -> Answers:
    """The answers by S, one mask each or any number, according to ``settings.answers``.

    Args:
        total: S for every pair, without places (``ScoreTable.total``).
        rectify: As in ``ScoreTable.choose``.
    """
    best = scored.choose(total, rectify)
    members = np.zeros(len(scored.pairs), bool)
    there = best >= 0
    if settings.answers == "one":
        members[best[there]] = True
        return Answers(best, members)
    score = scored.placed(total) if rectify else total
    sentence = scored.pairs["sentence"].to_numpy()
    enough = np.zeros(len(best), bool)
    enough[there] = scored.pairs["E"].to_numpy()[best[there]] >= settings.least_evidence
    below = np.minimum(score - score[best[sentence]], 0)  # a barred mask may have more
    likely = np.exp(below / settings.temperature) >= settings.several_share
    members = likely & enough[sentence]
    if rectify:
        members &= scored.allowed
    return Answers(np.where(enough, best, -1), members)


def mask_ids(scored: ScoreTable, found: Answers, score: Floats) -> list[tuple[int, ...]]:
    """The mask_ids of each answer, the best mask first; () for an empty one, (S,).

    Args:
        score: S for every pair, as the answers were chosen by (``ScoreTable.placed``).
    """
    rows = np.flatnonzero(found.members)
    owner = scored.pairs["sentence"].to_numpy()[rows]
    order = np.lexsort((rows, -score[rows], owner))
    ends = np.searchsorted(owner, np.arange(1, len(found.best)))
    ids = np.split(scored.pairs["mask_id"].to_numpy()[rows[order]], ends)
    return [tuple(some.tolist()) for some in ids[: len(found.best)]]


def outcome(scored: ScoreTable, found: Answers, masks: pd.DataFrame | None = None) -> pd.DataFrame:
    """Intersection, union (pixels), IoU and mask_id of the answers, one row per sentence.

    Of several masks, the union is the answer, and mask_id is the best one's. Without an answer,
    the union is the ground truth and mask_id -1; the IoU is 0 if both are empty.

    Args:
        masks: The refined masks of all images, from ``Stages.refined``; not needed if no answer
            has several masks.
    """
    inter, union = scored.overlap(found.best)
    rows = np.flatnonzero(found.members)
    owner = scored.pairs["sentence"].to_numpy()[rows]
    several = np.bincount(owner, minlength=len(union)) > 1
    if several.any():
        if masks is None:
            raise ValueError("an answer has several masks, so all masks are needed")
        rle_of = dict(zip(zip(masks["image"], masks["mask_id"], strict=True), to_rles(masks),
                          strict=True))  # fmt: skip
        mask_id, sentences = scored.pairs["mask_id"].to_numpy(), scored.sentences
        for number in np.flatnonzero(several):
            said = sentences.iloc[number]
            truth = {
                "size": [int(said["height"]), int(said["width"])],
                "counts": said["ground_truth"],
            }
            together = coco_mask.merge(
                [rle_of[said["image"], mask_id[row]] for row in rows[owner == number]]
            )
            shared = int(coco_mask.area(coco_mask.merge([together, truth], intersect=True)))
            inter[number] = shared
            union[number] = int(coco_mask.area(together)) + int(said["truth_area"]) - shared
    mask_id = np.full(len(union), -1)
    some = found.best >= 0
    mask_id[some] = scored.pairs["mask_id"].to_numpy()[found.best[some]]
    iou = np.divide(inter, union, out=np.zeros(len(union)), where=union > 0)
    return pd.DataFrame({"intersection": inter, "union": union, "iou": iou, "mask_id": mask_id})
