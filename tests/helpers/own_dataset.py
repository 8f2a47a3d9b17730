"""Small datasets in the REFER layout, made by hand in a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tasnb.settings import ROOT, Settings, make_settings

HEIGHT, WIDTH = 10, 12


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def compressed(mask: np.ndarray) -> str:
    """A mask as the text of COCO's compressed counts."""
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


CAT, DOG, BIRD = box(1, 2, 4, 7), box(0, 0, 3, 2), box(6, 8, 10, 12)
SEGMENTATIONS = {
    11: [[2, 1, 7, 1, 7, 4, 2, 4]],  # a polygon: columns 2 to 6 and rows 1 to 3
    12: {"size": [HEIGHT, WIDTH], "counts": [0, 3, 7, 3, 107]},  # runs down the columns
    13: {"size": [HEIGHT, WIDTH], "counts": compressed(BIRD)},
}


def ref(ref_id: int, image_id: int, split: str, sentences: list[str], **ids: Any) -> dict:
    texts = [
        {"sent_id": 10 * ref_id + i, "sent": text, "raw": text.upper(), "tokens": text.split()}
        for i, text in enumerate(sentences)
    ]
    return {"ref_id": ref_id, "image_id": image_id, "split": split, "category_id": 3,
            "sentences": texts, **ids}  # fmt: skip


REFERENCES = [
    ref(1, 5, "val", ["left cat", "the cat"], ann_id=11),
    ref(2, 4, "testA", ["dog"], ann_id=12),
    ref(3, 4, "val", ["dog"], ann_id=12),
    ref(4, 5, "val", ["bird"], ann_id=13),
    ref(5, 6, "val", ["cat and bird"], ann_id=11, ann_ids=[11, 13]),
]
"""Of the split "val" 4 refs, 5 sentences and 3 images: a.png (5), b.png (6) and c.png (4)."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose embedded data are three images and ``REFERENCES``."""
    root = tmp_path / "embedded"
    (root / "images").mkdir(parents=True)
    (root / "refscenes").mkdir()
    images = []
    for number, name in ((4, "c"), (5, "a"), (6, "b")):
        Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(root / "images" / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH})
    instances = {
        "images": images,
        "categories": [{"id": 3, "name": "thing"}],
        "annotations": [{"id": i, "segmentation": s} for i, s in SEGMENTATIONS.items()],
    }
    (root / "refscenes" / "instances.json").write_text(json.dumps(instances))
    (root / "refscenes" / "refs(unc).json").write_text(json.dumps(REFERENCES))
    return make_settings(data=str(tmp_path))


@pytest.fixture
def own(settings: Settings) -> Path:
    """The same as a folder of one's own: instances.json, refs(me).json and images/."""
    folder = settings.data / "own"
    (settings.data / "embedded" / "refscenes").rename(folder)
    (settings.data / "embedded" / "images").rename(folder / "images")
    (folder / "refs(unc).json").rename(folder / "refs(me).json")
    return folder


Damage = Callable[[list[dict], dict], object]


def change(folder: Path, damage: Damage) -> Settings:
    """Changes a folder of ``own`` by damage(refs, instances).

    Returns:
        The settings of a run on it.
    """
    files = [folder / "refs(me).json", folder / "instances.json"]
    refs, instances = (json.loads(file.read_text()) for file in files)
    damage(refs, instances)
    for file, content in zip(files, (refs, instances), strict=True):
        file.write_text(json.dumps(content))
    return make_settings(datasets=[str(folder)])


def annotated(folder: Path, count: int = 2) -> Path:
    """A dataset of some embedded pictures, on which all models work: two refs in each.

    Args:
        folder: Where it is made.
    """
    source = ROOT / "data" / "embedded" / "images"
    (folder / "images").mkdir(parents=True)
    images, annotations, refs = [], [], []
    texts = (["the left one", "dog"], ["right thing", "the bottom cat"])
    for number in range(1, count + 1):
        name = f"{number:06d}.jpg"
        with Image.open(source / name) as image:
            width, height = image.size
        (folder / "images" / name).write_bytes((source / name).read_bytes())
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for k, (x, y) in enumerate(((0.1, 0.1), (0.55, 0.5))):
            left, top = int(x * width), int(y * height)
            right, bottom = int((x + 0.35) * width), int((y + 0.4) * height)
            key = 10 * number + k
            corners = [left, top, right, top, right, bottom, left, bottom]
            annotations.append({"id": key, "image_id": number, "segmentation": [corners]})
            refs.append(ref(key, number, "val", texts[k], ann_id=key))
    instances = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "animal"}],
    }
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "refs(me).json").write_text(json.dumps(refs))
    return folder
