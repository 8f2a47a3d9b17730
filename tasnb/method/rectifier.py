"""The spatial rectifier (section 3.4, second and third step).

CLIP does not understand words such as "left". If the expression places its subject on one side, the
mask with the best score S is therefore chosen only among masks whose centre is in that half. The
paper takes the half "of all the center points": the two halves meet at the median of the centres,
and masks exactly on the median belong to both, so that mirroring the image mirrors the choice.

`tasnb.method.language.orientation` reads the sides from the expression. Here they are words among
left, right, top and bottom, joined by a space: "", "left", "right top".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

# Side -> (column of the centre, sign that makes this side the lower half).
HALVES = {
    "left": ("center_x", 1.0),
    "right": ("center_x", -1.0),
    "top": ("center_y", 1.0),
    "bottom": ("center_y", -1.0),
}


def in_region(
    center_x: npt.ArrayLike, center_y: npt.ArrayLike, orientation: str, rule: str = "published"
) -> npt.NDArray[np.bool_]:
    """Which centres are in the halves that `orientation` names; all of them for "".

    Left is at or before the median of the centres and right at or after it; likewise top and
    bottom. Two words name the intersection of two halves, which may contain no centre ("left top"
    of two masks); `rectify` handles that case.

    Args:
        center_x: (M,) pixels.
        center_y: (M,) pixels.
        orientation: Words among left, right, top and bottom.
        rule: "published", or "released": centres are truncated to whole pixels, and those on the
            median count as right and bottom only.

    Returns:
        (M,) bool.

    Raises:
        KeyError: `orientation` contains any other word.
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
    """The index of the best score within the region, or the best overall if the region is empty.

    Ties go to the first.

    Args:
        scores: (M,), the overall scores S.
        center_x: (M,) pixels.
        center_y: (M,) pixels.
        orientation: Words among left, right, top and bottom.
        rule: As in `in_region`.

    Raises:
        ValueError: `scores` is empty.
    """
    scores = np.asarray(scores, float)
    if not scores.size:
        raise ValueError("no scores to choose from: the image has no masks")
    inside = in_region(center_x, center_y, orientation, rule)
    if not inside.any():
        return int(scores.argmax())
    return int(np.where(inside, scores, -np.inf).argmax())


def in_region_grouped(
    frame: pd.DataFrame, by: str | list[str] = "key", rule: str = "published"
) -> npt.NDArray[np.bool_]:
    """`in_region` for a table with one row per sentence and mask.

    Args:
        frame: Columns center_x, center_y (pixels), orientation (the same throughout a group) and
            those named in `by`.
        by: Columns that identify the sentence of a row.
        rule: As in `in_region`.

    Returns:
        (rows,) bool, in the order of the rows. The region of a group without any True is empty.
    """
    group = frame.groupby(by, sort=False).ngroup().to_numpy()
    inside = np.ones(len(frame), bool)
    for side, (column, sign) in HALVES.items():
        named = frame["orientation"].str.contains(side, regex=False).to_numpy(bool)
        if named.any():
            released = rule == "released"
            along = sign * (np.floor(frame[column]) if released else frame[column])
            median = along.groupby(group).transform("median")
            # In the released code left and top are strictly below the median, right and bottom at
            # or above it; with the sign reversed, the latter becomes <=.
            half = along < median if released and sign > 0 else along <= median
            inside &= ~named | half.to_numpy()
    return inside
