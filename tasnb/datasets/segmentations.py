"""Masks in annotations, checked before they are passed to pycocotools.

Its C code trusts its input: run lengths of the wrong size make it read beyond its memory, and a
coordinate that is not a number crashes the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from tasnb.settings import InputError, shown

Rle = dict[str, Any]
"""A mask as COCO's compressed run lengths: size [h, w] and counts (bytes)."""

FAR = 10_000
"""Distance from the image, in pixels, beyond which a coordinate is considered an error."""


def read_mask(segmentation: Any, height: int, width: int, owner: str) -> Rle:
    """Converts any of COCO's three mask formats to compressed run lengths.

    Args:
        segmentation: Polygons ([[x, y, x, y, ...], ...]; those of fewer than three points are
            dropped), or run lengths {"size", "counts"} with the counts as a list or compressed.
        height, width: Size of the image as it is loaded.
        owner: What to call it in an error, such as "the segmentation of annotation 7".

    Returns:
        A mask of that size; it is empty if all polygons are outside the image.

    Raises:
        InputError: It is in no such format, has impossible coordinates, or does not fit the image.
    """
    if isinstance(segmentation, list):
        polygons = [polygon_corners(p, height, width, owner) for p in segmentation]
        flat = [points.ravel() for points in polygons if len(points) >= 3]
        if not flat:
            raise InputError(f"{owner} has no polygon with at least three points")
        return coco_mask.merge(coco_mask.frPyObjects(flat, height, width))
    if isinstance(segmentation, Mapping) and {"size", "counts"} <= segmentation.keys():
        return _of_runs(segmentation["size"], segmentation["counts"], height, width, owner)
    raise InputError(
        f"{owner} is neither a list of polygons nor run lengths with size and counts: "
        f"{shown(segmentation)}"
    )


def polygon_corners(
    polygon: Any, height: int, width: int, owner: str, pairs: bool = False
) -> npt.NDArray[np.float64 | np.int64]:
    """A polygon's corners (n, 2), x and y in pixels, none of them far outside the image.

    Args:
        polygon: [x, y, x, y, ...].
        height, width: Size of the image.
        owner: What to call the mask in an error.
        pairs: Whether it is [[x, y], ...] instead, as in PhraseCut.

    Raises:
        InputError: It has another format, or a coordinate is not finite or is far outside.
    """
    try:
        points = np.asarray(polygon) if polygon != [] else np.zeros((0, 2) if pairs else 0)
    except ValueError:  # rows of different lengths
        points = np.zeros(0, object)
    even = points.ndim == 1 and len(points) % 2 == 0
    if points.dtype.kind not in "iuf" or not (points.shape[1:] == (2,) if pairs else even):
        form = "[x, y] pairs" if pairs else "numbers x, y, x, y, ..."
        raise InputError(f"{owner} has a polygon that is not a list of {form}: {shown(polygon)}")
    points = points.reshape(-1, 2)
    # A single comparison settles nearly all polygons; NaN fails it.
    if len(points) and not (points.min() >= -FAR and points.max() <= FAR + min(height, width)):
        over = ~((points >= -FAR) & (points <= FAR + np.array([width, height])))
        if over.any():
            raise InputError(
                f"{owner} has a coordinate of {points[over][0]:g}, which cannot belong to a "
                f"image of {width} x {height} pixels"
            )
    return points


def _of_runs(size: Any, counts: Any, height: int, width: int, owner: str) -> Rle:
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise InputError(
            f"{owner} has run lengths of size {shown(size)}, but its image is {[height, width]} "
            "(height, width)"
        )
    runs = None
    if isinstance(counts, list):
        found = np.asarray(counts) if counts else np.zeros(0, int)
        runs = found if found.ndim == 1 and found.dtype.kind in "iu" else None
    elif isinstance(counts, bytes) or (isinstance(counts, str) and counts.isascii()):
        runs = decoded_counts(counts.encode() if isinstance(counts, str) else counts)
    if runs is None or (runs < 0).any():
        raise InputError(f"{owner} has counts that are not run lengths: {shown(counts)}")
    pixels = height * width
    # Each one is checked as well, since a sum of large ones may overflow to the right value.
    if (runs > pixels).any() or runs.sum() != pixels:
        total = sum(map(int, runs))
        raise InputError(
            f"{owner} has run lengths that cover {total} pixels, but its image has {pixels}"
        )
    rle = {"size": [height, width], "counts": counts}
    if isinstance(counts, list):
        return coco_mask.frPyObjects(rle, height, width)
    return rle if isinstance(counts, bytes) else {**rle, "counts": counts.encode()}


def decoded_counts(counts: bytes) -> npt.NDArray[np.int64] | None:
    """The run lengths in COCO's compressed counts; None if they are damaged.

    From the fourth on, each number is stored as its difference from the last but one. A character
    holds five bits, lowest first; bit 32 is set if more follow, and bit 16 of the last character if
    the number is negative.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(codes):
        return codes
    last = (codes & 32) == 0
    if codes.min() < 0 or codes.max() > 63 or not last[-1]:
        return None
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 6:  # more than 35 bits: larger than any image
        return None
    values = np.add.reduceat((codes & 31) << (5 * place), starts)
    values -= ((codes[ends] & 16) >> 4) << (5 * (place[ends] + 1))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
