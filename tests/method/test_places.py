"""Words of place: what is read from an expression, and which mask it leads to."""

from __future__ import annotations

import numpy as np
import pytest

from tasnb.method.places import in_words, read, unplaced
from tasnb.method.places.cues import words_of
from tasnb.method.places.layout import Layout, layout
from tasnb.method.places.priors import Weights, cost, over_image, prior
from tasnb.method.places.relations import compatibility, related

SIZE = (100, 200)  # height, width
CUES = Weights(cues=1.0, size=0.0, relation=0.0)


def boxes(*centers: tuple[float, float], side: float = 20) -> np.ndarray:
    """Square boxes around centres (x, y)."""
    return np.array([(x - side / 2, y - side / 2, side, side) for x, y in centers])


def best(text: str, where: np.ndarray, likely: list[float] | None = None) -> int:
    """The mask to which the words of place of an expression lead."""
    sure = np.ones(len(where)) if likely is None else np.array(likely)
    total = 3 * sure + prior(read(text), layout(where, SIZE), sure, {}, CUES)
    return int(total.argmax())


# --- What is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the lamp", ""),
        ("left lamp", "left"),
        ("lamp on the far right", "right"),
        ("upper left lamp", "top, left"),
        ("lowermost lamp", "bottom"),
        ("lamp in the middle", "middle"),
        ("center lamp", "middle"),
        ("lamp closest to us", "front"),
        ("lamp nearest the camera", "front"),
        ("lamp in the background", "back"),
        ("the farthest lamp", "back"),
        ("the biggest lamp", "big"),
        ("tiny lamp", "small"),
        ("third lamp from the left", "left 3"),
        ("second lamp from right in front row", "right 2, front"),
        ("2nd from the top", "top 2"),
        ("second left lamp", "left 2"),
        ("left second lamp", "left 2"),
        ("lamp next to the sofa", "near: sofa"),
        ("the lamp behind him", "behind: him"),
        ("lamp in front of a red sofa", "before: red sofa"),
        ("lamp to the left of the sofa", "left, left: sofa"),
        ("lamp under the shelf", "bottom, below: shelf"),
        ("clown holding an umbrella", "on: umbrella"),
        ("clown on a bike that is right of the tent", "right, on: bike, right: tent"),
    ],
)
def test_each_kind_of_cue(text: str, expected: str) -> None:
    assert in_words(read(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("topleft lamp", "top, left"),
        ("lamp farright", "right"),
        ("botom lamp", "bottom"),
        ("rigth lamp", "right"),
        ("lamp in the mddle", "middle"),
        ("secnd from left", "left 2"),
        ("top-left lamp", "top, left"),
        ("LEFT LAMP", "left"),
        ("the closet", ""),
        ("backpack", ""),
        ("pizza topping", ""),
    ],
)
def test_glued_and_misspelt_words(text: str, expected: str) -> None:
    assert in_words(read(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clown in a pink top", ""),
        ("juggler in tank top", ""),
        ("orange top right", "top, right"),
        ("juggler looking left", ""),
        ("clown turned to the right", ""),
        ("a horse facing right", ""),
        ("her left hand", ""),
        ("the clown 's left shoe", ""),
        ("left foot of the clown", ""),
        ("left hand side clown", "left"),
        ("the tent right behind the clown", "behind: clown"),
        ("tent right next to the pole", "near: pole"),
        ("a trunk with a hat on top", "on: hat"),
        ("a canoe with a red bottom", ""),
        ("the clown with his back to us", ""),
        ("the back of the bus", ""),
        ("clown in the back", "back"),
        ("far left clown", "left"),
        ("big nose clown", "big"),
        ("clown with big ears", ""),
        ("the left clown on the right", ""),
        ("clown in front near the back", ""),
        ("lamp on the left of the picture", "left"),
        ("lamp near the edge", ""),
    ],
)
def test_words_that_say_something_else(text: str, expected: str) -> None:
    assert in_words(read(text)) == expected


def test_words_of_an_expression() -> None:
    assert words_of("Topleft  botom-right, please") == [
        "top",
        "left",
        "bottom",
        "right",
        ",",
        "please",
    ]
    assert read("") == read(" , .") and in_words(read("")) == ""


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("leftmost red bus", "leftmost red bus", "red bus"),
        ("the far left ninja", "the far left ninja", "the ninja"),
        ("topleft lamp", "topleft lamp", "lamp"),
        ("Rigth lamp", "Rigth lamp", "lamp"),
        ("second clown from the left", "second clown", "clown"),
        ("smallest clown", "smallest clown", "clown"),
        ("rightmost lamp left of the sofa", "rightmost lamp", "lamp"),
        ("left hand of the clown", "left hand", "left hand"),
        ("clown in a pink top", "clown", "clown"),
        ("the pink top", "the pink top", "the pink top"),
        ("the left", "the left", "the left"),
        ("a lamp", "a lamp", "a lamp"),
        ("", "", ""),
    ],
)
def test_a_phrase_without_words_of_place(text: str, phrase: str, expected: str) -> None:
    assert unplaced(text, phrase) == expected


# --- Where it leads -------------------------------------------------------------------------------

ROW = boxes((20, 50), (70, 50), (130, 50), (180, 50))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("left", 0), ("right", 3), ("second from left", 1), ("second from the right", 2),
     ("third from the left", 2), ("first from right", 3)],
)  # fmt: skip
def test_sides_and_order(text: str, expected: int) -> None:
    assert best(text, ROW) == expected
    mirrored = ROW.copy()
    mirrored[:, 0] = SIZE[1] - ROW[:, 0] - ROW[:, 2]
    swapped = {"left": "right", "right": "left"}
    other = " ".join(swapped.get(word, word) for word in text.split())
    assert best(other, mirrored) == expected


def test_order_counts_likely_masks_only() -> None:
    likely = [1.0, 0.0, 1.0, 1.0]
    assert best("second from the left", ROW, likely) == 2
    assert best("second from left", ROW, [0.9, 0.1, 1.0, 1.0]) == 2
    # in the bottom row only
    rows = boxes((20, 20), (90, 20), (30, 80), (100, 80), (170, 80))
    assert best("second from left in the bottom row", rows) == 3
    assert best("second from left in the top row", rows) == 1


def test_heights_corners_middle_nearness_and_size() -> None:
    corners = boxes((20, 15), (180, 15), (20, 85), (180, 85), (100, 50))
    for text, expected in (
        ("top left", 0), ("upper right one", 1), ("bottom left", 2), ("lower right", 3),
        ("the middle one", 4),
    ):  # fmt: skip
        assert best(text, corners) == expected
    column = boxes((100, 20), (100, 50), (100, 80))
    assert best("the closest", column) == 2 and best("clown in the back", column) == 0
    assert best("second from the front", column) == 1
    sized = np.array([(0, 0, 90, 90), (100, 0, 40, 40), (150, 0, 10, 10)], float)
    assert best("biggest", sized) == 0 and best("smallest", sized) == 2


def test_relations_lead_to_the_neighbour_of_the_second_noun() -> None:
    where = layout(ROW, SIZE)
    sofa = np.array([0, 0, 1.0, 0])
    near = related("near", where, sofa)
    assert near.argmax() in (1, 3) and near[0] < near[1] and near[2] == 0
    assert related("left", where, sofa).argmax() == 1
    assert related("right", where, sofa).argmax() == 3
    column = layout(boxes((100, 20), (100, 50), (100, 80)), SIZE)
    second = np.array([0, 1.0, 0])
    assert (
        related("above", column, second).argmax() == related("behind", column, second).argmax() == 0
    )
    assert (
        related("below", column, second).argmax() == related("before", column, second).argmax() == 2
    )
    inside = layout(np.array([(0, 0, 60, 60), (10, 10, 20, 20), (150, 70, 20, 20)], float), SIZE)
    assert related("on", inside, np.array([0, 1.0, 0])).argmax() == 0
    assert (related("near", where, np.zeros(4)) == 0).all()


def test_a_relation_counts_only_with_a_weight_and_a_second_noun_that_is_there() -> None:
    reading, where, likely = read("lamp next to the sofa"), layout(ROW, SIZE), np.ones(4)
    others = {"sofa": np.array([0, 0, 0, 1.0])}
    found = prior(reading, where, likely, others, Weights(0.0, 0.0, 0.5))
    np.testing.assert_allclose(found, 0.5 * related("near", where, others["sofa"]))
    assert not prior(reading, where, likely, {}, Weights(0.0, 0.0, 0.5)).any()
    assert not prior(reading, where, likely, others, Weights(0.0, 0.0, 0.0)).any()


def test_the_size_prior_stands_alone() -> None:
    where = layout(np.array([(0, 0, 100, 100), (0, 0, 50, 25)], float), SIZE)
    found = prior(read("the left lamp"), where, np.ones(2), {}, Weights(0.0, 0.4, 0.0))
    np.testing.assert_allclose(found, 0.4 * np.sqrt([0.5, 0.0625]))


def test_no_mask_and_one_mask() -> None:
    for count in (0, 1):
        where = layout(boxes(*[(50, 50)] * count).reshape(count, 4), SIZE)
        reading = read("second from left next to the sofa")
        found = prior(reading, where, np.ones(count), {"sofa": np.ones(count)}, Weights(1, 1, 1))
        assert found.shape == (count,) and np.isfinite(found).all()


# --- The arithmetic, literally --------------------------------------------------------------------


def literal_cost(cues: tuple, where: Layout, likely: np.ndarray) -> list[float]:
    count, total = len(likely), [0.0] * len(likely)

    def first(along: list[float]) -> float:
        """Where the first likely mask is expected."""
        order, left, total, place = np.argsort(along), 1.0, 0.0, 0.0
        for i in order:
            total, place = total + left * likely[i], place + left * likely[i] * along[i]
            left *= 1 - likely[i]
        return place / total

    middle = [[(a + b) / 2 for a, b in zip(*ends, strict=True)]
              for ends in zip(where.low, where.high, strict=True)]  # fmt: skip
    for kind, rank in cues:
        if rank:
            continue
        along = [
            {
                "left": (x0 + x) / 2, "right": 1 - (x1 + x) / 2,
                "top": (y0 + y) / 2, "bottom": 1 - (y1 + y) / 2,
                "middle": abs(x - 0.5) + abs(y - 0.5) / 4, "front": 1 - y1, "back": y1,
                "big": 1 - size, "small": size,
            }[kind]
            for (x0, y0), (x1, y1), (x, y), size in zip(
                where.low, where.high, middle, where.size, strict=True
            )
        ]  # fmt: skip
        for i in range(count):
            total[i] += (
                1.5 * along[i] ** 2 if kind in ("left", "right", "top", "bottom") else along[i]
            )
            if kind not in ("middle", "big", "small"):
                total[i] += 0.3 * max(first(along) - along[i], 0)
    among = [likely[i] * np.exp(-2 * (total[i] - min(total))) for i in range(count)]
    nearer = {"left": lambda i: middle[i][0], "right": lambda i: -middle[i][0],
              "top": lambda i: middle[i][1], "bottom": lambda i: -middle[i][1],
              "front": lambda i: -where.high[i][1], "back": lambda i: where.high[i][1]}  # fmt: skip
    for kind, rank in cues:
        for i in range(count if rank else 0):
            at = nearer[kind]
            total[i] += abs(sum(among[j] for j in range(count) if at(j) < at(i)) - (rank - 1))
    return total


def literal_compatibility(kind: str, where: Layout, i: int, j: int) -> float:
    if i == j:
        return 0.0
    (ax0, ay0), (ax1, ay1) = where.low[i], where.high[i]
    (bx0, by0), (bx1, by1) = where.low[j], where.high[j]
    gap = np.hypot(max(ax0 - bx1, bx0 - ax1, 0), max(ay0 - by1, by0 - ay1, 0))
    near = np.exp(-gap / 0.25)
    if kind == "near":
        return near
    if kind == "on":
        shared = max(min(ax1, bx1) - max(ax0, bx0), 0) * max(min(ay1, by1) - max(ay0, by0), 0)
        smaller = min((ax1 - ax0) * (ay1 - ay0), (bx1 - bx0) * (by1 - by0))
        return (shared / smaller + near) / 2
    beyond = {"left": (bx0 + bx1 - ax0 - ax1) / 2, "right": (ax0 + ax1 - bx0 - bx1) / 2,
              "above": (by0 + by1 - ay0 - ay1) / 2, "below": (ay0 + ay1 - by0 - by1) / 2,
              "behind": by1 - ay1, "before": ay1 - by1}[kind]  # fmt: skip
    return near / (1 + np.exp(-12 * beyond))


def test_against_loops() -> None:
    random = np.random.default_rng(0)
    corner = random.uniform(0, (150, 70), (7, 2))
    where = layout(np.hstack([corner, random.uniform(5, (50, 30), (7, 2))]), SIZE)
    likely = random.uniform(0, 1, 7)
    texts = [
        "top left", "middle", "closest right", "biggest in back", "small bottom one",
        "third from left in front", "second from the back", "second from top right",
    ]  # fmt: skip
    for text in texts:
        cues = read(text).cues
        assert cues
        np.testing.assert_allclose(cost(cues, where, likely), literal_cost(cues, where, likely))
    for kind in ("near", "on", "left", "right", "above", "below", "behind", "before"):
        wanted = [[literal_compatibility(kind, where, i, j) for j in range(7)] for i in range(7)]
        np.testing.assert_allclose(compatibility(kind, where), wanted)
        chance = [1 - np.prod([1 - row[j] * likely[j] for j in range(7)]) for row in wanted]
        np.testing.assert_allclose(related(kind, where, likely), chance)


@pytest.mark.parametrize(
    "text", ["left lamp", "lamp in the middle", "second lamp from the right", "lamp by the chair"]
)
def test_the_prior_over_an_image_is_that_of_one_more_mask(text: str) -> None:
    """Placed there by hand; it is no likely one, so the others are counted as before."""
    there, weights = boxes((30, 40), (90, 60), (150, 50), side=24), Weights(0.3, 0.1, 0.2)
    likely, chairs = np.array([1.0, 0.5, 0.9]), np.array([0.1, 0.8, 0.1])
    found = over_image(
        read(text), layout(there, SIZE), likely, {"chair": chairs}, weights, shape=(5, 10)
    )
    assert found.shape == (5, 10)
    for row, column in ((0, 0), (2, 4), (4, 9)):
        center = (column + 0.5) * SIZE[1] / 10, (row + 0.5) * SIZE[0] / 5
        more = np.concatenate([there, boxes(center, side=24)])
        others = {"chair": np.append(chairs, 0)}
        one = prior(read(text), layout(more, SIZE), np.append(likely, 0), others, weights)
        assert found[row, column] == pytest.approx(one[-1])
