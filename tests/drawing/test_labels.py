"""Labels on pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tasnb.drawing.labels import DARK, LIGHT, dimmed


@pytest.mark.parametrize("size", [(320, 240), (3000, 200), (60, 900), (5, 4), (1, 1)])
def test_a_picture_keeps_its_size(size: tuple[int, int]) -> None:
    assert dimmed(Image.new("RGB", size, (200, 10, 10)), "nothing here").size == size


@pytest.mark.parametrize("size", [(320, 240), (120, 300)])
def test_the_picture_is_grey_and_dark_and_the_label_inside(size: tuple[int, int]) -> None:
    pixels = np.asarray(dimmed(Image.new("RGB", size, (250, 180, 180)), "nothing here fits")).copy()
    grey = pixels[: size[1] // 2]
    assert (grey == grey[0, 0]).all() and len(set(grey[0, 0].tolist())) <= 3
    assert 60 < grey.mean() < 160
    bright = (pixels == LIGHT).all(-1)
    ys, xs = np.nonzero(bright)
    assert len(ys) > 20 and ys.min() > size[1] // 2
    assert xs.min() > 0 and xs.max() < size[0] - 1 and ys.max() < size[1] - 1  # not cut off
    assert (pixels[-1] == DARK).all()
