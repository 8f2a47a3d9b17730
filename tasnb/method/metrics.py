"""oIoU, mIoU and precision (section 4.1), one sample a sentence; how sure they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def evaluate(intersection: npt.ArrayLike, union: npt.ArrayLike) -> dict[str, float]:
    """Metrics of a split in percent.

    Args:
        intersection: Pixels shared with the ground truth, a sentence each, (S,).
        union: Pixels of either, (S,), positive; that of a sentence without any mask is its ground
            truth.

    Returns:
        ``oIoU``, the sum of the intersections over that of the unions; ``mIoU``, the mean IoU;
        ``P@0.5`` to ``P@0.9``, the share of sentences with an IoU strictly above.

    Raises:
        ValueError: No sentences, or a union that is not positive.
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

    As its authors define them (Liu, Ding, Jiang 2023, "GRES: Generalized Referring Expression
    Segmentation", section 5.1). A method that always answers has an N-acc of 0.

    Args:
        intersection: Pixels shared with the ground truth, a sentence each, (S,).
        union: Pixels of either, (S,); those of the answer where there is no target.
        no_target: Which sentences mean nothing in their image, (S,) bool.
        answered: Which were answered with a mask that is not empty, (S,) bool.

    Returns:
        ``gIoU``, the mean IoU, in which a sentence without a target counts 1 if its answer is empty
        and else 0; ``cIoU``, the sum of the intersections over that of the unions, to which an
        answer where there is no target adds its pixels; ``N-acc``, the share of the sentences
        without a target that were answered with nothing; ``T-acc``, the share of the others that
        were answered. NaN for a share of no sentences.
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


# --- How sure a number is -------------------------------------------------------------------------

DRAWS = 2000
LEVEL = 95.0  # percent of the draws that an interval holds


class Difference(NamedTuple):
    """One method less another, in points, with its interval and the p-value of a paired test."""

    value: float
    low: float
    high: float
    p: float

    @property
    def verdict(self) -> str:
        """ "held" if the interval lies above 0, "not held" if below, else "undecided"."""
        return "held" if self.low > 0 else "not held" if self.high < 0 else "undecided"


def interval(outcome: pd.DataFrame, metric: str, seed: int = 0) -> tuple[float, float]:
    """Between which values ``LEVEL`` percent of the bootstrap's draws lie.

    Images are drawn, not sentences: those of one image stand or fall together.

    Args:
        outcome: A row a sentence: image, intersection, union.
        metric: ``"oIoU"`` or ``"mIoU"``.
    """
    sums = _sums(outcome, metric, pd.unique(outcome["image"]))
    drawn = _ratio(_weights(len(sums), seed) @ sums)
    return _middle(drawn)


def difference(first: pd.DataFrame, second: pd.DataFrame, metric: str, seed: int = 0) -> Difference:
    """``metric`` of the first outcome less that of the second.

    The interval is that of the bootstrap over images, both outcomes drawn together. The p-value is
    that of a permutation test that swaps the two on whole images, two-sided; NaN where they are not
    about the same sentences.

    Args:
        first, second: A row a sentence: image, intersection, union. Of the same sentences in the
            same order for a paired test; of any for an interval.
    """
    images = pd.unique(pd.concat([first["image"], second["image"]]))
    one, two = _sums(first, metric, images), _sums(second, metric, images)
    seen = float(_ratio(one.sum(0)) - _ratio(two.sum(0)))
    weights = _weights(len(images), seed)
    low, high = _middle(_ratio(weights @ one) - _ratio(weights @ two))
    p = np.nan
    if (
        len(first) == len(second)
        and (first["image"].to_numpy() == second["image"].to_numpy()).all()
    ):
        swaps = np.random.default_rng(seed).integers(0, 2, (DRAWS, len(images)))
        moved = swaps @ (two - one)
        drawn = _ratio(one.sum(0) + moved) - _ratio(two.sum(0) - moved)
        p = (1 + (np.abs(drawn) >= abs(seen) - 1e-9).sum()) / (1 + DRAWS)
    return Difference(seen, low, high, float(p))


def _sums(outcome: pd.DataFrame, metric: str, images: npt.NDArray) -> npt.NDArray[np.float64]:
    """Numerator and denominator of a metric by image, (images, 2)."""
    inter, union = outcome["intersection"].to_numpy(float), outcome["union"].to_numpy(float)
    parts = {"oIoU": (inter, union), "mIoU": (inter / union, np.ones(len(union)))}[metric]
    place = pd.Index(images).get_indexer(outcome["image"])
    return np.stack([np.bincount(place, part, len(images)) for part in parts], 1)


def _ratio(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 100 * sums[..., 0] / np.maximum(sums[..., 1], 1e-12)


def _weights(images: int, seed: int) -> npt.NDArray[np.float64]:
    """How often each draw takes each image, (DRAWS, images)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), DRAWS).astype(float)


def _middle(drawn: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(drawn, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)
