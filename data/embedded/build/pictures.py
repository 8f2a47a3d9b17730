"""Fluent Emoji as cut-out pictures: what each file shows, and how to recolour it.

The pictures are from the npm package ``@lobehub/fluent-emoji-3d`` (MIT), unpacked anywhere. The
finished scenes are committed, so they are needed only for rebuilding the benchmark.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

VOCABULARY = tomllib.loads((Path(__file__).parent / "vocabulary.toml").read_text())


@dataclass(frozen=True)
class Look:
    """One appearance of an object: a picture and its attributes.

    Attributes:
        noun: Its main name.
        kind: "person", "animal", "vehicle" or "thing".
        size: Height relative to a standing person.
        picture: Stem of the picture's file.
        unseen: Whether it is reserved for evaluation, so that no checkpoint may be trained on it.
        names: All its names, starting with the noun.
        maybe: Names that some people would accept and others would not.
        gender: "man", "woman" or "".
        activity, look: What a person is doing and looks like; empty if unremarkable.
        maybe_looks: Looks that some people might see in it.
        paints: Colours in which it may be painted.
    """

    noun: str
    kind: str
    size: float
    picture: str
    unseen: bool
    names: tuple[str, ...]
    maybe: tuple[str, ...] = ()
    gender: str = ""
    activity: str = ""
    look: str = ""
    maybe_looks: tuple[str, ...] = field(default=())
    paints: tuple[str, ...] = ()


def _expand(pattern: str, gender: str) -> list[tuple[str, bool, str]]:
    """(picture, unseen, tone) for each filling of ``{g}``, ``{s}``, ``{t}`` and ``{f}``."""
    people = VOCABULARY["people"]
    if not any(mark in pattern for mark in ("{t}", "{f}")):
        return [(pattern, False, "")]
    return [
        (
            pattern.format(
                g=people[gender]["code"] if gender else "",
                s=people[gender]["sign"] if gender else "",
                t=tone,
                f=tone or "-fe0f",  # some file names have a variation selector in place of the tone
            ),
            tone in people["unseen_tones"],
            tone,
        )
        for tone in people["tones"] + people["unseen_tones"]
    ]


def _person(noun: str, row: dict, gender: str, pattern: str, **attributes: str) -> list[Look]:
    people = VOCABULARY["people"]
    names = [noun, *row.get("also", [])]
    maybe = list(row.get("maybe", []))
    if gender:
        names += [gender, *people[gender]["also"]]
    if people["generic"] not in maybe:
        names.append(people["generic"])
    looks = []
    for picture, unseen, tone in _expand(pattern, gender):
        maybe_looks = ["blond"] if tone in ("", "-1f3fc") else []  # these tones have fair hair
        if attributes.get("look") == "old" or noun in ("santa", "wizard"):
            maybe_looks += ["old", "white-haired", "bearded", "bald"]
        if attributes.get("look") in ("white-haired", "bald"):
            maybe_looks += ["old", "bald", "white-haired"]
        look = Look(
            noun=noun,
            kind="person",
            size=row["size"],
            picture=picture,
            unseen=unseen,
            names=tuple(dict.fromkeys(names)),
            maybe=tuple(maybe),
            gender=gender,
            maybe_looks=tuple(x for x in maybe_looks if x != attributes.get("look")),
            **attributes,
        )
        looks.append(look)
    return looks


@lru_cache(maxsize=1)
def all_looks() -> dict[str, list[Look]]:
    """Every look of every noun in the vocabulary."""
    looks: dict[str, list[Look]] = {}
    for noun, row in VOCABULARY["nouns"].items():
        if row["kind"] == "person":
            genders = ["man", "woman"] if row.get("gendered") else [""]
            if noun in ("man", "woman"):
                genders = [noun]
            looks[noun] = [
                look
                for gender in genders
                for pattern in row["pictures"]
                for look in _person(noun, row, gender, pattern)
            ]
            continue
        pictures = [(p, False) for p in row["pictures"]] + [
            (p, True) for p in row.get("unseen", [])
        ]
        looks[noun] = [
            Look(
                noun=noun,
                kind=row["kind"],
                size=row["size"],
                picture=picture,
                unseen=unseen,
                names=(noun, *row.get("also", [])),
                maybe=tuple(row.get("maybe", [])),
                paints=tuple(VOCABULARY["paints"].get(row.get("paint", ""), ())),
            )
            for picture, unseen in pictures
        ]
    for gender in ("man", "woman"):
        for table, attribute in (("activities", "activity"), ("looks", "look")):
            for word, row in VOCABULARY[table].items():
                for pattern in row.get("pictures", []) + row.get(gender, []):
                    base = VOCABULARY["nouns"][gender]
                    looks[gender] += _person(gender, base, gender, pattern, **{attribute: word})
    return looks


def read_picture(folder: Path, picture: str) -> npt.NDArray[np.uint8]:
    """A picture as RGBA uint8, trimmed to its visible part."""
    path = folder / f"{picture}.webp"
    rgba = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if rgba is None or rgba.shape[2] != 4:
        raise FileNotFoundError(
            f"{path} is missing or has no alpha channel: unpack the npm package"
        )
    rgba = cv2.cvtColor(rgba, cv2.COLOR_BGRA2RGBA)
    ys, xs = np.nonzero(rgba[..., 3] > 127)
    return rgba[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def paint(rgba: npt.NDArray[np.uint8], colour: str) -> npt.NDArray[np.uint8]:
    """Paints a picture in one of the vocabulary's colours, keeping its shading.

    Only coloured parts are painted (the body of a car, not its grey tyres), unless most of the
    picture is grey.
    """
    row = VOCABULARY["colours"][colour]
    hsv = cv2.cvtColor(rgba[..., :3], cv2.COLOR_RGB2HSV).astype(np.float32)
    visible = rgba[..., 3] > 127
    weight = np.clip((hsv[..., 1] - 50) / 50, 0, 1)
    if weight[visible].mean() < 0.35:
        weight = np.clip((hsv[..., 2] - 60) / 60, 0, 1)
    body = weight[visible] > 0.5
    brightness = np.median(hsv[..., 2][visible][body]) if body.any() else 200.0
    painted = hsv.copy()
    painted[..., 0] = row["hue"] / 2
    relative = (
        hsv[..., 1] / max(float(np.median(hsv[..., 1][visible][body])), 60.0) if body.any() else 1.0
    )
    painted[..., 1] = 255 * row["saturation"] * np.clip(relative, 0.75, 1.15)
    painted[..., 2] = hsv[..., 2] * (215 / max(brightness, 90)) * row["value"]
    rgb = cv2.cvtColor(np.clip(painted, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
    blended = rgb * weight[..., None] + rgba[..., :3] * (1 - weight[..., None])
    return np.dstack([blended.astype(np.uint8), rgba[..., 3]])
