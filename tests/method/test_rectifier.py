"""The spatial rectifier: centres, halves and choices worked out by hand, and mirror symmetry."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasnb.method.rectifier import in_region, in_region_grouped, rectify

MIRRORED = {"left": "right", "right": "left"}
PLACES = [
    *("", "left", "right", "top", "bottom"),
    *("left top", "left bottom", "right top", "right bottom"),
]


@pytest.mark.parametrize(
    ("orientation", "inside"),
    [
        ("", [1, 1, 1, 1, 1]),
        # x medians: 30, which belongs to both halves; y median: 20
        ("left", [1, 1, 1, 0, 0]),
        ("right", [0, 0, 1, 1, 1]),
        ("top", [1, 0, 1, 0, 1]),
        ("bottom", [0, 1, 1, 1, 0]),
        ("left top", [1, 0, 1, 0, 0]),
        ("right bottom", [0, 0, 1, 1, 0]),
    ],
)
def test_halves_are_taken_by_the_median(orientation: str, inside: list[int]) -> None:
    center_x, center_y = [10, 20, 30, 40, 90], [10, 50, 20, 40, 5]
    assert in_region(center_x, center_y, orientation).tolist() == [bool(i) for i in inside]


def test_an_even_number_of_masks_is_split_between_the_middle_two() -> None:
    center_x = [5, 1, 100, 7]  # median 6
    assert in_region(center_x, [0, 0, 0, 0], "left").tolist() == [True, True, False, False]
    assert in_region(center_x, [0, 0, 0, 0], "right").tolist() == [False, False, True, True]


def test_one_mask_lies_everywhere_and_no_masks_nowhere() -> None:
    assert in_region([3], [4], "left bottom").tolist() == [True]
    assert in_region([], [], "left").tolist() == []


def test_unknown_word() -> None:
    with pytest.raises(KeyError, match="middle"):
        in_region([1], [1], "middle")


def test_rectify_takes_the_best_within() -> None:
    scores, center_x, center_y = [0.1, 0.2, 0.9], [10, 20, 30], [0, 0, 0]
    assert rectify(scores, center_x, center_y, "") == 2
    assert rectify(scores, center_x, center_y, "left") == 1
    assert rectify(scores, center_x, center_y, "right") == 2


def test_rectify_ties_go_to_the_first() -> None:
    assert rectify([0.5, 0.7, 0.7], [1, 2, 3], [0, 0, 0], "") == 1
    assert rectify([0.7, 0.5, 0.7], [3, 2, 1], [0, 0, 0], "") == 0


def test_rectify_keeps_scores_below_zero() -> None:
    assert rectify([-0.1, -0.5, -0.3], [30, 10, 20], [0, 0, 0], "left") == 2


def test_empty_region_leaves_the_unrectified_choice() -> None:
    # Two masks on the diagonal: neither is both left and at the bottom.
    center_x, center_y = [10, 20], [10, 20]
    assert not in_region(center_x, center_y, "left bottom").any()
    assert rectify([0.3, 0.4], center_x, center_y, "left bottom") == 1


def test_rectify_nothing() -> None:
    with pytest.raises(ValueError, match="no scores"):
        rectify([], [], [], "left")


# Multiples of a quarter pixel, so that mirroring is exact.
centers = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 400)).map(lambda c: (c[0] / 4, c[1] / 4)),
    min_size=1,
    max_size=12,
)


@given(centers, st.sampled_from(PLACES), st.randoms(use_true_random=False))
def test_mirroring_the_image_mirrors_the_choice(centers, orientation, random) -> None:
    x, y = np.array(centers).T
    scores = np.arange(len(x), dtype=float)
    random.shuffle(scores)
    mirrored = " ".join(MIRRORED.get(word, word) for word in orientation.split())
    assert rectify(scores, x, y, orientation) == rectify(scores, 100 - x, y, mirrored)


def slow_choice(scores, center_x, center_y, orientation) -> int:
    """Section 3.4 literally, one mask at a time."""

    def median(values):
        values = sorted(values)
        middle = len(values) // 2
        return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2

    inside = []
    for i in range(len(scores)):
        lies = {
            "left": center_x[i] <= median(center_x),
            "right": center_x[i] >= median(center_x),
            "top": center_y[i] <= median(center_y),
            "bottom": center_y[i] >= median(center_y),
        }
        if all(lies[word] for word in orientation.split()):
            inside.append(i)
    best = None
    for i in inside or range(len(scores)):
        if best is None or scores[i] > scores[best]:
            best = i
    return best


tables = st.lists(
    st.tuples(
        st.sampled_from(PLACES),
        st.lists(
            st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(-3, 3)),
            min_size=1,
            max_size=6,
        ),
    ),
    min_size=1,
    max_size=5,
)


@given(tables, st.randoms(use_true_random=False))
def test_grouped_equals_one_by_one_and_the_literal_reading(table, random) -> None:
    rows = [
        (key, orientation, float(x), float(y), float(score))
        for key, (orientation, masks) in enumerate(table)
        for x, y, score in masks
    ]
    random.shuffle(rows)  # groups need not be contiguous
    frame = pd.DataFrame(rows, columns=["key", "orientation", "center_x", "center_y", "score"])
    inside = in_region_grouped(frame)
    for _, group in frame.groupby("key", sort=False):
        orientation = group["orientation"].iloc[0]
        x, y, scores = (group[c].tolist() for c in ("center_x", "center_y", "score"))
        assert inside[group.index].tolist() == in_region(x, y, orientation).tolist()
        expected = slow_choice(scores, x, y, orientation)
        assert rectify(scores, x, y, orientation) == expected


def test_grouped_by_two_columns_and_with_any_index() -> None:
    frame = pd.DataFrame(
        {
            "image": ["a", "a", "b", "b"],
            "sentence": [1, 1, 1, 1],
            "orientation": ["left", "left", "right", "right"],
            "center_x": [1.0, 2.0, 1.0, 2.0],
            "center_y": [0.0, 0.0, 0.0, 0.0],
        },
        index=[7, 7, 7, 7],
    )
    by = ["image", "sentence"]
    assert in_region_grouped(frame, by).tolist() == [True, False, False, True]
