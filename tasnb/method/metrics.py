"""Metrics (section 4.1): overall IoU and mean IoU over sentences, with confidence intervals.

The paper reports oIoU and mIoU. Added here are the precision at several IoU thresholds, which is
usual for the task, gRefCOCO's metrics for expressions without a target, and a bootstrap and a
permutation test over images, which tell real differences between two methods from chance.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def evaluate(intersection: npt.ArrayLike, union: npt.ArrayLike) -> dict[str, float]:
    """Metrics of a split, in percent.

    Args:
        intersection: Pixels in both the chosen mask and the ground truth, per sentence, (S,).
        union: Pixels in either of them, positive, (S,); where no mask was chosen, the pixels of the
            ground truth.

    Returns:
        ``oIoU``, the sum of all intersections divided by the sum of all unions; ``mIoU``, the mean
        IoU; ``P@0.5`` to ``P@0.9``, the share of sentences with an IoU strictly above 0.5 to 0.9.

    Raises:
        ValueError: There are no sentences, or a union is not positive.
    """
    inter, union = np.asarray(intersection, float), np.asarray(union, float)
    if not inter.size or (union <= 0).any():
        raise ValueError("metrics need at least one sentence and positive unions")
    iou = inter / union
    values = {"oIoU": inter.sum() / union.sum(), "mIoU": iou.mean()}
    values |= {f"P@{t}": (iou > t).mean() for t in THRESHOLDS}
    return {name: 100 * float(value) for name, value in values.items()}


def evaluate_generalized(
    intersection: npt.ArrayLike,
    union: npt.ArrayLike,
    no_target: npt.ArrayLike,
    answered: npt.ArrayLike,
) -> dict[str, float]:
    """gRefCOCO's metrics, in percent, over sentences with and without a target.

    Their definition is in Liu, Ding, Jiang 2023, "GRES: Generalized Referring Expression
    Segmentation", section 5.1. A method that always returns a mask has an N-acc of 0.

    Args:
        intersection: Pixels in both the predicted mask and the ground truth, per sentence, (S,).
        union: Pixels in either of them, (S,); those of the prediction where there is no target.
        no_target: Which sentences refer to nothing in their image, (S,) bool.
        answered: Which sentences were given a mask that is not empty, (S,) bool.

    Returns:
        ``gIoU``, the mean IoU, where a sentence without a target counts as 1 if its prediction is
        empty and as 0 otherwise; ``cIoU``, the sum of all intersections divided by the sum of all
        unions, where predictions without a target add to the unions; ``N-acc``, the share of
        sentences without a target for which the prediction is empty; ``T-acc``, the share of the
        other sentences for which it is not. A share of no sentences is NaN.

    Raises:
        ValueError: There are no sentences, or the union of a sentence with a target is not
            positive.
    """
    inter, whole = np.asarray(intersection, float), np.asarray(union, float)
    nothing, some = np.asarray(no_target, bool), np.asarray(answered, bool)
    if not inter.size or (whole[~nothing] <= 0).any():
        raise ValueError("metrics need at least one sentence and positive unions of the targets")
    iou = np.where(nothing, ~some, inter / np.maximum(whole, 1))
    inter, whole = np.where(nothing, 0, inter), np.where(nothing & ~some, 0, whole)
    right = nothing != some

    def share(those: npt.NDArray[np.bool_]) -> float:
        return right[those].mean() if those.any() else np.nan

    total = whole.sum()
    values = {
        "gIoU": iou.mean(),
        "cIoU": inter.sum() / total if total else np.nan,
        "N-acc": share(nothing),
        "T-acc": share(~nothing),
    }
    return {name: 100 * float(value) for name, value in values.items()}


# --- Confidence intervals and paired tests --------------------------------------------------------

DRAWS = 2000
LEVEL = 95.0  # confidence level of the intervals, in percent


class Difference(NamedTuple):
    """A difference in points, with its confidence interval and the p-value of a paired test."""

    value: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        """ "held" if the interval is above 0, "not held" if it is below, else "undecided"."""
        return "held" if self.low > 0 else "not held" if self.high < 0 else "undecided"


def interval(outcome: pd.DataFrame, metric: str, seed: int = 0) -> tuple[float, float]:
    """The bootstrap confidence interval of a metric, in percent.

    Images are resampled, not sentences, since the sentences of one image are not independent.

    Args:
        outcome: One row per sentence: image, intersection, union.
        metric: ``"oIoU"`` or ``"mIoU"``.
    """
    place, images = pd.factorize(outcome["image"].to_numpy())
    sums = _sums(outcome, metric, place, len(images))
    (drawn,) = _drawn_sums(_weights(len(sums), seed), sums)
    return _middle(_ratio(drawn))


def difference(first: pd.DataFrame, second: pd.DataFrame, metric: str, seed: int = 0) -> Difference:
    """``metric`` of the first outcome minus that of the second.

    The interval is a bootstrap over images, with the same images drawn for both outcomes. The
    p-value is that of a two-sided permutation test, which swaps the two outcomes of whole images;
    it is NaN if the rows of the two are not about the same images.

    Args:
        first, second: One row per sentence: image, intersection, union. The test needs the same
            sentences in the same order; the interval does not.
    """
    both = [frame["image"].to_numpy() for frame in (first, second)]
    place, names = pd.factorize(np.concatenate(both))
    places, images = (place[: len(first)], place[len(first) :]), len(names)
    one = _sums(first, metric, places[0], images)
    two = _sums(second, metric, places[1], images)
    seen = float(_ratio(one.sum(0)) - _ratio(two.sum(0)))
    ones, twos = _drawn_sums(_weights(images, seed), one, two)
    low, high = _middle(_ratio(ones) - _ratio(twos))
    p = np.nan
    if np.array_equal(*places):
        (moved,) = _drawn_sums(_swaps(images, seed), two - one)
        drawn = _ratio(one.sum(0) + moved) - _ratio(two.sum(0) - moved)
        p = (1 + (np.abs(drawn) >= abs(seen) - 1e-9).sum()) / (1 + DRAWS)
    return Difference(seen, low, high, float(p))


def _sums(
    outcome: pd.DataFrame, metric: str, place: npt.NDArray[np.intp], images: int
) -> npt.NDArray[np.float64]:
    """Numerator and denominator of a metric for each image, (images, 2).

    Args:
        place: The number of each sentence's image, counted from 0, (S,).
    """
    inter, union = outcome["intersection"].to_numpy(float), outcome["union"].to_numpy(float)
    parts = {"oIoU": (inter, union), "mIoU": (inter / union, np.ones(len(union)))}[metric]
    return np.stack([np.bincount(place, part, images) for part in parts], 1)


def _ratio(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 100 * sums[..., 0] / np.maximum(sums[..., 1], 1e-12)


@lru_cache(maxsize=8)
def _weights(images: int, seed: int) -> npt.NDArray[np.uint8]:
    """How often each bootstrap draw contains each image, (DRAWS, images).

    Counts depend on nothing but the number of images, so outcomes of the same images share them. A
    byte holds any of them: they average 1, and 20 is already out of reach.
    """
    rng = np.random.default_rng(seed)
    return _kept(rng.multinomial(images, np.full(images, 1 / images), DRAWS))


@lru_cache(maxsize=8)
def _swaps(images: int, seed: int) -> npt.NDArray[np.uint8]:
    """The images that each draw of the permutation test swaps (1), (DRAWS, images)."""
    return _kept(np.random.default_rng(seed).integers(0, 2, (DRAWS, images)))


def _kept(drawn: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """A table to be shared by many calls: an eighth of its size, and protected from changes."""
    small = drawn.astype(np.uint8)
    small.flags.writeable = False
    return small


def _drawn_sums(drawn: npt.NDArray[np.uint8], *sums: npt.NDArray[np.float64]) -> list[npt.NDArray]:
    """For each table of sums (images, 2), its sums over the images of every draw, (DRAWS, 2)."""
    return np.split(drawn.astype(float) @ np.hstack(sums), len(sums), axis=1)


def _middle(drawn: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(drawn, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)
