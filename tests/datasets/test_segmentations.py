"""The check of masks: all formats of COCO, and malformed ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_dataset import BIRD, CAT, DOG, HEIGHT, SEGMENTATIONS, WIDTH, compressed
from pycocotools import mask as coco_mask

from tasnb.datasets.segmentations import FAR, decoded_counts, read_mask
from tasnb.settings import InputError

PIXELS = HEIGHT * WIDTH
SIZE = [HEIGHT, WIDTH]
TRIANGLE = [1, 1, 6, 1, 6, 6]


def read(segmentation: Any) -> np.ndarray:
    return coco_mask.decode(read_mask(segmentation, HEIGHT, WIDTH, "the mask")).astype(bool)


def runs(counts: Any, size: Any = SIZE) -> dict:
    return {"size": size, "counts": counts}


def test_all_forms() -> None:
    for key, mask in ((11, CAT), (12, DOG), (13, BIRD)):
        np.testing.assert_array_equal(read(SEGMENTATIONS[key]), mask)
    np.testing.assert_array_equal(read(runs(compressed(BIRD).encode())), BIRD)
    empty, full = runs([PIXELS]), runs([0, PIXELS])
    assert read(empty).sum() == 0 and read(full).sum() == PIXELS


def test_runs_of_a_crowd() -> None:
    """COCO writes crowds as a list of counts, independently of `iscrowd`."""
    counts = [0, 3, 7, 3, PIXELS - 13]
    np.testing.assert_array_equal(read({"counts": counts, "size": SIZE, "iscrowd": 1}), DOG)


@pytest.mark.parametrize("short", [[], [5, 5], [5, 5, 60, 60]])
def test_polygons_of_fewer_than_three_points_are_dropped(short: list) -> None:
    """First, last or in between; pycocotools would take a first one of two points for a box."""
    alone = read([TRIANGLE])
    for polygons in ([short, TRIANGLE], [TRIANGLE, short], [short, short, TRIANGLE, short]):
        np.testing.assert_array_equal(read(polygons), alone)
    with pytest.raises(InputError, match="has no polygon with at least three points"):
        read([short])


def test_polygons_beyond_the_edge() -> None:
    """Parts outside the image are cut off; nothing is left of a polygon entirely outside."""
    everything = [-50, -50, 5000, -50, 5000, 5000, -50, 5000]
    assert read([everything]).all()
    for x, y in ((5000, 5000), (-600, 2), (2, -600), (2, 600), (600, 2)):
        outside = [x, y, x + 100, y, x + 100, y + 100]
        assert not read([outside]).any()
        np.testing.assert_array_equal(read([outside, TRIANGLE]), read([TRIANGLE]))


WRONG = {
    "NaN": ([[float("nan"), 5, 6, 5, 6, 6]], "a coordinate of nan, which cannot belong to a"),
    "infinity": ([[1, 5, float("inf"), 5, 6, 6]], "a coordinate of inf, which"),
    "far to the right": ([[1, 1, 2.0e8, 3.5e8, 6, 6]], r"a coordinate of 2e\+08, .* 12 x 10 pix"),
    "far to the left": ([TRIANGLE, [1, 1, -FAR - 1, 2, 6, 6]], "a coordinate of -10001, which"),
    "far below": ([[1, 1, 6, 1, 6, FAR + HEIGHT + 1]], "a coordinate of 10011, which"),
    "larger than 64 bits": ([[1, 1, 6, 1, 6, 10**30]], "a polygon that is not a list of numbers"),
    "odd": (
        [[1, 2, 3]],
        r"a polygon that is not a list of numbers x, y, x, y, \.\.\.: \[1, 2, 3\]",
    ),
    "pairs": ([[[1, 1], [6, 1], [6, 6]]], "a polygon that is not a list of numbers"),
    "ragged": ([[[1, 1], [6]]], "a polygon that is not a list of numbers"),
    "texts": ([["1", "1", "6", "1", "6", "6"]], "a polygon that is not a list of numbers"),
    "truths": ([[True] * 6], "a polygon that is not a list of numbers"),
    "null in it": ([[None, 1, 6, 1, 6, 6]], "a polygon that is not a list of numbers"),
    "one flat polygon": (TRIANGLE, "a polygon that is not a list of numbers"),
    "no polygon": ([], "has no polygon"),
    "null": (
        None,
        "the mask is neither a list of polygons nor run lengths with size and counts: None",
    ),
    "a text": ("polygon", "is neither a list of polygons nor run lengths"),
    "no size": ({"counts": [PIXELS]}, "is neither a list of polygons nor run lengths"),
    "half the size": (
        runs([5, PIXELS - 5], [5, 6]),
        r"size \[5, 6\], but its image is \[10, 12\]",
    ),
    "width first": (
        runs([PIXELS], [WIDTH, HEIGHT]),
        r"size \[12, 10\], but its image is \[10, 12\]",
    ),
    "size of none": (runs([PIXELS], None), "run lengths of size None"),
    "short": (runs([5, 10]), "run lengths that cover 15 pixels, but its image has 120"),
    "long": (runs([5, 10, PIXELS]), "run lengths that cover 135 pixels"),
    "none": (runs([]), "run lengths that cover 0 pixels"),
    "empty text": (runs(""), "run lengths that cover 0 pixels"),
    "round the corner": (runs([2**62] * 4 + [PIXELS]), f"cover {2**64 + PIXELS} pixels"),
    "negative": (runs([-5, PIXELS + 5]), "counts that are not run lengths"),
    "fractions": (runs([0.5, PIXELS - 0.5]), "counts that are not run lengths"),
    "of 80 bits": (runs([2**80, 1]), "counts that are not run lengths"),
    "nested": (runs([[1, 2], [3, 4]]), "counts that are not run lengths"),
    "counts of null": (runs(None), "counts that are not run lengths"),
    "numbers as text": (runs("5 10 105"), "counts that are not run lengths: '5 10 105'"),
    "cut": (runs("0" + chr(48 + 33)), "counts that are not run lengths"),
    "endless number": (runs(chr(48 + 33) * 9 + "0"), "counts that are not run lengths"),
    "no ASCII": (runs("é€"), "counts that are not run lengths"),
    "short text": (runs(compressed(BIRD)[:-2]), "run lengths that cover"),
    "compressed, half the size": (runs(compressed(np.ones((5, 6)))), "that cover 30 pixels"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_mask_of_the_picture(what: str) -> None:
    segmentation, message = WRONG[what]
    with pytest.raises(InputError, match=message) as error:
        read(segmentation)
    assert str(error.value).startswith("the mask ") and "\n" not in str(error.value)


@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 40), st.integers(1, 40))
def test_the_counts_of_any_mask(seed: int, share: float, height: int, width: int) -> None:
    """Compared with run lengths counted by hand; pycocotools only compresses them."""
    mask = np.random.default_rng(seed).random((height, width)) < share
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    lengths = np.diff(np.concatenate([[0], edges, [mask.size]]))
    counts = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert decoded_counts(counts).tolist() == lengths.tolist()
    same = read_mask({"size": [height, width], "counts": lengths.tolist()}, height, width, "")
    assert same["counts"] == counts
    assert read_mask({"size": [height, width], "counts": counts}, height, width, "") == same


def test_long_runs() -> None:
    """With several characters each, as in large images."""
    mask = np.zeros((3000, 4000), np.uint8, order="F")
    mask[10:2990, 1000:1003], mask[:, 3500:] = 1, 1
    counts = coco_mask.encode(mask)["counts"]
    found = decoded_counts(counts)
    assert found.sum() == mask.size and found[1::2].sum() == mask.sum()


@given(st.binary(max_size=30))
def test_no_counts_are_taken_on_trust(counts: bytes) -> None:
    """Any bytes give either a mask whose pixels all come from the runs, or an error."""
    try:
        rle = read_mask({"size": SIZE, "counts": counts}, HEIGHT, WIDTH, "the mask")
    except InputError:
        return
    assert coco_mask.decode(rle).sum() == coco_mask.area(rle) == decoded_counts(counts)[1::2].sum()
