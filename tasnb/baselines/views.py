"""Views of a mask as prompts for CLIP: FGVP's blur outside the mask, and the red circle.

Both show the full picture, so that CLIP sees a mask in its place: with everything else blurred
(Yang et al. 2023, "Fine-Grained Visual Prompting", section 3), or with a red ellipse around its
box (Shtedritski, Rupprecht, Vedaldi 2023, "What does CLIP know about a red circle?", section 3).
FGVP adds the logits of this view and of the crop of the box, as ReCLIP does. The score of a mask is
the sum of the cosine similarities of its views to "a photo of ...", in lower case.

Every view is squashed to the encoder's square, as in FGVP's code: a centre crop would lose what is
at the sides. FGVP's score subtraction is left out: it needs other captions of the same split.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from pycocotools import mask as coco_mask

from tasnb.baselines.stored import Asked, Floats, products
from tasnb.datasets.splits import Split
from tasnb.method.language import PROMPT
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import to_rles
from tasnb.method.scores import ScoreTable
from tasnb.models.devices import Lazy
from tasnb.models.encoders import load_encoder
from tasnb.settings import short

Pixels = npt.NDArray[np.uint8]

VERSION = 1
SHORT_SIDE = 384  # pixels; FGVP first scales every picture to it
SIGMA = 100.0  # pixels on a short side of SHORT_SIDE; standard deviation of FGVP's blur
THICKNESS = 2.0  # pixels on a short side of SHORT_SIDE; line of the circle
RED = (255, 0, 0)


def blur_outside(image: Pixels, mask: npt.NDArray[np.bool_], blurred: Pixels) -> Pixels:
    """The full picture (H, W, 3), blurred outside a mask."""
    return np.where(mask[..., None], image, blurred)


def blur_all(image: Pixels) -> Pixels:
    """The picture under FGVP's blur, whose width is in proportion to the short side."""
    sigma = SIGMA * min(image.shape[:2]) / SHORT_SIDE
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def red_circle(image: Pixels, mask: npt.NDArray[np.bool_], size: int) -> Pixels:
    """The full picture with a red ellipse that fits the box of a mask.

    Args:
        size: Side of the encoder's input, on which the line is at least one pixel wide.
    """
    (top, bottom), (left, right) = (np.flatnonzero(mask.any(axis))[[0, -1]] for axis in (1, 0))
    center = (int(left + right) // 2, int(top + bottom) // 2)
    axes = (int(right - left + 1) // 2, int(bottom - top + 1) // 2)
    side = min(image.shape[:2])
    thickness = max(1, round(max(THICKNESS * side / SHORT_SIDE, side / size)))
    return cv2.ellipse(image.copy(), center, axes, 0, 0, 360, RED, thickness)


def box_crop(image: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """The picture inside the box of a mask."""
    (top, bottom), (left, right) = (np.flatnonzero(mask.any(axis))[[0, -1]] for axis in (1, 0))
    return image[top : bottom + 1, left : right + 1]


def squashed(picture: Pixels, size: int) -> Pixels:
    """A picture resized to a square, whatever its shape."""
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))


def view_scores(
    pipeline: Pipeline,
    split: Split,
    encoder: str,
    table: ScoreTable,
    views: Sequence[str],
) -> Floats:
    """The sum of every pair's cosine similarities over some views, "box", "blur" or "circle"."""
    prompts = table.sentences[["sentence"]].map(lambda text: PROMPT.format(text.lower()))
    texts = Asked(pipeline, split.dataset, encoder, prompts).texts()
    found = np.zeros(len(table.pairs))
    for view in views:
        rows, vectors = _embeddings(pipeline, split, encoder, view)
        found += products(table, rows, vectors, texts)
    return found


def _embeddings(pipeline: Pipeline, split: Split, encoder: str, view: str) -> tuple:
    """Rows (image, mask_id) of the refined masks, and the embedding of a view of each, (M, D)."""

    def work(keys: list[str]) -> dict:
        from tasnb.models.clip.towers import input_size, tower_of

        loaded = load_encoder(encoder, pipeline.settings)
        size = input_size(tower_of(loaded))
        masks = pipeline.refined({key: split.images[key] for key in keys})
        owners, rles = masks["image"].tolist(), to_rles(masks)

        @lru_cache(maxsize=1)
        def shown(key: str) -> tuple[Pixels, Pixels | None]:
            image = pipeline.pixels(split.images, key)
            return image, blur_all(image) if view == "blur" else None

        def picture(row: int) -> Pixels:
            image, blurred = shown(owners[row])
            mask = coco_mask.decode(rles[row]).astype(bool)
            if view == "box":
                return squashed(box_crop(image, mask), size)
            if blurred is not None:
                return squashed(blur_outside(image, mask, blurred), size)
            return squashed(red_circle(image, mask, size), size)

        vectors = loaded.encode_images(Lazy(range(len(masks)), picture))
        rows = masks[["image", "mask_id"]].rename(columns={"image": "key"})
        return {"rows": rows, "vectors": (vectors, list(rows["key"]))}

    name, before = f"view-{view}", pipeline.proposal_stage
    stage = pipeline.stage(name, pipeline.on_masks(), before, encoder, VERSION)
    title = f"{short(encoder)}, {view} (images)"
    stage.compute(split.images, work, pipeline.settings.shard_size, title)
    vectors, _ = stage.read(split.images, "vectors")
    return stage.read(split.images, "rows").rename(columns={"key": "image"}), vectors
