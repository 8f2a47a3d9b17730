"""A photograph of 12 megapixels and a file with 60 masks in it, made up for tests."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from painted import QUICK
from PIL import Image
from pycocotools import mask as coco_mask

from tasnb.explorer.content import View
from tasnb.segmentation.explore import Session
from tasnb.settings import make_settings

HEIGHT, WIDTH, ROWS, COLUMNS = 3000, 4000, 6, 10
MASKS = ROWS * COLUMNS
EXPRESSION = "the left thing"


def blob(random: np.random.Generator, x: float, y: float) -> np.ndarray:
    """A mask (H, W) with a wavy outline around a centre."""
    angle = np.linspace(0, 2 * np.pi, 600, endpoint=False)
    waves = sum(
        random.normal(0, 30 / k) * np.sin(k * angle + random.uniform(0, 6)) for k in range(2, 40)
    )
    radius = np.clip(178 + waves, 130, 199)
    points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)
    return cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [np.rint(points).astype(np.int32)], 1)


def large_view(folder: Path, **settings: object) -> View:
    """The explorer's view of that photograph, of which a store in the folder is left."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (HEIGHT // 50, WIDTH // 50, 3), dtype=np.uint8)
    grain = random.integers(0, 25, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) // 2 + 50 + grain
    Image.fromarray(pixels).save(folder / "large_7.jpg", quality=90)
    rows = []
    for k in range(MASKS):
        x, y = (k % COLUMNS + 0.5) * WIDTH / COLUMNS, (k // COLUMNS + 0.5) * HEIGHT / ROWS
        rle = coco_mask.encode(np.asfortranarray(blob(random, x, y)))
        rle = {"size": rle["size"], "counts": rle["counts"].decode()}
        rows.append({"image_id": 7, "segmentation": rle, "score": 1 - k / 100})
    (folder / "masks.json").write_text(json.dumps(rows))
    own = {"store": str(folder / "store"), "proposal_network": f"file:{folder / 'masks.json'}"}
    session = Session(
        make_settings(**{**QUICK, **own, **settings}), str(folder / "large_7.jpg"), EXPRESSION
    )
    return session.view()
