"""Where masks are, in units of the image: x and y run from 0 at the left and top to 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


class Layout(NamedTuple):
    """Boxes of masks in units of the image.

    Attributes:
        low, high: Left top and right bottom corners, (M, 2).
        size: Square roots of the areas, (M,).
    """

    low: Floats
    high: Floats
    size: Floats

    @property
    def center(self) -> Floats:
        """(M, 2)."""
        return (self.low + self.high) / 2


def layout(boxes: Floats, size: tuple[int, int]) -> Layout:
    """The layout of boxes.

    Args:
        boxes: x, y, width, height in pixels, (M, 4).
        size: Height and width of the image in pixels.
    """
    scale = np.array(size[::-1], float)
    low, extent = boxes[:, :2] / scale, boxes[:, 2:] / scale
    return Layout(low, low + extent, np.sqrt(extent.prod(1)))
