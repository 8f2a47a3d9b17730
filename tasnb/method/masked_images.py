"""Masked images: what CLIP and the captioner see of a proposal (Eq. 1 and Table 5).

The image is cropped to the box of a mask. In the form "crop", which the paper uses for CLIP, pixels
outside the mask are black; in the form "blur", which it uses for the captioner, they are blurred.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def blur_background(image: Image, kernel: int) -> Image:
    """The whole image (H, W, 3), blurred with a Gaussian kernel of ``kernel`` pixels.

    The standard deviation is OpenCV's default for the kernel, 0.3 ((k - 1) / 2 - 1) + 0.8 pixels,
    or 11.6 for k = 75. One blurred image serves all masks.
    """
    return cv2.GaussianBlur(image, (kernel, kernel), 0)


def masked_image(
    image: Image,
    mask: npt.NDArray[np.bool_],
    background: Image | None = None,
    rule: str = "published",
) -> Image:
    """Crops an image to the box of a mask and pads it to a square with black (Eq. 1).

    Args:
        image: RGB uint8 (H, W, 3).
        mask: (H, W), not empty.
        background: Shown in the box outside the mask, (H, W, 3): None for black ("crop"), or the
            blurred image ("blur").
        rule: "published", or "released": the box lacks its last row and column, since SAM's width
            and height are the difference of the largest and smallest coordinate, and the odd pixel
            of the padding is omitted. A mask one pixel wide keeps that pixel.

    Returns:
        uint8 (S, S, 3), where S is the longer side of the box. The shorter side is padded equally
        at both ends, with an odd pixel at the far end.
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
    """The masked images for all masks (M, H, W), in the form "crop" or "blur"."""
    background = blur_background(image, blur_kernel) if form == "blur" and len(masks) else None
    return [masked_image(image, mask, background, rule) for mask in masks]
