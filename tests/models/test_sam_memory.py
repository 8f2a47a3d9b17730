"""SAM ViT-B with random weights: peak memory on pictures of 0.3, 3 and 12 megapixels, and masks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from segment_anything import SamAutomaticMaskGenerator, sam_model_registry

from tasnb.models.devices import pixels_at_once
from tasnb.models.sam import MaskGenerator
from tasnb.settings import ROOT

pytestmark = pytest.mark.real_size

PROGRAM = """
import sys
import numpy as np, torch
from segment_anything import sam_model_registry
from tasnb.models.devices import forget_peak, peak_mb, pixels_at_once
from tasnb.models.sam import MaskGenerator
width, height = map(int, sys.argv[1:])
torch.manual_seed(0)
sam = sam_model_registry["vit_b"]().eval()
picture = np.random.default_rng(0).integers(0, 256, (height // 32, width // 32, 3), np.uint8)
picture = picture.repeat(32, 0).repeat(32, 1)
# No mask of random weights would pass the thresholds of a real profile; all are alike in their box.
options = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
generator = MaskGenerator(sam, pixels_at_once(64), box_nms_thresh=1.0, **options)
set_image, before = generator.predictor.set_image, []
def encode(image):
    set_image(image)
    before.append(peak_mb())  # encoding takes the most, whatever the picture's size
    forget_peak()
generator.predictor.set_image = encode
with torch.inference_mode():
    found = generator.generate(picture)
print(len(found), max(before[0], peak_mb()), peak_mb())
"""


def peaks(width: int, height: int) -> tuple[float, float]:
    """MB that a new process needs for a picture, its model included: in all, and after encoding."""
    command = [sys.executable, "-c", PROGRAM, str(width), str(height)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    count, most, later = done.stdout.split()
    assert int(count) == 48
    print(f"{width} x {height}: {count} masks, {float(most):.0f} MB, then {float(later):.0f} MB")
    return float(most), float(later)


def test_memory_depends_on_settings_and_not_on_the_picture() -> None:
    small, *larger = (peaks(*size) for size in ((640, 480), (2048, 1536), (4032, 3008)))
    for most, later in larger:
        assert most <= 1.5 * small[0]
        assert later <= 1.5 * small[1]


def test_the_masks_are_the_authors_to_the_bit() -> None:
    """At 0.3 megapixels, a few of them enlarged at a time and all together."""
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]().eval()
    picture = np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)
    picture = picture.repeat(32, 0).repeat(32, 1)
    # No mask of random weights would pass the thresholds of a real profile.
    options = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    options["box_nms_thresh"] = 1.0
    theirs = SamAutomaticMaskGenerator(sam, output_mode="uncompressed_rle", **options)
    with torch.inference_mode():
        wanted = theirs.generate(picture)
        encoded = theirs.predictor  # which keeps the features of this picture
        encoded.set_image(picture)
        for most in (pixels_at_once(64), pixels_at_once(4)):
            ours = MaskGenerator(sam, most, **options)
            predictor = ours.predictor
            predictor._encoded = [(picture, encoded.input_size, encoded.features)]
            found = ours.generate(picture)
            assert len(found) == len(wanted) == 27
            for mine, other in zip(found, wanted, strict=True):
                rle = coco_mask.frPyObjects(other["segmentation"], *picture.shape[:2])
                assert mine["segmentation"]["counts"] == rle["counts"].decode()
                assert mine["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-5)
