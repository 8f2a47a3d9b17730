"""Run lengths of masks on any device are those of COCO's own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from tasnb.models.run_lengths import compressed, from_changes, run_lengths


@pytest.mark.parametrize("count", [0, 1, 5])
def test_both_ways_find_the_same(count: int) -> None:
    masks = np.random.default_rng(0).random((count, 7, 12)) < 0.4
    if count == 5:
        masks[1], masks[2] = False, True
        masks[3, 0, 0] = True  # runs that begin with ones
    wanted = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    assert run_lengths(masks) == wanted
    assert compressed(torch.as_tensor(masks)) == wanted
    assert from_changes(torch.as_tensor(masks).transpose(1, 2)) == wanted
