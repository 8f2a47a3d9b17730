"""Charts that compare runs show every value, with its interval."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from tasnb.drawing import charts, runs

NAMES = ["variant", "alpha", "encoder", "value", "CI low", "CI high"]
VALUES = [
    ("a", 0.0, "rn", 40.0, 38.0, 43.0),
    ("a", 0.0, "vit", 42.0, 41.0, 44.0),
    ("b", 0.4, "rn", 45.0, 44.0, 47.0),
]


def dots(figure) -> list[tuple[float, float]]:
    return [tuple(point) for line in figure.axes[0].lines if line.get_marker() == "o"
            for point in line.get_xydata()]  # fmt: skip


def test_variants_by_name() -> None:
    """The encoders of a variant are moved apart; a single one is in the middle."""
    figure = runs.variants(pd.DataFrame(VALUES, columns=NAMES))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a", "b"]
    found = dict(dots(figure))
    assert list(found) == [40, 45, 42] and found[45] == 1
    assert found[40] == pytest.approx(-0.2) and found[42] == pytest.approx(0.2)
    plt.close(figure)


def test_variants_by_a_number() -> None:
    figure = runs.variants(pd.DataFrame(VALUES, columns=NAMES), "alpha")
    assert figure.axes[0].get_xlabel() == "alpha"
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0", "0.4"]
    for x, y in dots(figure):
        assert x == pytest.approx(0.4 if y == 45 else 0, abs=0.01)
    plt.close(figure)


def test_differences_of_every_column() -> None:
    names = ["run", "encoder", "column", "difference", "CI low", "CI high"]
    rows = [(run, "vit", column, k, k - 1, k + 2.0)
            for k, (run, column) in enumerate([("b", "x"), ("b", "y"), ("c", "y")])]  # fmt: skip
    figure = runs.differences(pd.DataFrame(rows, columns=names), "a")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "b, vit", "c, vit",
    ]  # fmt: skip
    assert [(x, round(y)) for x, y in dots(figure)] == [(0, 0), (1, 1), (2, 1)]
    plt.close(figure)


def test_an_interval_beside_its_value() -> None:
    """As with a single image, where rounding alone decides, or with few that differ."""
    left, right = charts.reach(pd.Series([1.0]), pd.Series([1.0 + 1e-15]), pd.Series([0.5]))
    assert left.item() == 0 == right.item()
    figure = runs.variants(pd.DataFrame([("a", 0.0, "rn", 40.0, 41.0, 43.0)], columns=NAMES))
    assert dots(figure) == [(40, 0)]
    plt.close(figure)
