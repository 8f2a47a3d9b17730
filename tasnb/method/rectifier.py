"""The spatial rectifier (section 3.4): the best score among masks where the subject is said to be.

`tasnb.method.orientation` reads which words say so; here a place is a string of words among left,
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
    center_x: npt.ArrayLike, center_y: npt.ArrayLike, orientation: str, rule: str = "published"
) -> npt.NDArray[np.bool_]:
    """Which centres lie in the halves that `orientation` names; all of them for "".

    Left is at or before the median of the centres and right at or after it, likewise top and
    bottom; two words intersect. The answer may be empty ("left top" of two masks): see `rectify`.

    Args:
        center_x: (M,) pixels.
        center_y: (M,) pixels.
        orientation: Words among left, right, top and bottom.
        rule: "published", or "released": centres are cut to whole pixels, and those on the median
            are right and bottom only.

    Returns:
        (M,) bool.

    Raises:
        KeyError: A word is none of the four.
    """
    if strangers := set(orientation.split()) - HALVES.keys():
        raise KeyError(f"no side: {', '.join(sorted(strangers))}")
    x = np.asarray(center_x, float)
    frame = pd.DataFrame({"key": 0, "center_x": x, "center_y": center_y})
    return in_region_grouped(frame.assign(orientation=orientation), rule=rule)


def rectify(
    scores: npt.ArrayLike,
    center_x: npt.ArrayLike,
    center_y: npt.ArrayLike,
    orientation: str,
    rule: str = "published",
) -> int:
    """The index of the best score within the region, or of the best of all if it is empty.

    Ties go to the first.

    Args:
        scores: (M,) the overall scores S.
        center_x: (M,) pixels.
        center_y: (M,) pixels.
        orientation: Words among left, right, top and bottom.
        rule: As in `in_region`.

    Raises:
        ValueError: There are no scores.
    """
    scores = np.asarray(scores, float)
    if not scores.size:
        raise ValueError("no scores to choose from: an image without masks has no choice")
    inside = in_region(center_x, center_y, orientation, rule)
    if not inside.any():
        return int(scores.argmax())
    return int(np.where(inside, scores, -np.inf).argmax())


def in_region_grouped(
    frame: pd.DataFrame, by: str | list[str] = "key", rule: str = "published"
) -> npt.NDArray[np.bool_]:
    """`in_region` for a long table of sentences x masks, one group a sentence.

    Args:
        frame: Columns center_x, center_y (pixels), orientation (the same throughout a group) and
            those named in `by`.
        by: What identifies a group.
        rule: As in `in_region`.

    Returns:
        (rows,) bool, in the order of the rows. A group without any True has an empty region.
    """
    group = frame.groupby(by, sort=False).ngroup().to_numpy()
    inside = np.ones(len(frame), bool)
    for side, (column, sign) in HALVES.items():
        named = frame["orientation"].str.contains(side, regex=False).to_numpy(bool)
        if named.any():
            released = rule == "released"
            along = sign * (np.floor(frame[column]) if released else frame[column])
            median = along.groupby(group).transform("median")
            # Left and top are below the median of the released code, right and bottom at it or
            # above; with the sign turned that is <= for the latter.
            half = along < median if released and sign > 0 else along <= median
            inside &= ~named | half.to_numpy()
    return inside
