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
STEEP = 1.5  # of the square of the distance from a side, so that all is one near the side
BEYOND = 0.3  # of the distance by which a mask lies beyond the first likely one


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
            likely count in an order, as in "second from the left", and as the first from a side.
    """
    total = np.zeros(len(likely))
    for cue in cues:
        if not cue.rank:
            total = total + _cost(cue.kind, where, likely)
    # "second from the left in the bottom row" is counted among those at the bottom
    among = likely * np.exp(-SHARP * (total - total.min())) if len(total) else likely
    for cue in cues:
        if cue.rank:
            total = total + np.abs(ahead(cue.kind, where, among) - (cue.rank - 1))
    return total


def _cost(kind: str, where: Layout, likely: Floats) -> Floats:
    if kind == "middle":
        off = np.abs(where.center - 0.5)
        return off[:, 0] + off[:, 1] / 4
    if kind in ("big", "small"):
        return where.size if kind == "small" else 1 - where.size
    if kind in ("front", "back"):
        along = 1 - where.high[:, 1] if kind == "front" else where.high[:, 1]
        return along + BEYOND * beyond(along, likely)
    axis, far = ENDS[kind]
    edge, center = (where.high if far else where.low)[:, axis], where.center[:, axis]
    along = (edge + center) / 2  # its near edge and its centre
    along = 1 - along if far else along
    return STEEP * along**2 + BEYOND * beyond(along, likely)


def beyond(along: Floats, likely: Floats) -> Floats:
    """By how much each mask is nearer to a side than the first likely mask is expected to be, (M,).

    The leftmost bear is the first of the bears, even if something else is farther left. A mask is
    the first likely one if it is likely and all that are nearer to the side are not.

    Args:
        along: Distance of each mask from the side, (M,).
        likely: From 0 to 1, (M,).

    Returns:
        0 or more; 0 for all if no mask is likely.
    """
    others = np.where(along[None] < along[:, None], 1 - likely, 1.0).prod(1)
    first = likely * others
    if not first.any():
        return np.zeros(len(along))
    return (first @ along / first.sum() - along).clip(0)


def ahead(kind: str, where: Layout, likely: Floats) -> Floats:
    """How many likely masks are nearer to a side than each mask, (M,)."""
    if kind in ("front", "back"):
        along = where.high[:, 1] * (-1 if kind == "front" else 1)
    else:
        axis, far = ENDS[kind]
        along = where.center[:, axis] * (-1 if far else 1)
    return (along[None] < along[:, None]) @ likely
