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
    image: Image,
    mask: npt.NDArray[np.bool_],
    background: Image | None = None,
    rule: str = "published",
) -> Image:
    """Crops the box of a mask, the mask's pixels kept, on a black square (Eq. 1).

    Args:
        image: RGB uint8 (H, W, 3).
        mask: (H, W), not empty.
        background: What shows outside the mask within the box, (H, W, 3); black if None ("crop"),
            the blurred image for "blur".
        rule: "published", or "released": the box loses its last row and column, since SAM's width
            and height are the largest coordinate less the least, and no odd pixel is padded. A
            mask one pixel wide, of which nothing would be left, keeps that pixel.

    Returns:
        uint8 (S, S, 3) with S the longer side of the mask's box, last row and column included; the
        shorter side is padded with black on both ends, the odd pixel on the far one.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    last = int(rule == "published")
    box = tuple(slice(along[0], max(along[-1] + last, along[0] + 1)) for along in (rows, columns))
    behind = 0 if background is None else background[box]
    crop = np.where(mask[box][..., None], image[box], behind)
    height, width = crop.shape[:2]
    top, left = max(width - height, 0), max(height - width, 0)  # both ends together
    far_top, far_left = (top + last) // 2, (left + last) // 2
    return np.pad(crop, ((top // 2, far_top), (left // 2, far_left), (0, 0)))


def masked_images(
    image: Image,
    masks: npt.NDArray[np.bool_],
    form: str,
    blur_kernel: int,
    rule: str = "published",
) -> list[Image]:
    """The masked image of every mask (M, H, W), in the form "crop" or "blur"."""
    background = blur_background(image, blur_kernel) if form == "blur" and len(masks) else None
    return [masked_image(image, mask, background, rule) for mask in masks]
