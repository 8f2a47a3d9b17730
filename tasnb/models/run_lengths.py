"""Masks as COCO's compressed run lengths, which take kilobytes where pixels take megabytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from tasnb.models.devices import to_numpy

if TYPE_CHECKING:
    from torch import Tensor

RunLengths = dict[str, Any]
"""A mask in COCO's run-length encoding: size [h, w] and counts (bytes)."""


def run_lengths(masks: Iterable[npt.ArrayLike]) -> list[RunLengths]:
    """Run-length encodings of masks (H, W)."""
    return [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


def compressed(masks: Tensor) -> list[RunLengths]:
    """Run-length encodings of bool masks (M, H, W) on any device."""
    down = masks.transpose(1, 2)
    if down.is_cuda:
        return from_changes(down)
    # COCO's own code reads column by column, mask by mask.
    return coco_mask.encode(to_numpy(down.contiguous()).view(np.uint8).T)


def from_changes(down: Tensor) -> list[RunLengths]:
    """Run-length encodings of transposed bool masks (M, W, H) on any device.

    Only the places where masks change are copied from a GPU, those of all masks together.
    """
    import torch

    count, width, height = down.shape
    down = down.flatten(1)  # column by column
    owner, at = torch.nonzero(down[:, 1:] ^ down[:, :-1], as_tuple=True)
    ends = torch.searchsorted(owner, torch.arange(count + 1, device=owner.device))
    numbers = to_numpy(torch.cat([down[:, 0].long(), ends, at]))
    first, ends, at = np.split(numbers, [count, 2 * count + 1])
    found = []
    for row in range(count):
        runs = np.diff(at[ends[row] : ends[row + 1]] + 1, prepend=0, append=height * width)
        counts = np.concatenate([np.zeros(first[row], int), runs])  # the first run is of zeros
        rle = {"size": [height, width], "counts": counts}
        found.append(coco_mask.frPyObjects(rle, height, width))
    return found
