"""CRIS's layout, which RefCOCOm has: a list of refs per split, and a picture of each mask."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask

from tasnb.datasets.expressions import check_expression
from tasnb.datasets.layout import Picture, field_of, id_of
from tasnb.datasets.reading import read
from tasnb.datasets.segmentations import Rle
from tasnb.profiles import mask_folder
from tasnb.settings import InputError, shown
from tasnb.store.files import size_and_time


def splits_in(folder: Path) -> list[str]:
    """The splits of a folder in this layout: the stems of its JSON files."""
    return sorted(path.stem for path in folder.glob("*.json"))


class MaskFiles:
    """``<split>.json``, with the mask of each ref in ``masks/<segment_id>.png``.

    Each ref has a segment_id, the img_name of its picture and sentences (sent, and possibly
    sent_id). Every pixel that is not 0 belongs to the mask. A ``cat`` that is text names the
    target; a number does not, as there is no list of categories.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._file, self._masks = folder / f"{split}.json", mask_folder(folder)
        rows = read(self._file)
        if not isinstance(rows, list):
            raise InputError(
                f"{self._file} is not a list of refs with segment_id, img_name and sentences"
            )
        self.refs: list[dict[str, Any]] = []
        seen: set[Any] = set()
        for row in rows:
            self.refs.append(self._ref(row))
            if self.refs[-1]["ref_id"] in seen:
                raise InputError(f"{self._file}: two refs have segment_id {row['segment_id']}")
            seen.add(self.refs[-1]["ref_id"])
        self._first = {ref["image_id"]: ref for ref in reversed(self.refs)}

    def _ref(self, row: Any) -> dict[str, Any]:
        key = id_of(field_of(row, "segment_id", f"{self._file}: a ref"), str(self._file))
        owner = f"{self._file}: ref {shown(key)}"
        if isinstance(key, str) and Path(key).name != key:
            raise InputError(f"{owner} has a segment_id that is not the name of a file")
        name = field_of(row, "img_name", owner)
        if not isinstance(name, str) or not name:
            raise InputError(f"{owner} has an unusable img_name: {shown(name)}")
        said = field_of(row, "sentences", owner)
        if not isinstance(said, list):
            raise InputError(f"{owner} has sentences that are not a list: {shown(said)}")
        sentences = []
        for number, sentence in enumerate(said, start=1):
            text = field_of(sentence, "sent", f"{owner}: sentence {number}")
            text = check_expression(text, f"{owner}: sentence {number}")
            sentences.append({"sent_id": f"{key}-{number}", "sent": text})
        cat = row.get("cat")
        target = cat if isinstance(cat, str) else ""
        return {"ref_id": key, "image_id": name, "target": target, "sentences": sentences}

    def picture(self, image_id: str) -> Picture:
        height, width = _read(*self._where(self._first[image_id])).shape
        return Picture(image_id, height, width)

    def target(self, ref: Mapping[str, Any]) -> str:
        return str(ref["target"])

    def count(self, ref: Mapping[str, Any]) -> int:
        return 1  # a mask does not say of how many objects it is

    def names(self, ref: Mapping[str, Any]) -> tuple[str, ...]:
        return (ref["target"],) if ref["target"] else ()

    def things(self, image_id: str) -> list[tuple[str, ...]]:
        return []  # nothing is annotated but the targets

    def truth(self, ref: Mapping[str, Any], height: int, width: int) -> Rle:
        path, changed = self._where(ref)
        mask = _read(path, changed)
        if mask.shape != (height, width):
            raise InputError(
                f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels, but its image "
                f"{ref['image_id']} is {width} x {height}"
            )
        return coco_mask.encode(np.asfortranarray(mask, np.uint8))

    def _where(self, ref: Mapping[str, Any]) -> tuple[Path, tuple[int, int]]:
        path = self._masks / f"{ref['ref_id']}.png"
        try:
            return path, size_and_time(path)
        except OSError:
            raise InputError(
                f"{path}, the mask of ref {shown(ref['ref_id'])} in {self._file}, is missing"
            ) from None


@lru_cache(maxsize=8)
def _read(path: Path, _changed: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """A mask (H, W): what is not 0, in any channel but the fourth."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    except Exception as error:  # a damaged picture may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is not a picture of a mask ({reason})") from None
    return pixels.astype(bool) if pixels.ndim == 2 else pixels[..., :3].any(-1)
