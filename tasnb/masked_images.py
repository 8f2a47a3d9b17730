"""Masked images: what CLIP and the captioner see of a proposal (Eq. 1 and Table 5)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def blur_background(image: Image, kernel: int) -> Image:
    """The whole image (H, W, 3) under a Gaussian of ``kernel`` pixels.

    The width is OpenCV's default for the kernel, 0.3 ((k - 1) / 2 - 1) + 0.8: 11.6 for 75. Done
    once an image; every mask then takes its own pixels from the sharp one.
    """
    return cv2.GaussianBlur(image, (kernel, kernel), 0)


def masked_image(
    image: Image, mask: npt.NDArray[np.bool_], background: Image | None = None
) -> Image:
    """Crops the box of a mask, the mask's pixels kept, on a black square (Eq. 1).

    Args:
        image: RGB uint8 (H, W, 3).
        mask: (H, W), not empty.
        background: What shows outside the mask within the box, (H, W, 3); black if None ("crop"),
            the blurred image for "blur".

    Returns:
        uint8 (S, S, 3) with S the longer side of the mask's box, last row and column included; a
        longer side is padded with black on both sides, the odd pixel on the far one.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    behind = 0 if background is None else background[box]
    crop = np.where(mask[box][..., None], image[box], behind)
    height, width = crop.shape[:2]
    side = max(height, width)
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = crop
    return square


def masked_images(
    image: Image, masks: npt.NDArray[np.bool_], form: str, blur_kernel: int
) -> list[Image]:
    """The masked image of every mask (M, H, W), in the form "crop" or "blur"."""
    background = blur_background(image, blur_kernel) if form == "blur" and len(masks) else None
    return [masked_image(image, mask, background) for mask in masks]
