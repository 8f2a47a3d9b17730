"""Natural crops and downscaled whole scenes from the training scenes, for CLIP and captioners."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

STORED = 96  # side of a stored crop in pixels; training uses a random part of it
CONTEXT = 0.3  # margin on each side, relative to the object's longer side


def natural_crop(
    image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """The object with its surroundings, resized to a square, (STORED, STORED, 3)."""
    ys, xs = np.nonzero(mask)
    side = max(np.ptp(xs) + 1, np.ptp(ys) + 1) * (1 + 2 * CONTEXT)
    cx, cy = (xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2
    left, right = max(0, round(cx - side / 2)), min(image.shape[1], round(cx + side / 2))
    top, bottom = max(0, round(cy - side / 2)), min(image.shape[0], round(cy + side / 2))
    crop = image[top:bottom, left:right]
    inter = cv2.INTER_AREA if crop.shape[0] > STORED else cv2.INTER_LINEAR
    return cv2.resize(crop, (STORED, STORED), interpolation=inter)


def load(
    pool: Path, scenes: int
) -> tuple[npt.NDArray[np.uint8], list[dict], npt.NDArray[np.uint8], list[dict]]:
    """Crops (C, S, S, 3) with their objects, and scenes (N, S, S, 3) with their contents.

    The first call saves the arrays in the pool's folder; later calls memory-map them.
    """
    cache = pool / f"crops-{scenes}"
    if not (cache / "done.json").is_file():
        cache.mkdir(exist_ok=True)
        lines = (pool / "scenes.jsonl").read_text().splitlines()[:scenes]
        rows = [json.loads(line) for line in lines]
        crops, things, wholes, held = [], [], [], []
        for row in tqdm(rows, desc="cutting crops", mininterval=5):
            image = cv2.cvtColor(cv2.imread(str(pool / f"{row['seed']}.jpg")), cv2.COLOR_BGR2RGB)
            labels = cv2.imread(str(pool / f"{row['seed']}.png"), cv2.IMREAD_UNCHANGED)
            shares = []
            for number, thing in enumerate(row["objects"], start=1):
                mask = labels == number
                shares.append(float(mask.mean()))
                crops.append(natural_crop(image, mask))
                things.append(thing)
            wholes.append(cv2.resize(image, (STORED, STORED), interpolation=cv2.INTER_AREA))
            held.append({"objects": row["objects"], "shares": shares})
        np.save(cache / "crops.npy", np.stack(crops))
        np.save(cache / "scenes.npy", np.stack(wholes))
        (cache / "done.json").write_text(json.dumps({"things": things, "scenes": held}))
    meta = json.loads((cache / "done.json").read_text())
    return (
        np.load(cache / "crops.npy", mmap_mode="r"),
        meta["things"],
        np.load(cache / "scenes.npy", mmap_mode="r"),
        meta["scenes"],
    )


def augment(
    stored: npt.NDArray[np.uint8], size: int, rng: np.random.Generator, least: float = 0.62
) -> npt.NDArray[np.uint8]:
    """A random part of each stored crop (B, S, S, 3), mirrored half of the time, (B, s, s, 3)."""
    out = np.empty((len(stored), size, size, 3), np.uint8)
    for i, crop in enumerate(stored):
        side = int(STORED * rng.uniform(least, 1.0))
        # the object is in the middle of the crop, so the part is taken near it
        slack = STORED - side
        x, y = (int(np.clip(rng.normal(slack / 2, slack / 6 + 1e-6), 0, slack)) for _ in range(2))
        part = cv2.resize(
            crop[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA
        )
        out[i] = part[:, ::-1] if rng.random() < 0.5 else part
    return out
