"""Files of refs as they are published: the REFER layout of RefCOCO and its kin, and PhraseCut's."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from pycocotools import mask as coco_mask

from tasnb.profiles import DATASETS
from tasnb.settings import InputError

Rle = dict[str, Any]
"""A mask as COCO's compressed run lengths: size [h, w] and counts (bytes)."""


class Picture(NamedTuple):
    """An image's file in the folder of images, and its size where that is written somewhere."""

    file_name: str
    height: int | None = None
    width: int | None = None


class Layout(Protocol):
    """The refs of one split, and what they mean.

    Attributes:
        refs: Each has at least ref_id, image_id and sentences (of sent_id and sent).
    """

    refs: list[dict[str, Any]]

    def picture(self, image_id: int) -> Picture:
        """An image's file."""

    def target(self, ref: Mapping[str, Any]) -> str:
        """The name of the category of what a ref means."""

    def truth(self, ref: Mapping[str, Any], height: int, width: int) -> Rle:
        """What a ref means, in an image of that size."""


class Refer:
    """``refs(<which>).json`` or ``.p`` beside COCO's ``instances.json``."""

    def __init__(self, folder: Path, which: str, split: str) -> None:
        self.folder = folder
        self.refs = [ref for ref in read_refs(folder, which) if ref["split"] == split]

    @cached_property
    def _tables(self) -> dict[str, dict[Any, Any]]:
        instances = _read(self.folder / "instances.json")
        names = ("images", "categories", "annotations")
        return {name: {row["id"]: row for row in instances[name]} for name in names}

    def _row(self, table: str, key: Any, user: str) -> Any:
        try:
            return self._tables[table][key]
        except KeyError:
            raise InputError(
                f"{self.folder}: {user} names {key!r}, which is none of the {table} in "
                "instances.json"
            ) from None

    def picture(self, image_id: int) -> Picture:
        row = self._row("images", image_id, "a ref")
        return Picture(row["file_name"], row["height"], row["width"])

    def target(self, ref: Mapping[str, Any]) -> str:
        return self._row("categories", ref["category_id"], f"ref {ref['ref_id']}")["name"]

    def truth(self, ref: Mapping[str, Any], height: int, width: int) -> Rle:
        meant = ref.get("ann_ids", [ref.get("ann_id")])
        user = f"ref {ref['ref_id']}"
        return coco_mask.merge([self._rle(i, user, height, width) for i in meant])

    def _rle(self, key: Any, user: str, height: int, width: int) -> Rle:
        """COCO's three ways to write a mask (polygons, counts, compressed) as compressed ones."""
        segmentation = self._row("annotations", key, user)["segmentation"]
        try:
            if isinstance(segmentation, list):
                return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
            if isinstance(segmentation["counts"], list):
                return coco_mask.frPyObjects(segmentation, height, width)
            return {"size": segmentation["size"], "counts": segmentation["counts"].encode()}
        except Exception as error:  # pycocotools has no class of its own for what it cannot read
            raise InputError(
                f"{self.folder}: the segmentation of annotation {key!r} is neither polygons nor "
                f"run lengths ({str(error) or type(error).__name__})"
            ) from None


class PhraseCut:
    """``refer_<split>.json``: refs of one sentence, with polygons of their own."""

    def __init__(self, folder: Path, split: str) -> None:
        self.refs = [
            {
                "ref_id": task["task_id"],
                "image_id": task["image_id"],
                "target": task["phrase_structure"]["name"],
                "polygons": [polygon for instance in task["Polygons"] for polygon in instance],
                "sentences": [{"sent_id": task["task_id"], "sent": task["phrase"]}],
            }
            for task in _read(folder / f"refer_{split}.json")
        ]

    def picture(self, image_id: int) -> Picture:
        return Picture(f"{image_id}.jpg")

    def target(self, ref: Mapping[str, Any]) -> str:
        return str(ref["target"])

    def truth(self, ref: Mapping[str, Any], height: int, width: int) -> Rle:
        """All polygons of a phrase as one mask, as PhraseCut's authors fill them: corners cut to
        whole pixels, outlines drawn."""
        from PIL import Image, ImageDraw

        canvas = Image.new("1", (width, height))
        draw = ImageDraw.Draw(canvas)
        for polygon in ref["polygons"]:
            draw.polygon([(int(x), int(y)) for x, y in polygon], fill=1, outline=1)
        return coco_mask.encode(np.asfortranarray(canvas, dtype=np.uint8))


def refs_file(folder: Path, which: str) -> Path:
    """``refs(<which>).json``, or the pickle in which RefCOCO is published if only that is there."""
    path = folder / f"refs({which}).json"
    pickled = path.with_suffix(".p")
    return pickled if pickled.is_file() and not path.is_file() else path


def read_refs(folder: Path, which: str) -> list[dict[str, Any]]:
    """The content of ``refs_file``."""
    return _read(refs_file(folder, which))


class _Plain(pickle.Unpickler):
    """Reads containers, strings and numbers; what would load code is refused.

    A pickle can call any function while it is read, and files of refs come from anywhere.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it would load {module}.{name}")


def read_pickle(path: Path) -> Any:
    """A pickle of plain containers, strings and numbers, of Python 3 or 2.

    Raises:
        InputError: There is anything else in it, or it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Plain(file, encoding="utf-8", errors="replace").load()
    except Exception as error:  # a damaged pickle may raise any
        raise InputError(
            f"{path} is no pickle of plain data ({str(error) or type(error).__name__}); it was not "
            "run, fetch it again from a source that you trust"
        ) from None


def _read(path: Path) -> Any:
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {mend(path)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error}); {mend(path)}") from None


@lru_cache(maxsize=16)
def _parsed(path: Path, _changed: int) -> Any:
    """A file of refs or instances, read once until it changes."""
    return read_pickle(path) if path.suffix == ".p" else json.loads(path.read_text())


def mend(path: Path) -> str:
    """What to do about a file of a dataset that is missing or broken."""
    if "embedded" in path.parts:
        return "restore it with `git checkout -- data`"
    known = {**dict.fromkeys(DATASETS), "train2014": "coco-train2014"}
    known["visual_genome"] = "visual-genome"
    item = next((known[part] or part for part in reversed(path.parts) if part in known), None)
    return f"`python -m tasnb fetch {item}`" if item else "README.md says what a dataset is"
