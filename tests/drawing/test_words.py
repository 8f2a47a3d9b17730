"""Texts in figures: dollar signs, languages that matplotlib's own font lacks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tasnb.drawing import figures, places
from tasnb.drawing import words as module
from tasnb.drawing.words import words

CHINESE = "左边的猫"
DOLLARS = "left sign saying $5 # and $6"
IMAGE = np.zeros((12, 16, 3), np.uint8)
MASK = np.zeros((12, 16), bool)
MASK[2:6, 3:9] = True


@pytest.fixture(autouse=True)
def own_fonts() -> Iterator[None]:
    with matplotlib.rc_context({"backend": "agg"}), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def drawn(**text: object) -> np.ndarray:
    figure = Figure(figsize=(4, 1))
    canvas = FigureCanvasAgg(figure)
    figure.text(0.05, 0.5, **text)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize("text", [DOLLARS, "$", "costs $5", r"a \$5 and $6$", "$$", r"\frac $x_1$"])
def test_dollars_are_no_formula(text: str) -> None:
    assert (drawn(s=words(text)) == drawn(s=text, parse_math=False)).all()


def test_plain_texts_stay_and_are_wrapped() -> None:
    assert words("“the left” cat → é") == "“the left” cat → é"
    assert words("the left one\n of  both", 8) == "the left\none of\nboth"
    assert words("") == "" and words(" ", 5) == ""


def test_what_no_font_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_others", lambda: [])
    assert words(f"“{CHINESE}”, {CHINESE[0]}") == (
        "“[4 characters without a font]”, [1 character without a font]"
    )
    assert words("a \N{DOG FACE}!") == "a [dog face]!"
    assert words("half \ud83d") == "half [unknown sign]"
    drawn(s=words(CHINESE))


def test_another_font_is_taken_where_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """STIX in the place of a Chinese font: it has letters that DejaVu lacks."""
    own, stix = (font_manager.findfont(name) for name in ("DejaVu Sans", "STIXGeneral"))
    more = [c for c in sorted(module._glyphs(stix) - module._glyphs(own)) if chr(c).isalpha()]
    text = chr(more[0])
    monkeypatch.setattr(module, "_others", lambda: [("STIXGeneral", stix)])
    before = list(matplotlib.rcParams["font.family"])
    assert words(text) == text
    assert matplotlib.rcParams["font.family"] == [*before, "STIXGeneral"]
    assert (drawn(s=words(text)) < 128).any()
    matplotlib.rcParams["font.family"] = before
    assert words(text * 2) == text * 2  # known, and the font is there again
    assert matplotlib.rcParams["font.family"] == [*before, "STIXGeneral"]


@pytest.mark.parametrize("text", [DOLLARS, CHINESE, "$x^{2$ and $"])
def test_every_figure_takes_every_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_others", lambda: [])
    pairs = pd.DataFrame(
        {"V": [0.1], "P": [0.2], "N": [-0.1], "S": [0.1], "caption": [text], "in_region": [True],
         "chosen": [True]}
    )  # fmt: skip
    center = np.array([5.0])
    one = {"image": IMAGE, "expression": text, "truth": MASK}
    made = [
        figures.examples([figures.Example(**one, chosen={"a": MASK[None], "b": MASK[None]})]),
        figures.networks([figures.Bested(**one, best={text: MASK})]),
        figures.captions([IMAGE], [IMAGE], [text], [text]),
        figures.scores(IMAGE, MASK[None], pairs, text, 0.1, 0.7, MASK),
        figures.rectifier(
            [
                figures.Rectified(
                    IMAGE, MASK[None], text, "left", center, center, np.array([True]), [0], [], MASK
                )
            ]
        ),
        figures.whole_captions([IMAGE], [text]),
        places.priors(
            [
                places.Placed(
                    IMAGE,
                    MASK[None],
                    text,
                    f"near: {text}",
                    np.array([[5.0, 6.0]]),
                    np.ones(1),
                    np.eye(3),
                    [0],
                    [],
                )
            ]
        ),
        places.spoken(
            pd.DataFrame(
                {
                    "words of place": ["a size"],
                    "example": [text],
                    "share (%)": [2.0],
                    "read by the paper's rule (%)": [50.0],
                }
            )
        ),
        figures.activation_maps(**one, maps={text: {text: np.ones((3, 4))}}),
        figures.overview(
            figures.Overview(
                **one,
                sentence=0,
                orientation="",
                caption=text,
                negatives=[text],
                masks=MASK[None],
                crops=[IMAGE],
                blurs=[IMAGE],
                pairs=pairs,
            )
        ),
    ]
    for figure in made:
        figure.canvas.draw()
        plt.close(figure)
