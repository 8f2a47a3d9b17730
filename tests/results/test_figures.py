"""Figures when there is nothing to draw, as on a small dataset of one's own."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from tasnb.results import figures


@pytest.mark.parametrize("draw", [figures.examples, figures.proposals, figures.rectifier])
def test_nothing_to_show(draw, tmp_path) -> None:
    figure = draw([])
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["none to show"]
    figure.savefig(tmp_path / "a.png")
    plt.close(figure)
