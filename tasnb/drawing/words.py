"""Words of users and of captioners in figures, of any language and with any signs."""

from __future__ import annotations

import textwrap
import unicodedata
from functools import cache
from itertools import groupby
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font


def words(text: str, width: int | None = None) -> str:
    r"""A text as matplotlib should draw it.

    Two dollar signs would be read as a formula, so they are escaped. Characters that matplotlib's
    own font lacks, as those of Chinese, are drawn in any installed font that has them; where there
    is none, the text says what is missing instead of showing boxes.

    Args:
        text: Of one line.
        width: Characters in a line of the result; None: all in one.
    """
    text = " ".join(text.split())
    pieces = groupby(text, key=lambda one: (_drawn(one), one.isalpha()))
    shown = "".join("".join(run) if drawn else _named(list(run)) for (drawn, _), run in pieces)
    lines = textwrap.wrap(shown, width) if width else [shown]
    return "\n".join(lines).replace("$", r"\$")


def _named(run: list[str]) -> str:
    """What stands for characters without a glyph: names of signs, the number of letters."""
    if not run[0].isalpha():
        return "".join(f"[{unicodedata.name(one, 'unknown sign').lower()}]" for one in run)
    return f"[{len(run)} character{'' if len(run) == 1 else 's'} without a font]"


def _drawn(character: str) -> bool:
    """Whether a character can be drawn, if need be by one more font that matplotlib falls back to.

    The fonts of ``rcParams`` grow by that one, which changes no text that could be drawn before.
    """
    if ord(character) in _glyphs(font_manager.findfont(font_manager.FontProperties())):
        return True
    name = next((name for name, path in _others() if ord(character) in _glyphs(path)), None)
    families = list(matplotlib.rcParams["font.family"])
    if name and name not in families:
        matplotlib.rcParams["font.family"] = [*families, name]
    return name is not None


@cache
def _others() -> list[tuple[str, str]]:
    """Family and file of the installed fonts, upright and regular ones first.

    Without those that come with matplotlib: besides its default they are for formulas, some with
    other glyphs than Unicode says, and one has a box for every character there is.
    """
    own = Path(matplotlib.get_data_path())
    fonts = [
        font for font in font_manager.fontManager.ttflist if own not in Path(font.fname).parents
    ]
    fonts.sort(key=lambda font: (font.style != "normal", font.weight != 400, font.name))
    return [(font.name, font.fname) for font in fonts]


@cache
def _glyphs(path: str) -> frozenset[int]:
    """The code points that a font file has; none if it cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
