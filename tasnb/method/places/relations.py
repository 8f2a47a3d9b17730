"""How well two masks stand in a relation: "next to", "behind", "on", "left of"."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasnb.method.places.layout import Layout

Floats = npt.NDArray[np.floating]

REACH = 0.25  # of the image: at this gap between two boxes, "next to" has dropped to 1 / e
STEEP = 12.0  # how fast a comparison of two positions saturates


def compatibility(kind: str, where: Layout) -> Floats:
    """How well each mask (rows) stands in a relation to each other mask, (M, M) from 0 to 1."""
    low, high, center = where.low, where.high, where.center
    gap = np.maximum(low[:, None] - high, low - high[:, None]).clip(0)
    near = np.exp(-np.hypot(gap[..., 0], gap[..., 1]) / REACH)
    if kind == "near":
        found = near
    elif kind == "on":
        shared = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low)).clip(0)
        area = (high - low).prod(1)
        inside = shared.prod(-1) / np.maximum(np.minimum(area[:, None], area), 1e-12)
        found = (inside + near) / 2
    else:
        position, sign = {
            "left": (center[:, 0], -1),
            "right": (center[:, 0], 1),
            "above": (center[:, 1], -1),
            "below": (center[:, 1], 1),
            "behind": (high[:, 1], -1),  # what is nearer to the viewer ends lower in the picture
            "before": (high[:, 1], 1),
        }[kind]
        beyond = sign * (position[:, None] - position)
        found = near / (1 + np.exp(-STEEP * beyond))
    return found * ~np.eye(len(low), dtype=bool)


def related(kind: str, where: Layout, others: Floats) -> Floats:
    """The chance that each mask stands in a relation to a mask that shows the second noun, (M,).

    Args:
        others: The chance that each mask shows the second noun, (M,).
    """
    return 1 - (1 - compatibility(kind, where) * others).prod(1)
