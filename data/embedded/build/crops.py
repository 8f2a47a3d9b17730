"""Natural crops and whole scenes, drawn from the training scenes while CLIP and captioners learn.

No crop is drawn twice alike: window, scale, sharpness, light and compression vary. No crop is ever
masked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

Image = npt.NDArray[np.uint8]
T = TypeVar("T")

STORED = 96  # side of a natural crop in pixels, as used for measurements
CONTEXT = 0.3  # its margin on each side, relative to the object's longer side


def natural_crop(image: Image, mask: npt.NDArray[np.bool_]) -> Image:
    """The object with its surroundings, resized to a square, (STORED, STORED, 3)."""
    ys, xs = np.nonzero(mask)
    return square(image, (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), CONTEXT, STORED)


def square(
    image: Image,
    box: tuple[int, int, int, int],
    margin: float,
    size: int,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Image:
    """A square window around a box, cut off at the image's borders and resized to a square.

    Args:
        box: left, top, right, bottom; the last two are outside.
        margin: On each side, relative to the box's longer side.
        size: Side of the result in pixels.
        shift: Of the window to the right and downwards, relative to the box's longer side.
    """
    left, top, right, bottom = box
    longer = max(right - left, bottom - top)
    side = longer * (1 + 2 * margin)
    x, y = (left + right) / 2 + shift[0] * longer, (top + bottom) / 2 + shift[1] * longer
    rows = slice(max(0, round(y - side / 2)), min(image.shape[0], round(y + side / 2)))
    columns = slice(max(0, round(x - side / 2)), min(image.shape[1], round(x + side / 2)))
    return resized(image[rows, columns], size)


def resized(image: Image, size: int) -> Image:
    """An image, resized to a square."""
    inter = cv2.INTER_AREA if min(image.shape[:2]) > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=inter)


def barred(image: Image, box: tuple[int, int, int, int], margin: float, size: int) -> Image:
    """The box with a margin, padded to a square with black bars, as captioners are shown images."""
    left, top, right, bottom = box
    grow = round(margin * max(right - left, bottom - top))
    part = image[max(0, top - grow) : bottom + grow, max(0, left - grow) : right + grow]
    height, width = part.shape[:2]
    tall, wide = max(width - height, 0), max(height - width, 0)
    bars = (tall // 2, tall - tall // 2), (wide // 2, wide - wide // 2), (0, 0)
    return resized(np.pad(part, bars), size)


class Pool:
    """The training scenes in a folder from ``pool.py``.

    Args:
        folder: The folder.
        scenes: Use this many of them.
        bars: Share of the crops that are rectangular, padded to a square with black bars.
        margin: Least margin of the other crops, relative to the object's longer side.
        varied: Whether light, sharpness and compression vary.
    """

    def __init__(
        self,
        folder: Path,
        scenes: int,
        bars: float = 0.0,
        margin: float = 0.0,
        varied: bool = True,
    ) -> None:
        lines = (folder / "scenes.jsonl").read_text().splitlines()[:scenes]
        self.folder, self.bars, self.margin, self.varied = folder, bars, margin, varied
        self.scenes: list[dict] = [json.loads(line) for line in lines]

    def _image(self, scene: dict) -> Image:
        return cv2.cvtColor(
            cv2.imread(str(self.folder / f"{scene['seed']}.jpg")), cv2.COLOR_BGR2RGB
        )

    def crops(self, count: int, size: int, rng: np.random.Generator) -> tuple[Image, list[dict]]:
        """Crops (count, size, size, 3) and the objects that they show, two per scene."""
        images, things = np.empty((count, size, size, 3), np.uint8), []
        for pick in rng.integers(0, len(self.scenes), (count + 1) // 2):
            scene = self.scenes[pick]
            image = self._image(scene)
            for number in rng.permutation(len(scene["objects"]))[: min(2, count - len(things))]:
                thing = scene["objects"][number]
                images[len(things)] = self._crop(image, thing["box"], size, rng)
                things.append(thing)
        return images, things

    def _crop(self, image: Image, box: list[int], size: int, rng: np.random.Generator) -> Image:
        # a small object is enlarged to the input's size, so a large one may be as coarse
        small = round(size * rng.uniform(0.4, 1)) if rng.random() < 0.25 else size
        if rng.random() < self.bars:
            crop = barred(image, tuple(box), rng.uniform(0, 0.15), small)
        else:
            shift = tuple(rng.normal(0, 0.06, 2))
            crop = square(image, tuple(box), rng.uniform(self.margin, 0.34), small, shift)
        return resized(changed(crop, rng, self.varied), size)

    def wholes(
        self, count: int, size: int, rng: np.random.Generator
    ) -> tuple[Image, list[list[dict]]]:
        """Whole scenes (count, size, size, 3) and their objects."""
        picks = [self.scenes[pick] for pick in rng.integers(0, len(self.scenes), count)]
        images = [changed(resized(self._image(scene), size), rng, self.varied) for scene in picks]
        return np.stack(images), [scene["objects"] for scene in picks]


def changed(image: Image, rng: np.random.Generator, varied: bool = True) -> Image:
    """A version of a crop: mirrored and, if ``varied``, lighter, darker, blurred or compressed."""
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    if not varied:
        return image
    if rng.random() < 0.5:
        gain, shift = rng.uniform(0.85, 1.15), rng.uniform(-10, 10, 3)
        table = np.clip(np.arange(256)[:, None] * gain + shift, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 90))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


class _Draws(IterableDataset):
    """Endless results of a function of a random generator; each process has its own generator."""

    def __init__(self, draw: Callable[[np.random.Generator], T], seed: int) -> None:
        self.draw, self.seed = draw, seed

    def __iter__(self) -> Iterator[T]:
        cv2.setNumThreads(1)
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield self.draw(rng)


def ahead(draw: Callable[[np.random.Generator], T], seed: int, workers: int) -> Iterator[T]:
    """Endless results of ``draw``, drawn by processes of their own while one result is in use."""
    draws = _Draws(draw, seed)
    return iter(DataLoader(draws, batch_size=None, num_workers=workers, collate_fn=_as_it_is))


def _as_it_is(drawn: T) -> T:
    """A result, without moving it to a device, which only the process that learns may do."""
    return drawn
