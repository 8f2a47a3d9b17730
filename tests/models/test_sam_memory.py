"""Peak memory of SAM ViT-B with random weights on pictures of 0.3, 3 and 12 megapixels."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tasnb.settings import ROOT

pytestmark = pytest.mark.real_size

PROGRAM = """
import sys
import numpy as np, torch
from segment_anything import sam_model_registry
from tasnb.models.devices import peak_mb, pixels_at_once
from tasnb.models.sam import MaskGenerator
width, height = map(int, sys.argv[1:])
torch.manual_seed(0)
sam = sam_model_registry["vit_b"]().eval()
picture = np.random.default_rng(0).integers(0, 256, (height // 32, width // 32, 3), np.uint8)
picture = picture.repeat(32, 0).repeat(32, 1)
# No mask of random weights would pass the thresholds of a real profile.
options = {"points_per_side": 8, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
generator = MaskGenerator(sam, pixels_at_once(64), box_nms_thresh=1.0, **options)
with torch.inference_mode():
    found = generator.generate(picture)
print(len(found), peak_mb())
"""


def peak(width: int, height: int) -> float:
    """MB that a new process needs for a picture, its model included."""
    command = [sys.executable, "-c", PROGRAM, str(width), str(height)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    count, memory = done.stdout.split()
    assert int(count) > 100
    print(f"{width} x {height}: {count} masks, {float(memory):.0f} MB")
    return float(memory)


def test_memory_depends_on_settings_and_not_on_the_picture() -> None:
    small, *larger = (peak(*size) for size in ((640, 480), (2048, 1536), (4032, 3008)))
    assert max(larger) <= 1.5 * small
