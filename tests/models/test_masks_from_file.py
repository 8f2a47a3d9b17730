"""Masks from a file: masks that do not fit the image are rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_dataset import BIRD, CAT, DOG, HEIGHT, SEGMENTATIONS, WIDTH
from pycocotools import mask as coco_mask

from tasnb.models.proposal_networks import load_proposal_network
from tasnb.settings import InputError, make_settings

PICTURE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
KEY = "000007-0123456789ab"


def proposed(folder: Path, *segmentations: Any) -> np.ndarray:
    path = folder / "masks.json"
    rows = [{"image_id": 7, "segmentation": s, "score": 0.5} for s in segmentations]
    path.write_text(json.dumps(rows))
    network = load_proposal_network(make_settings(proposal_network=f"file:{path}"))
    masks = network.propose(PICTURE, KEY)[0]
    return coco_mask.decode(masks).transpose(2, 0, 1).astype(bool)


def test_all_forms(tmp_path: Path) -> None:
    masks = proposed(tmp_path, *SEGMENTATIONS.values())
    np.testing.assert_array_equal(masks, [CAT, DOG, BIRD])


def test_one_that_is_empty_is_no_proposal(tmp_path: Path) -> None:
    empty = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    np.testing.assert_array_equal(proposed(tmp_path, empty, SEGMENTATIONS[12]), [DOG])


@pytest.mark.parametrize(
    ("counts", "message"),
    [([50, 60], "has run lengths that cover 110 pixels, but its image has 120"),
     ([50, 60, 240], "that cover 350 pixels"), ("", "that cover 0 pixels"),
     ([], "that cover 0 pixels"), ("50 60 10", "has counts that are not run lengths")],
)  # fmt: skip
def test_counts_that_do_not_fill_the_picture(tmp_path: Path, counts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        proposed(tmp_path, {"size": [HEIGHT, WIDTH], "counts": counts})
    text = str(error.value)
    assert text.startswith(f"{tmp_path}/masks.json: a mask of image {KEY} ") and "\n" not in text


def test_a_mask_of_another_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"size \[12, 10\], but its image is \[10, 12\]"):
        proposed(tmp_path, {"size": [WIDTH, HEIGHT], "counts": [60, 60]})
    with pytest.raises(InputError, match="a coordinate of nan"):
        proposed(tmp_path, [[float("nan"), 1, 5, 1, 5, 5]])


def test_a_digest_is_no_number_of_an_image(tmp_path: Path) -> None:
    """The file "cover.jpg" has no number; the digest in its key may end in one."""
    path = tmp_path / "masks.json"
    path.write_text(json.dumps([{"image_id": 7, "segmentation": SEGMENTATIONS[12]}]))
    network = load_proposal_network(make_settings(proposal_network=f"file:{path}"))
    assert len(network.propose(PICTURE, KEY)[0]) == 1
    assert len(network.propose(PICTURE, "cover-abcdefabcde7")[0]) == 0
