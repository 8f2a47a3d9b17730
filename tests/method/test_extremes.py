"""Extremes are those of the likely things: "leftmost bear" beside a poodle."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tasnb.method.places import read, score
from tasnb.method.places.layout import layout
from tasnb.method.places.priors import Weights, beyond, prior

SIZE = (100, 200)  # height, width


def boxes(*centers: tuple[float, float], side: float = 20) -> np.ndarray:
    """Square boxes around centres (x, y)."""
    return np.array([(x - side / 2, y - side / 2, side, side) for x, y in centers])


ROW = boxes((20, 50), (70, 50), (130, 50), (180, 50))


def chosen(text: str, where: np.ndarray, scores: list[float]) -> int:
    """The mask with the best score if places are added with the weight of ``extended``."""
    s = np.array(scores)
    likely = np.exp((s - s.max()) / 0.05)
    total = s + prior(read(text), layout(where, SIZE), likely, {}, Weights(0.3, 0.0, 0.0))
    return int(total.argmax())


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("form", ["{}most bear", "the {} bear", "far {} bear"])
def test_an_extreme_is_one_of_the_likely_things(side: str, form: str) -> None:
    """Two bears; a poodle, which resembles one a little, is nearer to the side."""
    along = np.array([0.1, 0.3, 0.75])
    along = 1 - along if side in ("right", "bottom") else along
    centers = [(a * 200, 50) if side in ("left", "right") else (100, a * 100) for a in along]
    where = boxes(*centers, side=10)
    assert chosen(form.format(side), where, [0.24, 0.30, 0.30]) == 1
    assert chosen(form.format(side), where, [0.24, 0.29, 0.31]) == 1
    assert chosen(form.format(side), where, [0.30, 0.30, 0.30]) == 0  # it is a bear after all


def test_one_likely_thing_is_every_extreme_of_its_kind() -> None:
    for text in ("leftmost bear", "rightmost bear", "the bear on the left"):
        assert chosen(text, ROW, [0.0, 0.0, 1.0, 0.0]) == 2
        assert chosen(text, ROW, [0.1, 0.1, 0.45, 0.1]) == 2
    # the first of a front row, and the second
    column = boxes((100, 20), (100, 50), (100, 80))
    assert chosen("closest bear", column, [0.30, 0.30, 0.21]) == 1
    assert chosen("farthest bear", column, [0.21, 0.30, 0.30]) == 1


def test_what_is_not_likely_moves_no_extreme() -> None:
    along, likely = np.array([0.1, 0.4, 0.7]), np.array([0.0, 1.0, 0.6])
    np.testing.assert_allclose(beyond(along, likely), [0.3, 0, 0])
    np.testing.assert_allclose(beyond(along[1:], likely[1:]), [0, 0])
    # nothing is likely: the side of the image is all that is left
    assert (beyond(along, np.zeros(3)) == 0).all()
    nobody = score("leftmost bear", ROW, SIZE, np.zeros(4))
    assert nobody.argmax() == 0 and np.isfinite(nobody).all()


def test_the_first_likely_one_is_an_expectation() -> None:
    """Over all ways in which each mask is the thing or is not, given that one of them is."""
    random = np.random.default_rng(3)
    along, likely = random.random(5), random.random(5)
    total = place = 0.0
    for there in product((False, True), repeat=5):
        chance = np.prod(np.where(there, likely, 1 - likely))
        if any(there):
            total, place = total + chance, place + chance * along[list(there)].min()
    wanted = np.maximum(place / total - along, 0)
    np.testing.assert_allclose(beyond(along, likely), wanted)
