"""Renders the training scenes for the checkpoints, from other seeds than those for evaluation.

    python pool.py --pictures ~/fluent-emoji-3d/assets --out /tmp/pool --scenes 8000

writes ``<seed>.jpg`` (the scene), ``<seed>.png`` (a label map: 0 is the backdrop, n the n-th
object) and ``scenes.jsonl`` (descriptions of the objects). None of this is committed.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from scenes import Composer, Scene
from tqdm import tqdm

TRAINING_SEEDS = 1_000_000  # training scenes start here; evaluation and development are below


def label_map(scene: Scene) -> np.ndarray:
    """Label map, uint8 (H, W): 0 is the backdrop, n the n-th object from the back."""
    labels = np.zeros(scene.image.shape[:2], np.uint8)
    for number, thing in enumerate(scene.objects, start=1):
        labels[thing.mask] = number
    return labels


def describe(scene: Scene) -> dict:
    """The objects of a scene, in a form that JSON can store.

    Each has a ``box`` (left, top, right, bottom; the last two are outside) and a ``share`` of the
    image, both of its visible part.
    """
    objects = []
    for thing in scene.objects:
        ys, xs = np.nonzero(thing.mask)
        box = [int(v) for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)]
        objects.append(
            {
                **asdict(thing.look),
                "colour": thing.colour,
                "box": box,
                "share": round(thing.share, 4),
            }
        )
    return {"seed": scene.seed, "objects": objects}


def write_part(seeds: range, pictures: Path, out: Path) -> list[dict]:
    """Renders the scenes of some seeds and returns their descriptions."""
    cv2.setNumThreads(1)
    composer = Composer(pictures, unseen=False)
    rows = []
    for seed in seeds:
        scene = composer.scene(seed)
        bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(out / f"{seed}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])
        cv2.imwrite(str(out / f"{seed}.png"), label_map(scene))
        rows.append(describe(scene))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True, help="the emoji package's assets/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    parts = [
        range(seed, min(seed + 100, TRAINING_SEEDS + args.scenes))
        for seed in range(TRAINING_SEEDS, TRAINING_SEEDS + args.scenes, 100)
    ]
    work = partial(write_part, pictures=args.pictures, out=args.out)
    with ProcessPoolExecutor(args.workers) as pool, open(args.out / "scenes.jsonl", "w") as lines:
        for rows in tqdm(pool.map(work, parts), total=len(parts), unit="00 scenes"):
            lines.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
