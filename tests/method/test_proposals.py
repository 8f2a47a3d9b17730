"""Proposals: the mask table, its refinement (section 4.2) and the best mask for a sentence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from tasnb.method import proposals
from tasnb.method.proposals import (
    COLUMNS,
    apart,
    best_proposals,
    decode,
    decoded,
    intersections,
    intersections_with_truth,
    mask_centers,
    propose,
    refine,
    to_rles,
)
from tasnb.models.sam import build_sam
from tasnb.settings import Settings, make_settings

Masks = npt.NDArray[np.bool_]
HEIGHT, WIDTH = 10, 12
TINY = {
    "image_size": 64, "patch_size": 16, "encoder_width": 16, "encoder_depth": 2,
    "encoder_heads": 2, "global_attention": [1], "window_size": 2, "prompt_width": 16,
    "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp": 16, "iou_head_width": 16,
}  # fmt: skip


class Given:
    """A proposal network that returns the masks it was given."""

    def __init__(self, masks: Masks) -> None:
        self.masks = masks

    def propose(self, image: npt.NDArray[np.uint8], key: str) -> tuple:
        count = len(self.masks)
        return self.masks, np.linspace(0.9, 0.5, count), np.linspace(0.5, 0.9, count)


def box(top: int, left: int, bottom: int, right: int) -> Masks:
    """A mask of rows top to bottom and columns left to right, the last ones excluded."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def table(*masks: Masks) -> pd.DataFrame:
    stack = np.array(masks, bool).reshape(-1, HEIGHT, WIDTH)
    return propose(np.zeros((*stack.shape[1:], 3), np.uint8), Given(stack))


def absolute(least: float) -> Settings:
    return make_settings(min_mask_area=least, areas_of=None)


# --- the mask table


def test_rows_of_the_mask_table(monkeypatch: pytest.MonkeyPatch) -> None:
    corner = box(0, 0, 1, 1)
    far = box(7, 9, 10, 12)  # touches the last row and the last column
    ends = box(2, 3, 3, 4) | box(2, 7, 3, 8)  # two pixels, five columns from first to last
    frame = table(corner, far, ends)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["mask_id"].tolist() == [0, 1, 2]
    assert frame[["height", "width"]].drop_duplicates().values.tolist() == [[HEIGHT, WIDTH]]
    assert frame[list("xywh")].values.tolist() == [[0, 0, 1, 1], [9, 7, 3, 3], [3, 2, 5, 1]]
    assert frame["area"].tolist() == [1, 9, 2]
    assert frame[["center_x", "center_y"]].values.tolist() == [[0, 0], [10, 8], [5, 2]]
    assert frame["predicted_iou"].tolist() == [0.9, 0.7, 0.5]
    assert frame["stability"].tolist() == [0.5, 0.7, 0.9]
    np.testing.assert_array_equal(decode(frame), [corner, far, ends])
    np.testing.assert_array_equal(decode(frame.iloc[[2]]), [ends])
    for pixels, together in ((1, [1, 1, 1]), (2 * corner.size, [2, 1]), (10**9, [3])):
        monkeypatch.setattr(proposals, "pixels_at_once", lambda _, pixels=pixels: pixels)
        parts = list(decoded(frame))
        assert [len(part) for part in parts] == together
        np.testing.assert_array_equal(np.concatenate(parts), [corner, far, ends])


def test_an_image_without_masks_has_a_table_of_the_same_kind() -> None:
    none, some = table(), table(box(0, 0, 2, 2))
    assert len(none) == 0
    assert none.dtypes.to_dict() == some.dtypes.to_dict()
    assert len(decode(none)) == 0


# --- refinement

SQUARE = box(0, 0, 5, 10)  # 50 pixels
REFINED = [
    ("a subset goes", [box(0, 0, 4, 10), SQUARE], [0, 1]),
    ("apart, both stay", [SQUARE, box(6, 0, 8, 10)], [1, 1]),
    ("of equals the first stays", [SQUARE, SQUARE, SQUARE], [1, 0, 0]),
    ("equal areas, little shared", [box(0, 0, 5, 10), box(4, 0, 9, 10)], [1, 1]),
    # the middle mask is dropped but still drops the small one, which is no subset of the large one
    ("chain of three", [box(0, 0, 10, 6), box(1, 0, 9, 6) | box(2, 6, 6, 7), box(2, 4, 4, 7)],
     [1, 0, 0]),
    ("nested", [box(1, 1, 3, 3), box(0, 0, 5, 5), box(0, 0, 9, 9)], [0, 0, 1]),
    ("exactly 0.9 stays", [SQUARE, box(0, 0, 2, 9) | box(7, 0, 9, 1)], [1, 1]),  # 18 of 20
    ("just above 0.9 goes", [SQUARE, box(0, 0, 2, 10) | box(7, 0, 8, 2)], [1, 0]),  # 20 of 22
    ("a hole is no subset", [box(0, 0, 9, 9) & ~box(3, 3, 5, 5), box(3, 3, 5, 5)], [1, 1]),
    ("one", [SQUARE], [1]),
    ("none", [], []),
]  # fmt: skip


@pytest.mark.parametrize(("masks", "kept"), [r[1:] for r in REFINED], ids=[r[0] for r in REFINED])
def test_refinement(masks: list[Masks], kept: list[int]) -> None:
    found = refine(table(*masks), absolute(0))
    assert found.dtype == bool and found.tolist() == [bool(k) for k in kept]


def test_small_masks_go_and_nothing_may_be_left() -> None:
    masks = table(box(0, 0, 1, 7), box(0, 8, 2, 12), box(5, 0, 6, 9))  # 7, 8 and 9 pixels
    assert refine(masks, absolute(8)).tolist() == [False, True, True]
    assert not refine(masks, absolute(10)).any()


def test_the_least_area_is_absolute_or_a_share_of_the_image() -> None:
    scaled = make_settings()
    assert scaled.pixels_on(2000.0, 480, 640) == 2000
    assert scaled.pixels_on(2000.0, 240, 320) == 500
    assert scaled.pixels_on(2000.0, 640, 480) == 2000
    assert absolute(2000).pixels_on(2000.0, 240, 320) == 2000
    # 120 pixels of 640 x 480 are 3/64 of a pixel here: all masks stay; unscaled, none does
    masks = table(box(0, 0, 1, 1))
    assert refine(masks, make_settings(min_mask_area=120.0)).all()
    assert not refine(masks, absolute(120)).any()


def slowly(masks: Masks, least: float, subset: tuple[int, int]) -> list[bool]:
    """Section 4.2 pixel by pixel; an overlap above subset[0] / subset[1] makes a mask a subset."""
    sets = [{(y, x) for y, x in zip(*np.nonzero(mask), strict=True)} for mask in masks]
    kept = [len(pixels) >= least for pixels in sets]
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            if i == j or len(a) < len(b) or (len(a) == len(b) and i > j):
                continue  # only larger masks, or earlier ones of the same size, drop others
            if len(a & b) * subset[1] > subset[0] * len(b):
                kept[j] = False
    return kept


@given(
    arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))),
    st.integers(0, 6),
    st.sampled_from([(9, 10), (1, 2), (2, 5)]),
)
def test_refinement_is_the_double_loop(masks: Masks, least: int, subset: tuple[int, int]) -> None:
    masks = masks[masks.any((1, 2))]
    image = np.zeros((*masks.shape[1:], 3), np.uint8)
    settings = make_settings(
        min_mask_area=float(least), areas_of=None, subset_overlap=subset[0] / subset[1]
    )
    assert refine(propose(image, Given(masks)), settings).tolist() == slowly(masks, least, subset)


@given(arrays(bool, (4, 7, 9)), arrays(bool, (3, 7, 9)))
def test_intersections_are_exact(masks: Masks, others: Masks) -> None:
    masks = masks[masks.any((1, 2))]  # the first must not be empty; the others may be
    image = np.zeros((7, 9, 3), np.uint8)
    rles = [coco_mask.encode(np.asfortranarray(m.astype(np.uint8))) for m in others]
    found = intersections(to_rles(propose(image, Given(masks))), rles)
    np.testing.assert_array_equal(found, (masks[:, None] & others[None]).sum((2, 3)))


def test_intersections_of_large_masks_are_exact() -> None:
    masks = np.random.default_rng(0).random((6, 480, 640)) < 0.5
    rles = to_rles(propose(np.zeros((480, 640, 3), np.uint8), Given(masks)))
    flat = masks.reshape(6, -1).astype(np.int64)
    np.testing.assert_array_equal(intersections(rles, rles), flat @ flat.T)
    assert intersections([], rles).shape == (0, 6) and intersections(rles, []).shape == (6, 0)


# --- the upper bound


def sentences(*rows: tuple[str, Masks]) -> pd.DataFrame:
    truths = [coco_mask.encode(np.asfortranarray(m.astype(np.uint8))) for _, m in rows]
    columns = {"image": [image for image, _ in rows], "ground_truth": [t["counts"] for t in truths]}
    return pd.DataFrame({**columns, "truth_area": [int(m.sum()) for _, m in rows]})


def test_best_proposals_by_hand() -> None:
    first = table(box(0, 0, 2, 4), box(0, 0, 4, 4)).assign(image="a", mask_id=[7, 9])
    other = table(box(5, 5, 6, 9)).assign(image="b")
    asked = sentences(
        ("b", box(5, 5, 6, 8)),  # 3 of 4
        ("a", box(0, 0, 3, 4)),  # 8 of 12 against 12 of 16
        ("none", box(0, 0, 1, 5)),
        ("a", box(9, 0, 10, 3)),  # touches neither: the first mask
    )
    best = best_proposals(asked, pd.concat([first, other], ignore_index=True))
    assert best["mask_id"].tolist() == [0, 9, -1, 7]
    assert best["intersection"].tolist() == [3, 12, 0, 0]
    assert best["union"].tolist() == [4, 16, 5, 11]
    assert best["iou"].tolist() == [0.75, 0.75, 0, 0]
    shared = intersections_with_truth(asked.iloc[[1, 3]], first)
    assert shared.tolist() == [[8, 12], [0, 0]]


def test_best_proposals_without_any_mask() -> None:
    best = best_proposals(sentences(("a", box(0, 0, 2, 2))), table().assign(image=[]))
    assert best.iloc[0].tolist() == [0, 4, 0, -1]


# --- the real network


@pytest.mark.parametrize("shape", [(40, 60), (64, 64), (90, 50)])
def test_a_tiny_sam_gives_well_formed_rows(shape: tuple[int, int]) -> None:
    import torch
    from segment_anything import SamAutomaticMaskGenerator

    torch.manual_seed(0)
    generator = SamAutomaticMaskGenerator(
        build_sam(TINY).eval(),
        points_per_side=3,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
    )
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    found = [row for row in generator.generate(image) if row["area"]]
    masks = np.array([row["segmentation"] for row in found])
    assert len(masks)
    frame = propose(image, Given(masks))
    assert frame["area"].tolist() == [row["area"] for row in found]
    for row, mask in zip(frame.itertuples(), decode(frame), strict=True):
        ys, xs = np.nonzero(mask)
        assert (row.x, row.x + row.w - 1) == (xs.min(), xs.max())
        assert (row.y, row.y + row.h - 1) == (ys.min(), ys.max())
        assert (row.center_x, row.center_y) == pytest.approx((xs.mean(), ys.mean()))
        assert mask.shape == shape and mask.sum() == row.area


def test_mask_centers_are_mean_pixel_coordinates() -> None:
    masks = np.zeros((3, 4, 6), bool)
    masks[0, 1, 2] = True  # one pixel at x 2, y 1
    masks[1, 0:2, 0:4] = True  # x 0..3, y 0..1
    masks[2, 0, 0] = masks[2, 3, 0] = masks[2, 3, 5] = True  # x (0 + 0 + 5) / 3, y (0 + 3 + 3) / 3
    np.testing.assert_allclose(mask_centers(masks), [[2, 1], [1.5, 0.5], [5 / 3, 2]])


def test_mask_centers_of_no_masks_and_of_an_empty_mask() -> None:
    assert mask_centers(np.zeros((0, 4, 6), bool)).shape == (0, 2)
    assert np.isnan(mask_centers(np.zeros((1, 4, 6), bool))).all()


def test_masks_that_show_different_things() -> None:
    """They share at most a tenth of the smaller one."""
    masks = table(box(0, 0, 5, 12), box(1, 1, 3, 3), box(4, 0, 10, 12), box(6, 0, 10, 12))
    wanted = [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 0]]
    assert apart(masks).tolist() == np.array(wanted, bool).tolist()
