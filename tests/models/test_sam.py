"""Automatic masks with bounded memory are bit for bit those of the authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from painted import PICTURES
from pycocotools import mask as coco_mask
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam
from segment_anything.utils.amg import batched_mask_to_box
from waits import Waits

from tasnb.datasets.images import load_image
from tasnb.models.checkpoints import from_folder
from tasnb.models.run_lengths import from_changes
from tasnb.models.sam import MaskGenerator, boxes_of, build_sam
from tasnb.settings import ROOT


@pytest.fixture(scope="module")
def sam() -> Sam:
    folder = ROOT / "data" / "embedded" / "checkpoints" / "sam"
    return from_folder(folder, build_sam)


IMAGE = load_image(PICTURES[0])
PIXELS = IMAGE[..., 0].size


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"pred_iou_thresh": 0.4, "stability_score_thresh": 0.4},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
        {"pred_iou_thresh": 0.2, "stability_score_thresh": 0.0, "min_mask_region_area": 300},
        {"pred_iou_thresh": 0.2, "stability_score_thresh": 0.2, "points_per_batch": 5},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "crop_n_layers": 1},
        {"pred_iou_thresh": 1.0},  # nothing
    ],
)
def test_the_masks_are_the_authors(sam: Sam, options: dict[str, Any]) -> None:
    """The masks one at a time, seven at a time, and all together."""
    options = {"points_per_side": 4, **options}
    wanted = SamAutomaticMaskGenerator(sam, **options).generate(IMAGE)
    assert len(wanted) > 3 or options["pred_iou_thresh"] == 1.0
    for most in (1, 7 * PIXELS, 10**9):
        found = MaskGenerator(sam, most, **options).generate(IMAGE)
        assert len(found) == len(wanted)
        for mine, theirs in zip(found, wanted, strict=True):
            mask = theirs.pop("segmentation")
            rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
            assert mine.pop("segmentation") == {**rle, "counts": rle["counts"].decode()}
            np.testing.assert_equal(mine, theirs)  # NaN is the stability of an empty mask
            theirs["segmentation"] = mask


def test_boxes_are_the_authors() -> None:
    masks = torch.rand(9, 30, 40, generator=torch.Generator().manual_seed(0)) > 0.997
    masks[3] = False
    found, wanted = boxes_of(masks), batched_mask_to_box(masks)
    assert torch.equal(found, wanted) and found.dtype == wanted.dtype
    assert boxes_of(masks[:0]).shape == (0, 4)


def test_only_so_many_pixels_are_enlarged_at_a_time(
    sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    enlarged: list[int] = []
    whole = MaskGenerator._as_large_as_image

    def noted(self: MaskGenerator, logits: torch.Tensor) -> torch.Tensor:
        found = whole(self, logits)
        enlarged.append(found.numel())
        return found

    monkeypatch.setattr(MaskGenerator, "_as_large_as_image", noted)
    MaskGenerator(sam, 7 * PIXELS, points_per_side=4, pred_iou_thresh=0.0).generate(IMAGE)
    assert max(enlarged) == 7 * PIXELS and sum(enlarged) == 48 * PIXELS


def test_the_host_does_not_wait_for_each_mask(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    """As often for 43 masks as for a few, and for each batch of enlarged masks alike."""
    # As on a GPU.
    monkeypatch.setattr("tasnb.models.sam.CACHED_PIXELS", 10**9)
    monkeypatch.setattr(
        "tasnb.models.sam.compressed", lambda masks: from_changes(masks.transpose(1, 2))
    )
    options = {"points_per_side": 4, "stability_score_thresh": 0.01, "box_nms_thresh": 1.0}

    def asked(maker: Any, threshold: float, *most: int) -> tuple[int, int]:
        made = maker(sam, *most, pred_iou_thresh=threshold, **options)
        with Waits() as asking:
            found = made.generate(IMAGE)
        return len(found), sum(asking.count.values())

    (few, one), (many, same) = (asked(MaskGenerator, t, 10**9) for t in (0.85, 0.0))
    assert 0 < few < many - 10
    assert one == same < 20
    _, more = asked(MaskGenerator, 0.0, 12 * PIXELS)  # four batches
    assert one < more <= one + 3 * 4
    assert asked(SamAutomaticMaskGenerator, 0.0)[1] > many


def test_images_are_encoded_together(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [load_image(path) for path in PICTURES[:3]]
    options = {"points_per_side": 3, "pred_iou_thresh": 0.4, "stability_score_thresh": 0.4}
    wanted = [MaskGenerator(sam, 10**9, **options).generate(image) for image in images]
    sizes: list[int] = []
    whole = sam.image_encoder.forward
    monkeypatch.setattr(
        sam.image_encoder, "forward", lambda pixels: sizes.append(len(pixels)) or whole(pixels)
    )
    made = MaskGenerator(sam, 10**9, together=2, **options)
    with torch.inference_mode():
        made.encode(images)
        found = [made.generate(image) for image in images]
        assert sizes == [2, 1]
        made.generate(images[0][:-9])  # another image, though it begins at the same place
    assert sizes == [2, 1, 1]
    for mine, theirs in zip(found, wanted, strict=True):
        assert [one["segmentation"] for one in mine] == [one["segmentation"] for one in theirs]


@pytest.mark.slow
def test_fewer_are_enlarged_where_memory_does_not_suffice(
    sam: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real error of torch on the CPU for more than one mask."""
    whole = MaskGenerator._as_large_as_image

    def refused(self: MaskGenerator, logits: torch.Tensor) -> torch.Tensor:
        return whole(self, logits) if len(logits) < 2 else torch.empty(1 << 60)

    options = {"points_per_side": 3, "pred_iou_thresh": 0.3}
    wanted = MaskGenerator(sam, 10**9, **options).generate(IMAGE)
    monkeypatch.setattr(MaskGenerator, "_as_large_as_image", refused)
    assert MaskGenerator(sam, 10**9, **options).generate(IMAGE) == wanted
