"""One picture, one expression: the whole of TAS in a call."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.datasets import Split
from tasnb.encoders import load_encoder
from tasnb.images import load_image, to_rgb
from tasnb.pipeline import Pipeline
from tasnb.settings import InputError, make_settings

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = [
    "mask_id", "V", "P", "N", "S", "center_x", "center_y", "kept", "chosen", "caption",
]  # fmt: skip


@dataclass(frozen=True)
class Segmentation:
    """What an expression denotes in an image.

    Attributes:
        image: RGB uint8 (H, W, 3).
        expression: As given.
        mask: bool (H, W); empty if the image gave no proposals.
        frame: A row a proposal: mask_id, V, P, N, S, center_x, center_y (pixels), kept (by the
            rectifier), chosen, caption.
    """

    image: npt.NDArray[np.uint8]
    expression: str
    mask: npt.NDArray[np.bool_]
    frame: pd.DataFrame

    def overlay(self) -> Image:
        """The image with the mask tinted."""
        from PIL import Image

        from tasnb.figures import TAS, paint_mask

        return Image.fromarray(paint_mask(self.image, self.mask, TAS))


def segment(
    image: str | Path | npt.NDArray[np.uint8] | Image,
    expression: str,
    profile: str = "embedded",
    **overrides: Any,
) -> Segmentation:
    """Finds the mask that an expression denotes (sections 3.2 to 3.4).

    What is computed for the image is stored, so that a second expression is answered at once.

    Args:
        image: A file, pixels (uint8, (H, W), (H, W, 3) or (H, W, 4)) or a Pillow image.
        expression: Such as "the left cat".
        profile: Which models.
        **overrides: Other settings; the last of ``encoders`` is used.

    Raises:
        InputError: The image cannot be read, the expression is blank, or a setting is wrong.
    """
    settings = make_settings(profile, **overrides)
    if not isinstance(expression, str) or not expression.strip():
        raise InputError('the expression is blank; say what to find, as "the left cat"')
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    key = (
        "picture-"
        + hashlib.sha256(pixels.tobytes() + bytes(str(pixels.shape), "ascii")).hexdigest()[:16]
    )
    nothing = coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))
    sentence = {
        "sent_id": 0, "sentence": expression.strip(), "ref_id": 0, "image": key, "height": height,
        "width": width, "target": "", "ground_truth": nothing["counts"], "truth_area": 0,
        "share": 0.0,
    }  # fmt: skip
    split = Split("", "", pd.DataFrame([sentence]), {key: pixels})
    pipeline = Pipeline(settings)
    # a stored text is not encoded again, so this is said here
    load_encoder(settings.encoders[-1], settings).warn_of_cuts([expression])
    scored = pipeline.score(split, settings.encoders[-1])
    if not len(scored.pairs):
        frame = pd.DataFrame(columns=COLUMNS)
        return Segmentation(pixels, expression, np.zeros((height, width), bool), frame)
    total = scored.total(settings.alpha, settings.lam)
    region = scored.pairs["in_region"]
    chosen = int(scored.choose(total, rectify=True)[0])
    frame = scored.pairs.assign(
        S=total, kept=region | ~region.any(), chosen=np.arange(len(total)) == chosen
    )
    mask_id = frame["mask_id"].iloc[chosen]
    return Segmentation(
        pixels, expression, pipeline.mask(split.images, key, mask_id), frame[COLUMNS]
    )


def _pixels(image: Any) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if isinstance(image, (str, Path)):
        return load_image(image)
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
