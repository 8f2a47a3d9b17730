"""oIoU, mIoU and precision (section 4.1); one sample a sentence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
