"""What place adds to the score of each mask: soft, so that no mask is excluded for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasnb.method.places.cues import Cue, Reading
from tasnb.method.places.layout import Layout
from tasnb.method.places.relations import related

Floats = npt.NDArray[np.floating]

# Side -> (axis, whether it is the end at 1).
ENDS = {"left": (0, False), "right": (0, True), "top": (1, False), "bottom": (1, True)}
SHARP = 2.0  # how strongly other cues thin out the masks that are counted
LARGER = 0.2  # by how much a side prefers large masks, whose centres are farther from the edge


class Weights(NamedTuple):
    """How much each part of the prior counts; 0 leaves it out.

    Attributes:
        cues: Sides, order and sizes that the expression names.
        size: People mention what is large.
        relation: Whether a mask is next to (behind, on, ...) what the second noun names.
    """

    cues: float
    size: float
    relation: float


def prior(
    reading: Reading,
    where: Layout,
    likely: Floats,
    others: Mapping[str, Floats],
    weights: Weights,
) -> Floats:
    """What place and size add to the score of each mask, (M,).

    Args:
        likely: How likely each mask is by everything but its place, from 0 to 1, (M,).
        others: Second noun of a relation -> the chance that each mask shows it, (M,); a relation to
            a noun that is not there is left out.
    """
    total = weights.size * where.size
    if weights.cues:
        total = total - weights.cues * cost(reading.cues, where, likely)
    for kind, noun in reading.relations if weights.relation else ():
        if noun in others:
            total = total + weights.relation * related(kind, where, others[noun])
    return total


def over_image(
    reading: Reading,
    where: Layout,
    likely: Floats,
    others: Mapping[str, Floats],
    weights: Weights,
    shape: tuple[int, int] = (24, 32),
) -> Floats:
    """The prior of one more mask, of median size, with its centre at each point of a grid.

    It is as unlikely as can be, so it does not count in an order.

    Args:
        likely, others: As in ``prior``.
        shape: Rows and columns of the grid, (h, w).

    Returns:
        (h, w).
    """
    y, x = (np.indices(shape) + 0.5) / np.array(shape)[:, None, None]
    center = np.stack([x, y], -1).reshape(-1, 2)
    half = np.median(where.high - where.low, 0) / 2
    nobody = np.zeros(len(center))
    layout = Layout(
        np.concatenate([where.low, center - half]),
        np.concatenate([where.high, center + half]),
        np.concatenate([where.size, nobody + np.median(where.size)]),
    )
    more = {noun: np.concatenate([own, nobody]) for noun, own in others.items()}
    found = prior(reading, layout, np.concatenate([likely, nobody]), more, weights)
    return found[len(likely) :].reshape(shape)


def cost(cues: tuple[Cue, ...], where: Layout, likely: Floats) -> Floats:
    """The sum of what each cue costs each mask, (M,); 0 to about 1 each, the lower the better.

    Args:
        likely: How likely each mask is by everything else, from 0 to 1, (M,). Only masks that are
            likely count in an order, as in "second from the left".
    """
    total = np.zeros(len(likely))
    for cue in cues:
        if not cue.rank:
            total = total + _cost(cue.kind, where)
    # "second from the left in the bottom row" is counted among those at the bottom
    among = likely * np.exp(-SHARP * (total - total.min())) if len(total) else likely
    for cue in cues:
        if cue.rank:
            total = total + np.abs(ahead(cue.kind, where, among) - (cue.rank - 1))
    return total


def _cost(kind: str, where: Layout) -> Floats:
    if kind in ENDS:
        axis, far = ENDS[kind]
        edge, center = (where.high if far else where.low)[:, axis], where.center[:, axis]
        along = (edge + center) / 2  # its near edge and its centre
        return (1 - along if far else along) - LARGER * where.size
    if kind == "middle":
        off = np.abs(where.center - 0.5)
        return off[:, 0] + off[:, 1] / 4
    return {
        "front": 1 - where.high[:, 1],
        "back": where.high[:, 1],
        "big": 1 - where.size,
        "small": where.size,
    }[kind]


def ahead(kind: str, where: Layout, likely: Floats) -> Floats:
    """How many likely masks are nearer to a side than each mask, (M,)."""
    if kind in ("front", "back"):
        along = where.high[:, 1] * (-1 if kind == "front" else 1)
    else:
        axis, far = ENDS[kind]
        along = where.center[:, axis] * (-1 if far else 1)
    return (along[None] < along[:, None]) @ likely
