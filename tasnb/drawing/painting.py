"""How images, masks and answers are drawn, for all figures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from tasnb.drawing.words import words

Image = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]

TRUTH, CLIP, TAS = "#2f9e44", "#e8590c", "#1971c2"
INK, PAPER = "#343a40", "#ced4da"  # lines and text; values shown for comparison
COLOURS = (
    "#ff2bd6", "#00d5ff", "#ffe600", "#7a3cff", "#ff7a00", "#00e08a", "#ff1f4b", "#2f6bff",
    "#b6ff00", "#a3004f", "#00897b", "#8d5524",
)  # fmt: skip
"""Colours of masks: brighter than most objects, and very different from their neighbours."""
HALO, LINE = (17, 17, 17), (255, 255, 255)  # an outline visible on dark and light ground


def paint_mask(
    image: Image,
    mask: npt.NDArray[np.bool_],
    colour: Sequence[float] | str,
    strength: float = 0.55,
    parts: Sequence[npt.NDArray[np.bool_]] | Masks = (),
) -> Image:
    """The image (H, W, 3) with a mask tinted in a colour, outlined in white between dark lines.

    Args:
        parts: Masks that make up this one; each of them is outlined.
    """
    rgb = np.array(plt.matplotlib.colors.to_rgb(colour)) * 255
    out = image.copy()
    values = np.arange(256)[:, None]  # what becomes of each, so that no picture of floats is made
    tinted = ((1 - strength) * values + strength * rgb).astype(np.uint8)
    for channel in range(3):
        out[mask, channel] = tinted[image[mask, channel], channel]
    lines = []
    for part in parts if len(parts) else [mask]:
        found, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        lines += found
    thin = max(1, image.shape[1] // 400)
    cv2.drawContours(out, lines, -1, HALO, thin + 2)
    cv2.drawContours(out, lines, -1, LINE, thin)
    return out


def paint_answer(image: Image, masks: Masks, colour: Sequence[float] | str) -> Image:
    """The image with an answer of any number of masks (M, H, W); dark grey without any."""
    if len(masks):
        return paint_mask(image, masks.any(0), colour, parts=masks)
    return np.repeat(image.mean(2, keepdims=True) / 2, 3, 2).astype(np.uint8)


def about_answer(masks: Masks, truth: npt.NDArray[np.bool_] | None = None) -> str:
    """The number of masks (M, H, W) unless it is one, and their IoU, such as "no mask, IoU 0.00".

    Args:
        truth: Ground truth (H, W); without it, no IoU is given.
    """
    said = [] if len(masks) == 1 else [f"{len(masks)} masks" if len(masks) else "no mask"]
    if truth is not None:
        whole = masks.any(0)
        said.append(f"IoU {(whole & truth).sum() / max(1, (whole | truth).sum()):.2f}")
    return ", ".join(said)


def paint_masks(image: Image, masks: Masks, kept: npt.NDArray[np.bool_] | None = None) -> Image:
    """The image with every mask (M, H, W) in its own colour, the small ones on top.

    Args:
        kept: Which masks are painted (M,); None: all. A mask has the same colour either way.
    """
    out = image
    for i in np.argsort(-masks.sum((1, 2))) if len(masks) else []:
        if kept is None or kept[i]:
            out = paint_mask(out, masks[i], COLOURS[i % len(COLOURS)], 0.5)
    return out


def show(axes: Axes, image: Image, title: str = "", colour: str = INK, width: int = 34) -> None:
    """An image without axes, with a title of up to ``width`` characters per line."""
    axes.imshow(image)
    axes.set_title(words(title, width), fontsize=9, color=colour)
    axes.axis("off")
