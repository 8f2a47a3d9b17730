"""The checker of the RefScenes expressions, rule by rule."""

from __future__ import annotations

import pytest
from checked import (
    CAR,
    CAT,
    CHEF,
    COAT,
    DOG,
    MAN,
    NINJA,
    TAXI,
    TIGER,
    TREE,
    WOMAN,
    Box,
    Ungrammatical,
    thing,
    verdicts,
)

# Rules about a single object.


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("the man", "yes no maybe no no"),
        ("guy", "yes no maybe no no"),
        ("cook", "no yes no no no"),
        ("person", "yes yes maybe no no"),
        ("animal", "no no no yes no"),
        ("a cat", "no no no maybe no"),
        ("big cat", "no no no yes no"),
        ("vehicle", "no no no no yes"),
        ("car", "no no no no maybe"),
        ("bicycle", "no no no no no"),
    ],
)
def test_name(sentence: str, expected: str) -> None:
    chef = thing({**CHEF, "names": ["chef", "cook", "person"]}, 60)
    things = thing(MAN, 20), chef, thing(NINJA, 100), thing(TIGER, 140), thing(TAXI, 180)
    assert verdicts(sentence, *things) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("old man", "yes no maybe maybe no"),
        ("elderly person", "yes no maybe maybe no"),
        ("the bald man", "no yes no maybe no"),
        ("redhead", "no no no maybe no"),
        ("red haired guy", "no no no maybe no"),
        ("red-haired guy", "no no no maybe no"),
        ("old redhead", None),
    ],
)
def test_look(sentence: str, expected: str | None) -> None:
    things = (
        thing(MAN, 20, look="old"),
        thing(MAN, 60, look="bald"),
        thing(MAN, 100, activity="running", maybe_looks=["old", "blond"]),
        thing(CHEF, 140),
        thing(CAT, 180),
    )
    if expected is None:
        with pytest.raises(Ungrammatical):
            verdicts(sentence, *things)
    else:
        assert verdicts(sentence, *things) == expected


def test_a_redhead_is_a_noun_and_an_adjective() -> None:
    things = thing(WOMAN, 20, look="red-haired"), thing(WOMAN, 100, look="blond"), thing(CAT, 150)
    for sentence in ("redhead", "the redhead one", "redhead woman", "left redhead"):
        assert verdicts(sentence, *things) == "yes no no"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("man running", "yes no no maybe no"),
        ("the running man", "yes no no maybe no"),
        ("jogging person", "yes no no maybe no"),
        ("person who is jogging", "yes no no maybe no"),
        ("person lifting weights", "no no yes maybe no"),
        ("man standing", "maybe yes maybe maybe no"),
        ("guy standing up", "maybe yes maybe maybe no"),
        ("cat standing", "no no no no no"),
    ],
)
def test_activity(sentence: str, expected: str) -> None:
    things = (
        thing(MAN, 20, activity="running"),
        thing(MAN, 60, activity="standing"),
        thing(MAN, 100, activity="lifting weights"),
        thing(CHEF, 140),
        thing(CAT, 180),
    )
    assert verdicts(sentence, *things) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("red car", "yes no no maybe no no"),
        ("grey car", "no no yes maybe no no"),
        ("the gray automobile", "no no yes no no no"),
        ("blue jacket", "no no no no yes no"),
        ("orange car", "no no no maybe no no"),
        ("the orange one", "no no no maybe no maybe"),
        ("the red one", "yes no no maybe no maybe"),
    ],
)
def test_colour(sentence: str, expected: str) -> None:
    things = (
        thing(CAR, 20),
        thing(CAR, 60, colour="blue"),
        thing(CAR, 100, colour="grey"),
        thing(TAXI, 140),
        thing(COAT, 160),
        thing(TREE, 180),
    )
    assert verdicts(sentence, *things) == expected


# Rules that compare objects.


@pytest.mark.parametrize(
    ("height", "sentence", "expected"),
    [
        (16, "big dog", "no yes no"),  # 1.6 times the area
        (16, "the largest dog", "no yes no"),
        (16, "small dog", "yes no no"),
        (15, "biggest dog", "no maybe no"),
        (15, "little dog", "maybe no no"),
        (10, "big dog", "maybe maybe no"),  # of the same size
        (10, "big brown dog", "maybe no no"),  # nothing to compare it with
        (16, "small animal", "no no yes"),  # the cat is smaller than either
    ],
)
def test_size(height: int, sentence: str, expected: str) -> None:
    things = (
        thing(DOG, 20, w=10, h=10),
        thing(DOG, 60, w=10, h=height, colour="black"),
        thing(CAT, 100, w=5, h=10),
    )
    assert verdicts(sentence, *things) == expected


def test_what_size_compares_with_may_only_maybe_fit() -> None:
    things = thing(CAT, 20, h=31), thing(CAT, 60), thing(TIGER, 100, h=31)
    assert verdicts("biggest cat", *things) == "maybe no maybe"
    assert verdicts("big black cat", *things) == "maybe no maybe"  # a tiger has no painted colour
    assert verdicts("big black cat", *things[:2]) == "yes no"


@pytest.mark.parametrize(
    ("left", "expected"), [(37, "yes no"), (38, "maybe no"), (45, "maybe no"), (46, "no no")]
)
def test_near(left: int, expected: str) -> None:
    # The car's columns end at 29; a man from column 37 on is 8 pixels away, 0.04 W.
    things = (MAN, (left, 40, 10, 20)), (CAR, (10, 40, 20, 20))
    for sentence in ("man next to the red car", "guy by a car", "person beside car"):
        assert verdicts(sentence, *things) == expected


def test_near_is_measured_across_corners() -> None:
    # 6 right and 6 down of the car's corner: 8.5 pixels.
    assert verdicts("man near car", (MAN, (35, 65, 9, 9)), (CAR, (10, 40, 20, 20))) == "maybe no"
    assert verdicts("man near car", (MAN, (34, 65, 9, 9)), (CAR, (10, 40, 20, 20))) == "yes no"


@pytest.mark.parametrize(
    ("man", "left", "right"),
    [
        (84, "yes no", "no no"),
        (85, "maybe no", "no no"),  # closer than the margin
        (100, "no no", "no no"),
        (115, "no no", "maybe no"),
        (116, "no no", "yes no"),
        (186, "no no", "yes no"),
    ],
)
def test_left_and_right_of(man: int, left: str, right: str) -> None:
    things = thing(MAN, man), thing(CAR, 100, y=80)
    assert verdicts("man to the left of the car", *things) == left
    assert verdicts("man left of the car", *things) == left
    assert verdicts("the guy that is to the right of the red car", *things) == right


def test_left_of_does_not_reach_across_the_image() -> None:
    assert verdicts("man left of car", thing(MAN, 60), thing(CAR, 160)) == "yes no"
    assert verdicts("man left of car", thing(MAN, 60), thing(CAR, 161)) == "maybe no"


@pytest.mark.parametrize(
    ("man", "behind"),
    [
        ((30, 30, 20, 10), "yes"),  # the car hides a part
        ((20, 30, 20, 10), "yes"),  # side by side: the pixels it grows by are on the car
        ((20, 8, 20, 10), "yes"),  # so are 2 columns of rows 15 to 19: 10 pixels
        ((20, 7, 20, 10), "maybe"),  # 8 pixels
        ((18, 30, 20, 10), "maybe"),  # 2 empty columns in between
        ((13, 30, 20, 10), "maybe"),  # 7: grown by 4 pixels each, they share one
        ((12, 30, 20, 10), "no"),
    ],
)
def test_behind(man: Box, behind: str) -> None:
    things = (MAN, man), (CAR, (40, 15, 60, 60))
    assert verdicts("man behind the car", *things) == f"{behind} no"
    assert verdicts("car in front of the man", *things) == f"no {behind}"
    assert verdicts("man in front of the car", *things) == "no no"
    assert verdicts("car behind the man", *things) == "no no"


def test_a_neighbour_must_be_the_only_one() -> None:
    man, other = thing(MAN, 20), thing(MAN, 150)
    assert verdicts("man next to car", man, thing(CAR, 35), other) == "yes no no"
    assert verdicts("man next to car", man, thing(CAR, 35), other, thing(CAR, 100)) == (
        "maybe no no no"
    )
    assert verdicts("man next to red car", man, thing(CAR, 35), thing(CAR, 100, colour="blue")) == (
        "yes no no"
    )
    assert verdicts("man next to car", man, thing(TAXI, 35), other) == "maybe no no"
    # A man next to a man: each has exactly one other man.
    assert verdicts("man next to the man", man, thing(MAN, 35)) == "yes yes"
    assert verdicts("man next to man running", man, thing(MAN, 35, activity="running")) == "yes no"


# Places.


@pytest.mark.parametrize(
    ("x", "left", "right"),
    [
        (92, "yes", "no"),
        (93, "maybe", "maybe"),
        (107, "maybe", "maybe"),
        (108, "no", "yes"),
    ],
)
def test_place_without_rivals(x: int, left: str, right: str) -> None:
    assert verdicts("cat on the left", thing(CAT, x), thing(DOG, 10)) == f"{left} no"
    assert verdicts("the right cat", thing(CAT, x), thing(DOG, 190)) == f"{right} no"


@pytest.mark.parametrize(
    ("one", "two", "left", "right"),
    [
        (50, 66, "yes no", "no maybe"),  # exactly the margin, but 66 is not on the right
        (50, 65, "maybe no", "no maybe"),
        (60, 76, "yes no", "no yes"),  # 0.38 W
        (124, 140, "yes no", "no yes"),  # 0.62 W
        (125, 141, "maybe no", "no yes"),
        (90, 90, "maybe maybe", "maybe maybe"),
    ],
)
def test_place_among_rivals(one: int, two: int, left: str, right: str) -> None:
    things = thing(CAT, one), thing(CAT, two, y=80), thing(DOG, 20)
    for word in ("left cat", "leftmost kitty", "cat far left", "cat that is on the left side"):
        assert verdicts(word, *things) == f"{left} no"
    for word in ("right cat", "rightmost kitty", "far right cat", "cat to the right"):
        assert verdicts(word, *things) == f"{right} no"


def test_top_and_bottom() -> None:
    things = thing(CAT, 50, 30), thing(CAT, 60, 38), thing(DOG, 100, 54)
    assert verdicts("top cat", *things) == "yes no no"
    assert verdicts("the lower cat", *things) == "no yes no"
    assert verdicts("cat at the bottom", thing(CAT, 50, 30), thing(CAT, 60, 37)) == "no maybe"
    assert verdicts("dog at the bottom", *things) == "no no yes"
    assert verdicts("upper dog", *things) == "no no no"
    assert verdicts("upper dog", thing(DOG, 60, 53)) == "maybe"


@pytest.mark.parametrize(
    ("xs", "expected"),
    [
        ((20, 36, 52), "no yes no"),
        ((36, 20, 52), "yes no no"),
        ((20, 35, 52), "no maybe no"),
        ((20, 60, 100, 140), "no maybe maybe no"),
        ((20, 60, 100, 140, 180), "no maybe yes maybe no"),
        ((20, 60), "no no"),
        ((90,), "no"),
    ],
)
def test_middle(xs: tuple[int, ...], expected: str) -> None:
    things = [thing(DOG, x) for x in xs]
    for sentence in ("middle dog", "dog in the middle", "the center puppy"):
        assert verdicts(sentence, *things) == expected


def test_two_places() -> None:
    things = [thing(CAT, x, y) for x in (20, 150) for y in (20, 80)]
    assert verdicts("bottom left cat", *things) == "no maybe no no"  # others are as far left
    things[0] = thing(CAT, 60, 20)
    for sentence in ("bottom left cat", "cat on the bottom left", "lower cat on the left"):
        assert verdicts(sentence, *things) == "no maybe no no"  # another is as far down
    things[3] = thing(CAT, 150, 60)
    assert verdicts("the cat at the bottom left", *things) == "no yes no no"
    assert verdicts("upper right cat", *things) == "no no maybe no"


def test_places_compare_what_everything_else_fits() -> None:
    things = (
        thing(CAR, 20, 80, colour="blue"),
        thing(CAR, 60, 80),
        thing(CAR, 150, 80),
        thing(MAN, 160, 64),
    )
    assert verdicts("left car", *things) == "yes no no no"
    assert verdicts("left red car", *things) == "no yes no no"
    assert verdicts("left car next to the man", *things) == "no no no no"
    assert verdicts("right car next to the man", *things) == "no no yes no"
    beside = thing(CAR, 20), thing(CAR, 112), thing(CAR, 148), thing(MAN, 130, w=21)
    assert verdicts("left car next to the man", *beside) == "no yes no no"
    taxi = thing(TAXI, 25)
    assert verdicts("left red car", *things, taxi) == "no no no no maybe"
