"""Memory depends on settings and not on the image: large photos take only little more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from painted import PICTURES, QUICK
from PIL import Image

from tasnb import Pipeline, make_settings
from tasnb.datasets.images import load_image
from tasnb.method.masked_images import masked_images
from tasnb.method.proposals import decode
from tasnb.settings import ROOT

PROGRAM = f"""
import resource, sys, tasnb
answer = tasnb.segment(sys.argv[1], "the left one", store=sys.argv[2], **{QUICK})
assert len(answer.frame) and answer.overlay().size == answer.image.shape[1::-1]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(folder: Path, width: int, height: int) -> float:
    """MB that a new process uses for an image of this size, including its models."""
    path = folder / f"{width}.png"
    image = Image.open(PICTURES[2]).convert("RGB").resize((width, height))
    image.save(path, compress_level=1)
    command = [sys.executable, "-c", PROGRAM, str(path), str(folder / f"store{width}")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout) / 1024


@pytest.mark.slow
def test_a_photo_of_twelve_megapixels(tmp_path: Path) -> None:
    """27 masks of this size at 4 bytes per pixel would take 1,300 MB, as much as all the rest."""
    small, large = peak(tmp_path, 640, 480), peak(tmp_path, 4032, 3024)
    print(f"0.3 megapixels: {small:.0f} MB, 12: {large:.0f} MB")
    assert large < 1.5 * small


@pytest.mark.parametrize("form", ["crop", "blur"])
def test_masked_images_are_made_when_they_are_looked_at(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same results as all at once, and each image is read once for all of its masks."""
    pipeline = Pipeline(make_settings(store=str(tmp_path), limit=3, points_per_side=4))
    split = pipeline.split("refscenes", "val")
    masks = pipeline.refined(split.images)
    wanted = [
        picture
        for key, rows in masks.groupby("image", sort=False)
        for picture in masked_images(pipeline.pixels(split.images, key), decode(rows), form, 75)
    ]
    read: list[str] = []

    def noted(path: Path) -> np.ndarray:
        read.append(str(path))
        return load_image(path)

    monkeypatch.setattr("tasnb.method.stages.load_image", noted)
    rows, pictures = pipeline._masked(split.images, list(split.images), form)
    assert read == [] and len(pictures) == len(rows) == len(wanted) > 5
    for found, expected in zip(pictures, wanted, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert len(read) == len(set(rows["key"]))
