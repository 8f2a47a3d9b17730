"""The checker of the RefScenes expressions, and objects to test it with."""

from __future__ import annotations

import sys
import tomllib

import numpy as np
from pycocotools import mask as rle

from tasnb.settings import ROOT

EMBEDDED = ROOT / "data" / "embedded"
sys.path.insert(0, str(EMBEDDED / "build"))

import checker  # noqa: E402, F401
from checker import Things, Ungrammatical, UnknownWords, check, valid  # noqa: E402, F401

TABLE = tomllib.loads((EMBEDDED / "build" / "vocabulary.toml").read_text(encoding="utf-8"))
W, H = 200, 100  # hence margin = 16 px across and 8 px down, gap = 8 px, reach = 100 px

MAN = {"noun": "man", "names": ["man", "guy", "gentleman", "dude", "person"]}
WOMAN = {"noun": "woman", "names": ["woman", "lady", "person"]}
CHEF = {"noun": "chef", "names": ["chef", "cook", "man", "guy", "person"]}
NINJA = {"noun": "ninja", "names": ["ninja"], "maybe": ["man", "guy", "dude", "woman"]}
CAT = {"noun": "cat", "kind": "animal", "names": ["cat", "kitty"], "colour": "black"}
DOG = {"noun": "dog", "kind": "animal", "names": ["dog", "puppy", "doggy"], "colour": "brown"}
TIGER = {"noun": "tiger", "kind": "animal", "names": ["tiger", "big cat"], "maybe": ["cat"]}
CAR = {"noun": "car", "kind": "vehicle", "names": ["car", "automobile"], "colour": "red"}
TAXI = {"noun": "taxi", "kind": "vehicle", "names": ["taxi", "cab"], "maybe": ["car"]}
COAT = {"noun": "coat", "kind": "thing", "names": ["coat", "jacket"], "colour": "blue"}
TREE = {"noun": "tree", "kind": "thing", "names": ["tree"]}

Box = tuple[int, int, int, int]


def thing(base: dict, x: int, y: int = 40, w: int = 11, h: int = 11, **changes: object) -> tuple:
    """A rectangle with attributes, w x h (both odd), centred on pixel (x, y)."""
    return {**base, **changes}, (x - w // 2, y - h // 2, w, h)


def annotate(*things: tuple[dict, Box]) -> list[dict]:
    """COCO annotations of rectangles; later ones hide earlier ones, as the layers say."""
    layers = np.full((H, W), -1)
    for layer, (_, (x, y, w, h)) in enumerate(things):
        layers[y : y + h, x : x + w] = layer
    default = {"kind": "person", "maybe": [], "gender": "", "activity": "", "look": ""}
    default |= {"maybe_looks": [], "colour": "", "picture": "", "unseen": False}
    out = []
    for layer, (attributes, _) in enumerate(things):
        code = rle.encode(np.asfortranarray((layers == layer).astype(np.uint8)))
        code["counts"] = code["counts"].decode()
        out.append(
            {
                "id": 10 + layer,
                "image_id": 1,
                "segmentation": code,
                "attributes": {**default, **attributes, "layer": layer},
            }
        )
    return out


def verdicts(sentence: str, *things: tuple[dict, Box]) -> str:
    return " ".join(check(sentence, Things(annotate(*things))))
