"""Pictures of one's own, and what is asked about them, as the pipeline reads them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.datasets.images import ImageFile, image_key, load_image, to_rgb
from tasnb.datasets.splits import Split
from tasnb.settings import InputError, Settings
from tasnb.store.files import size_and_time

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | ImageFile | npt.NDArray[np.uint8] | Image

THIN = 100  # beyond this, nothing may be left of a picture that is scaled down for a model


@dataclass(frozen=True)
class Asked:
    """A valid pair: the expression, and the key, size and source of the image."""

    expression: str
    key: str
    height: int
    width: int
    source: ImageFile | npt.NDArray[np.uint8]


def asked(image: Picture, settings: Settings) -> Asked:
    """Reads a picture; the expression is filled in later.

    Raises:
        InputError: It is unreadable, too thin, or was replaced meanwhile.
    """
    path = Path(image) if isinstance(image, (str, Path, ImageFile)) else None
    stamp = _stamp(path)
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    if max(height, width) > THIN * min(height, width):
        raise InputError(
            f"{path or 'the image'} is too thin, {width} x {height} pixels: the longer side may be "
            f"at most {THIN} times the shorter one"
        )
    hashed = hashlib.sha256(np.ascontiguousarray(pixels))
    hashed.update(bytes(str(pixels.shape), "ascii"))
    digest = hashed.hexdigest()
    key = f"picture-{digest[:16]}"
    if settings.proposal_network.startswith("file:"):  # which needs a number at the end
        number = re.search(r"\d+$", path.stem) if path else None
        key = f"picture-{number[0]}-{digest[:12]}" if number else f"{key}-unnumbered"
    source: ImageFile | npt.NDArray[np.uint8] = pixels
    if path is not None:
        # Stages open the file again later; it must still be the one whose pixels gave the key.
        source = image if isinstance(image, ImageFile) else ImageFile(path, image_key(path))
        if _stamp(path) != stamp:
            raise InputError(f"{path} was replaced while it was being read; try again")
    return Asked("", key, height, width, source)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        return size_and_time(path) if path is not None else None
    except (OSError, ValueError):  # reading it will say what is wrong
        return None


def is_unchanged(asked: Asked) -> bool:
    """Whether an image need not be read again for the next expression: arrays may be refilled."""
    source = asked.source
    if not isinstance(source, ImageFile):
        return False
    try:
        return image_key(source.path, source.as_stored) == source.key
    except InputError:
        return False


def split_of(chunk: Sequence[Asked]) -> Split:
    """The pictures and expressions as a split, with an empty ground truth."""

    @cache
    def nothing(height: int, width: int) -> bytes:
        return coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))["counts"]

    rows = [
        {
            "sent_id": i, "sentence": asked.expression.strip(), "ref_id": i, "image": asked.key,
            "height": asked.height, "width": asked.width, "target": "", "names": (),
            "ground_truth": nothing(asked.height, asked.width), "truth_area": 0, "share": 0.0,
        }
        for i, asked in enumerate(chunk)
    ]  # fmt: skip
    return Split("", "", pd.DataFrame(rows), {asked.key: asked.source for asked in chunk})


def _pixels(image: Any) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if isinstance(image, (str, Path, ImageFile)):
        try:
            return load_image(image)
        except OSError as error:  # about the name itself, such as one that is too long
            raise InputError(f"cannot read {image}: {error.strerror or error}") from None
    if isinstance(image, Image.Image):
        return to_rgb(image)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(
            f"an image should be uint8 of shape (H, W), (H, W, 3) or (H, W, 4), not {array.dtype} "
            f"{array.shape}"
        )
    if array.ndim == 3 and array.shape[2] not in (3, 4):
        raise InputError(f"an image should have 3 or 4 channels last, not shape {array.shape}")
    return to_rgb(Image.fromarray(array))
