"""The spatial rectifier (section 3.4): the best score among masks where the subject is said to be.

Which words say so is `tasnb.orientation`'s business; here a place is a string of words among left,
right, top and bottom, such as "", "left" or "right top". A half is taken by the median of the
centres, and the masks on the median belong to both halves, so that mirroring the image mirrors the
choice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

# Side -> (column of the centre, sign by which that side is the lower half).
HALVES = {
    "left": ("center_x", 1.0),
    "right": ("center_x", -1.0),
    "top": ("center_y", 1.0),
    "bottom": ("center_y", -1.0),
}


def in_region(
    center_x: npt.ArrayLike, center_y: npt.ArrayLike, orientation: str
) -> npt.NDArray[np.bool_]:
    """Which centres lie in the halves that `orientation` names; all of them for "".

    Left is at or before the median of the centres and right at or after it, likewise top and
    bottom; two words intersect. The answer may be empty ("left top" of two masks): see `rectify`.

    Args:
        center_x: (M,) pixels.
        center_y: (M,) pixels.
        orientation: Words among left, right, top and bottom.

    Returns:
        (M,) bool.
    """
    centers = {"center_x": np.asarray(center_x, float), "center_y": np.asarray(center_y, float)}
    inside = np.ones(centers["center_x"].shape, bool)
    if not inside.size:
        return inside  # nothing has no median
    for side in orientation.split():
        column, sign = HALVES[side]
        along = sign * centers[column]
        inside &= along <= np.median(along)
    return inside


def rectify(
    scores: npt.ArrayLike, center_x: npt.ArrayLike, center_y: npt.ArrayLike, orientation: str
) -> int:
    """The index of the best score within the region, or of the best of all if it is empty.

    Ties go to the first.

    Args:
        scores: (M,) the overall scores S.
        center_x: (M,) pixels.
        center_y: (M,) pixels.
        orientation: Words among left, right, top and bottom.

    Raises:
        ValueError: There are no scores.
    """
    scores = np.asarray(scores, float)
    if not scores.size:
        raise ValueError("no scores to choose from: an image without masks has no choice")
    inside = in_region(center_x, center_y, orientation)
    if not inside.any():
        return int(scores.argmax())
    return int(np.where(inside, scores, -np.inf).argmax())


def in_region_grouped(frame: pd.DataFrame, by: str | list[str] = "key") -> npt.NDArray[np.bool_]:
    """`in_region` for a long table of sentences x masks, one group a sentence.

    Args:
        frame: Columns center_x, center_y (pixels), orientation (the same throughout a group) and
            those named in `by`.
        by: What identifies a group.

    Returns:
        (rows,) bool, in the order of the rows. A group without any True has an empty region.
    """
    group = frame.groupby(by, sort=False).ngroup().to_numpy()
    inside = np.ones(len(frame), bool)
    for side, (column, sign) in HALVES.items():
        named = frame["orientation"].str.contains(side, regex=False).to_numpy(bool)
        if named.any():
            along = sign * frame[column]
            inside &= ~named | (along <= along.groupby(group).transform("median")).to_numpy()
    return inside
