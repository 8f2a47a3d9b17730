"""Outlines as SVG paths, filled as a browser fills them."""

from __future__ import annotations

import re

import cv2
import numpy as np


def inside_of(path: str, height: int, width: int, fine: int = 8) -> np.ndarray:
    """The pixels (H, W) whose centre is inside an SVG path, by the even-odd rule."""
    canvas = np.zeros((height * fine, width * fine), np.uint8)
    lines = [
        np.array([point.split() for point in part.split("L")], float) * fine
        for part in re.findall(r"M([^Z]+)Z", path)
    ]
    cv2.fillPoly(canvas, [np.rint(line).astype(np.int32) for line in lines], 1)
    return canvas[fine // 2 :: fine, fine // 2 :: fine].astype(bool)


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """The IoU of two masks."""
    return (one & other).sum() / max(1, (one | other).sum())
