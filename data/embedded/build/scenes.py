"""Composes scenes: a backdrop with three to seven objects, nearer ones larger and in front."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pictures import VOCABULARY, Look, all_looks, paint, read_picture

SIZES = ((320, 240), (320, 240), (320, 240), (352, 256), (320, 288))  # width, height in pixels
STANDING = 0.42  # height of a person at the front, as a share of the image's height
VISIBLE = (0.93, 0.55)  # minimum visible share of an object, at first and after some attempts
LEAST_AREA = 0.005  # minimum share of the image that an object covers; 0.01 for a target


@dataclass(frozen=True)
class Object:
    """An object in a finished scene; ``mask`` (H, W) bool is its visible part."""

    look: Look
    colour: str
    layer: int  # painting order: a higher layer hides a lower one
    mask: npt.NDArray[np.bool_]
    whole_area: int  # pixels that would be visible without occlusion

    @property
    def area(self) -> int:
        return int(self.mask.sum())

    @property
    def share(self) -> float:
        return self.area / self.mask.size


@dataclass(frozen=True)
class Scene:
    """A finished scene: ``image`` (H, W, 3) uint8 RGB, and its objects from back to front."""

    seed: int
    image: npt.NDArray[np.uint8]
    objects: tuple[Object, ...]


class Composer:
    """Makes scenes from seeds.

    Args:
        pictures: Folder of the emoji package's webp files.
        unseen: Whether to use pictures reserved for evaluation (half of the time, for nouns that
            have any). Training scenes must not use them.
        people: 1 for scenes with mostly people, 0 for scenes without people, None for a mixture.
    """

    def __init__(self, pictures: Path, unseen: bool, people: float | None = None) -> None:
        self.pictures, self.unseen, self.people = pictures, unseen, people
        self.read = lru_cache(maxsize=1024)(self._read)
        self.looks = all_looks()
        self.kinds: dict[str, list[str]] = {}
        self.alike: dict[str, list[str]] = {noun: [] for noun in self.looks}
        for noun, row in VOCABULARY["nouns"].items():
            self.kinds.setdefault(row["kind"], []).append(noun)
            for name in row.get("maybe", []):
                if name in self.alike:
                    self.alike[noun].append(name)
                    self.alike[name].append(noun)

    def _read(self, picture: str, colour: str) -> npt.NDArray[np.uint8]:
        rgba = read_picture(self.pictures, picture)
        return paint(rgba, colour) if colour else rgba

    def scene(self, seed: int) -> Scene:
        """The scene for a seed; deterministic."""
        rng = np.random.default_rng(seed)
        while True:
            size = SIZES[rng.integers(len(SIZES))]
            image = _backdrop(rng, *size)
            objects = self._place(rng, image, self._cast(rng))
            if len(objects) >= 3:
                return Scene(seed, _finish(rng, image), tuple(objects))

    def _cast(self, rng: np.random.Generator) -> list[tuple[Look, str]]:
        """Samples the objects of a scene: groups of rivals, look-alikes and single objects."""
        count = int(rng.integers(3, 8))
        cast: list[tuple[Look, str]] = []
        while len(cast) < count:
            noun = self._noun(rng)
            for _ in range(int(rng.choice([1, 2, 3], p=[0.3, 0.45, 0.25]))):
                rival = noun
                if self.alike[noun] and rng.random() < 0.3:
                    rival = str(rng.choice(self.alike[noun]))
                cast.append(self._look(rng, rival))
        return cast[:count]

    def _noun(self, rng: np.random.Generator) -> str:
        people = 0.35 if self.people is None else self.people * 0.75
        if rng.random() < people:
            # men and women have many looks, so they are sampled more often
            return (
                str(rng.choice(["man", "woman"]))
                if rng.random() < 0.45
                else str(rng.choice(self.kinds["person"]))
            )
        kind = str(rng.choice(["animal", "vehicle", "thing"], p=[0.4, 0.2, 0.4]))
        return str(rng.choice(self.kinds[kind]))

    def _look(self, rng: np.random.Generator, noun: str) -> tuple[Look, str]:
        looks = self.looks[noun]
        fresh = [look for look in looks if look.unseen]
        if self.unseen and fresh and rng.random() < 0.5:
            looks = fresh
        else:
            looks = [look for look in looks if not look.unseen]
        if noun in ("man", "woman"):  # sample all activities and looks equally often
            stances = sorted({(look.activity, look.look) for look in looks})
            stance = stances[rng.integers(len(stances))]
            looks = [look for look in looks if (look.activity, look.look) == stance]
        look = looks[rng.integers(len(looks))]
        return look, str(rng.choice(look.paints)) if look.paints else ""

    def _place(
        self, rng: np.random.Generator, image: npt.NDArray[np.uint8], cast: list[tuple[Look, str]]
    ) -> list[Object]:
        """Paints the objects from back to front; those that would be too hidden are left out."""
        height, width = image.shape[:2]
        horizon = 0.38 * height
        bases = np.sort(rng.uniform(horizon + 0.12 * height, 0.985 * height, len(cast)))
        crowd = min(1.0, 6.0 / len(cast))
        stamps: list[tuple[Look, str, npt.NDArray[np.uint8], int, int]] = []
        masks: list[npt.NDArray[np.bool_]] = []
        for (look, colour), base in zip(cast, bases, strict=True):
            depth = 0.5 + 0.75 * (base - horizon) / (height - horizon)
            tall = STANDING * height * look.size**0.8 * depth * rng.uniform(0.8, 1.25) * crowd**0.5
            rgba = self.read(look.picture, colour)
            scale = tall / max(rgba.shape[0], 0.75 * rgba.shape[1])
            w, h = max(4, round(rgba.shape[1] * scale)), max(4, round(rgba.shape[0] * scale))
            stamp = cv2.resize(rgba, (w, h), interpolation=cv2.INTER_AREA)
            if rng.random() < 0.5:
                stamp = stamp[:, ::-1]
            for attempt in range(16):
                visible = VISIBLE[attempt > 8]
                x, y = int(rng.integers(0, max(1, width - w))), int(base) - h
                if y < 0 or x + w > width:
                    continue
                mask = np.zeros((height, width), bool)
                mask[y : y + h, x : x + w] = stamp[..., 3] > 127
                after = [m & ~mask for m in masks]
                if (
                    all(
                        a.sum() >= max(visible * (s[2][..., 3] > 127).sum(), LEAST_AREA * a.size)
                        for a, s in zip(after, stamps, strict=True)
                    )
                    and mask.mean() > LEAST_AREA
                ):
                    masks = [*after, mask]
                    stamps.append((look, colour, stamp, x, y))
                    break
        for _, _, stamp, x, y in stamps:
            _shadow(image, stamp, x, y)
            _blend(image, _light(rng, stamp), x, y)
        return [
            Object(look, colour, layer, mask, int((stamp[..., 3] > 127).sum()))
            for layer, ((look, colour, stamp, _, _), mask) in enumerate(
                zip(stamps, masks, strict=True)
            )
        ]


def _noise(
    rng: np.random.Generator, width: int, height: int, cells: int
) -> npt.NDArray[np.float32]:
    """Smooth noise in [-1, 1] with about ``cells`` bumps across."""
    grid = rng.uniform(-1, 1, (max(2, cells * height // width), cells)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


GROUNDS = {  # colour of the ground (RGB), roughness, colour above the horizon
    "grass": ((112, 158, 74), 22, (176, 212, 240)),
    "sand": ((222, 200, 150), 12, (170, 215, 245)),
    "street": ((128, 128, 132), 12, (196, 204, 214)),
    "floor": ((176, 134, 96), 10, (226, 216, 200)),
    "snow": ((232, 238, 244), 7, (190, 206, 226)),
    "water": ((88, 150, 190), 16, (206, 226, 240)),
    "carpet": ((150, 96, 104), 10, (206, 214, 206)),
    "tiles": ((200, 204, 206), 8, (168, 190, 198)),
}


def _backdrop(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.uint8]:
    ground, rough, above = GROUNDS[str(rng.choice(list(GROUNDS)))]
    horizon = int(height * rng.uniform(0.3, 0.45))
    image = np.empty((height, width, 3), np.float32)
    fade = np.linspace(-18, 14, horizon, dtype=np.float32)[:, None, None]
    image[:horizon] = np.array(above, np.float32) + rng.uniform(-14, 14, 3) + fade
    image[:horizon] += 9 * _noise(rng, width, horizon, 5)[..., None]
    shade = np.linspace(-16, 10, height - horizon, dtype=np.float32)[:, None, None]
    image[horizon:] = np.array(ground, np.float32) + rng.uniform(-16, 16, 3) + shade
    texture = sum(
        _noise(rng, width, height - horizon, cells) * weight
        for cells, weight in ((6, 0.6), (24, 0.6), (width // 3, 0.7))
    )
    image[horizon:] += rough * texture[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _shadow(image: npt.NDArray[np.uint8], stamp: npt.NDArray[np.uint8], x: int, y: int) -> None:
    h, w = stamp.shape[:2]
    darkness = np.zeros(image.shape[:2], np.float32)
    cv2.ellipse(
        darkness, (x + w // 2, y + h - 2), (int(w * 0.48), max(2, h // 14)), 0, 0, 360, 1.0, -1
    )
    top, bottom = max(0, y + h - h // 4), min(image.shape[0], y + h + h // 4)
    band = cv2.GaussianBlur(darkness[top:bottom], (0, 0), 3)[..., None]
    image[top:bottom] = (image[top:bottom] * (1 - 0.4 * band)).astype(np.uint8)


def _light(rng: np.random.Generator, stamp: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    rgb = stamp[..., :3] * rng.uniform(0.82, 1.1) + rng.uniform(-6, 6, 3)
    return np.dstack([np.clip(rgb, 0, 255).astype(np.uint8), stamp[..., 3]])


def _blend(image: npt.NDArray[np.uint8], stamp: npt.NDArray[np.uint8], x: int, y: int) -> None:
    h, w = stamp.shape[:2]
    alpha = stamp[..., 3:] / 255.0
    patch = image[y : y + h, x : x + w]
    image[y : y + h, x : x + w] = (stamp[..., :3] * alpha + patch * (1 - alpha)).astype(np.uint8)


def _finish(rng: np.random.Generator, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Adds the softness and grain of a camera."""
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7))
    grain = rng.normal(0, rng.uniform(1, 4), image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)
