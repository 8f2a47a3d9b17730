"""Mask proposals (section 3.2) and their refinement (section 4.2).

A proposal network, SAM in the paper, finds the masks of an image without reading any expression;
they are kept in a table with one row per mask. SAM also returns many parts of objects, so the paper
drops every mask that is a subset of a larger one. Small masks are dropped as in the released code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.models.devices import pixels_at_once
from tasnb.models.proposal_networks import ProposalNetwork
from tasnb.models.run_lengths import run_lengths
from tasnb.settings import Settings

SHARED = 0.1

COLUMNS = {
    "mask_id": "int64",
    "height": "int64",
    "width": "int64",
    "counts": "object",
    "x": "int64",
    "y": "int64",
    "w": "int64",
    "h": "int64",
    "area": "int64",
    "predicted_iou": "float64",
    "stability": "float64",
    "center_x": "float64",
    "center_y": "float64",
}


def propose(image: npt.NDArray[np.uint8], network: ProposalNetwork, key: str = "") -> pd.DataFrame:
    """All masks that a network finds in one image, as a mask table.

    Args:
        image: RGB, uint8 (H, W, 3).
        key: The key of the image from ``images.image_key``; some networks look up masks by it.

    Returns:
        One row per mask with the columns ``COLUMNS``. Bounding boxes include the first and the last
        pixel; areas are in pixels.
    """
    masks, predicted, stability = network.propose(image, key)
    if not len(masks):
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})
    if isinstance(masks, np.ndarray):
        rles, centers = run_lengths(masks), mask_centers(masks)
    else:
        rles = masks
        centers = np.concatenate([mask_centers(coco_mask.decode(rle)[None]) for rle in rles])
    boxes = coco_mask.toBbox(rles).astype(int)
    areas = coco_mask.area(rles).astype(int)
    frame = pd.DataFrame(
        {
            "mask_id": np.arange(len(masks)),
            "height": image.shape[0],
            "width": image.shape[1],
            "counts": [rle["counts"] for rle in rles],
            **dict(zip("xywh", boxes.T, strict=True)),
            "area": areas,
            "predicted_iou": predicted,
            "stability": stability,
            **dict(zip(("center_x", "center_y"), np.transpose(centers), strict=True)),
        }
    )
    return frame.astype(COLUMNS)


def propose_all(
    images: Sequence[npt.NDArray[np.uint8]], network: ProposalNetwork, keys: Sequence[str]
) -> Iterator[pd.DataFrame]:
    """``propose`` for each of some images, in order.

    On a GPU, networks that can encode images together, ``network.together`` of them, do so.
    """
    together = getattr(network, "together", 1)
    for start in range(0, len(keys), together):
        some = list(images[start : start + together])
        if len(some) > 1:
            network.encode(some)
        for image, key in zip(some, keys[start : start + together], strict=True):
            yield propose(image, network, key)


def mask_centers(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The mean pixel coordinates of each mask.

    Args:
        masks: (M, H, W) of 0 and 1.

    Returns:
        (M, 2) float, x and y in pixels from the centre of the top left pixel; NaN for an empty
        mask.
    """
    columns, rows = masks.sum(axis=1), masks.sum(axis=2)  # (M, W), (M, H) pixels
    area = rows.sum(axis=1)
    x = columns @ np.arange(masks.shape[2])
    y = rows @ np.arange(masks.shape[1])
    with np.errstate(invalid="ignore"):
        return np.stack([x, y], axis=1) / area[:, None]


def to_rles(masks: pd.DataFrame) -> list[dict[str, Any]]:
    """COCO run-length encodings of the rows of a mask table."""
    return [
        {"size": [int(h), int(w)], "counts": counts}
        for h, w, counts in zip(masks["height"], masks["width"], masks["counts"], strict=True)
    ]


def decode(masks: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Masks (M, H, W) of the rows of one image."""
    if not len(masks):
        return np.zeros((0, 0, 0), bool)
    return coco_mask.decode(to_rles(masks)).transpose(2, 0, 1).view(bool)


def decoded(masks: pd.DataFrame) -> Iterator[npt.NDArray[np.bool_]]:
    """``decode`` for a few rows at a time, as many as ``pixels_at_once`` allows."""
    size = int(masks["height"].iloc[0]) * int(masks["width"].iloc[0])
    together = max(1, pixels_at_once(64) // size)
    return (decode(masks.iloc[i : i + together]) for i in range(0, len(masks), together))


def intersections(
    rles: list[dict[str, Any]], others: list[dict[str, Any]]
) -> npt.NDArray[np.int64]:
    """Pixels that every mask of one list shares with every mask of another, (A, B).

    The result is exact: pycocotools counts on the run lengths, and its "crowd" ratio is the
    intersection divided by the area of the mask in the first list, which must not be empty.
    """
    if not rles or not others:
        return np.zeros((len(rles), len(others)), np.int64)
    ratio = coco_mask.iou(rles, others, [1] * len(others))
    return np.rint(ratio * coco_mask.area(rles)[:, None]).astype(np.int64)


def refine(masks: pd.DataFrame, settings: Settings) -> npt.NDArray[np.bool_]:
    """Which masks of one image survive the refinement (section 4.2).

    A mask is dropped if it is small, or if it is a subset of a larger one, that is, if they share
    more than the fraction ``settings.subset_overlap`` of its pixels. Of two masks of the same size
    the first is kept.

    Args:
        masks: Rows of one image.

    Returns:
        bool (M,).
    """
    if not len(masks):
        return np.zeros(0, bool)
    area = masks["area"].to_numpy()
    rles = to_rles(masks)
    shared = intersections(rles, rles) / np.minimum(area[:, None], area[None])
    order = np.arange(len(area))
    beats = (area[:, None] > area) | ((area[:, None] == area) & (order[:, None] < order))
    redundant = (beats & (shared > settings.subset_overlap)).any(0)
    size = int(masks["height"].iloc[0]), int(masks["width"].iloc[0])
    large = area >= settings.pixels_on(settings.min_mask_area, *size)
    return large & ~redundant


def best_proposals(sentences: pd.DataFrame, masks: pd.DataFrame) -> pd.DataFrame:
    """The mask with the largest IoU for each sentence: the upper bound for any choice.

    Args:
        sentences: As in ``datasets.Split``.
        masks: The mask table of these images.

    Returns:
        One row per sentence: intersection, union (pixels), iou, mask_id; 0, the area of the ground
        truth, 0 and -1 where the image has no mask.
    """
    rows_of = masks.groupby("image").indices
    area, mask_id = masks["area"].to_numpy(), masks["mask_id"].to_numpy()
    best = pd.DataFrame(
        {"intersection": 0, "union": sentences["truth_area"], "iou": 0.0, "mask_id": -1},
        index=sentences.index,
    )
    for image, group in sentences.groupby("image", sort=False):
        rows = rows_of.get(image, np.zeros(0, int))
        if not len(rows):
            continue
        shared = intersections_with_truth(group, masks.iloc[rows])
        union = area[rows] + group["truth_area"].to_numpy()[:, None] - shared
        pick = (shared / union).argmax(1)
        line = np.arange(len(group))
        best.loc[group.index, "intersection"] = shared[line, pick]
        best.loc[group.index, "union"] = union[line, pick]
        best.loc[group.index, "mask_id"] = mask_id[rows][pick]
    return best.assign(iou=best["intersection"] / best["union"])


def intersections_with_truth(sentences: pd.DataFrame, masks: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Pixels that the ground truth of each sentence shares with each mask of its image, (S, M)."""
    size = [int(masks["height"].iloc[0]), int(masks["width"].iloc[0])]
    truths = [{"size": size, "counts": counts} for counts in sentences["ground_truth"]]
    return intersections(to_rles(masks), truths).T


def apart(masks: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which masks of an image show different things: they hardly overlap, (M, M).

    Two masks overlap if they share more than ``SHARED`` of the smaller one.
    """
    rles = to_rles(masks)
    within = coco_mask.iou(rles, rles, [1] * len(rles))  # shared, as a share of each row's mask
    return np.maximum(within, within.T) <= SHARED
