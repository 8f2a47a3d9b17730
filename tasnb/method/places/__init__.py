"""Places as people write them, a soft prior over masks (recipe ``extended``, beyond the paper).

The published rectifier reads four words and keeps a hard half of the masks. People also write
"middle", "closest", "second from the left", "biggest" or "next to the dog", and "left" alone often
means the leftmost of several likely things. `cues` reads such words, `priors` and `relations` turn
them into numbers for each mask, and the scores decide together with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tasnb.method import language
from tasnb.method.places.cues import in_words, read, unplaced
from tasnb.method.places.layout import layout
from tasnb.method.places.placing import Placing
from tasnb.method.places.priors import Weights, prior
from tasnb.method.places.vocabulary import PRONOUNS
from tasnb.models.parsers import load_wordnet
from tasnb.settings import ROOT

__all__ = ["Placing", "in_words", "read", "score", "unplaced"]

Floats = npt.NDArray[np.floating]


# --- For measuring on annotated objects -----------------------------------------------------------

NOUN, MEASURED = 3.0, Weights(cues=1.0, size=0.1, relation=0.8)


def score(
    sentence: str,
    boxes: Floats,
    size: tuple[int, int],
    likely: Floats,
    names: Sequence[str] = (),
    weights: Weights = MEASURED,
) -> Floats:
    """A score of each annotated object of an image, (M,).

    Args:
        boxes: x, y, width, height in pixels, (M, 4).
        size: Height and width of the image in pixels.
        likely: How likely each object is by everything but its place, from 0 to 1, (M,).
        names: What each object is called, so that the second noun of a relation is found.
    """
    reading, others = read(sentence), {}
    for _, noun in reading.relations if len(names) else ():
        others[noun] = np.array([_is_called(noun, name) for name in names], float)
    return NOUN * likely + prior(reading, layout(boxes, size), likely, others, weights)


score.wants_names = True  # type: ignore[attr-defined]


@lru_cache(maxsize=100_000)
def _is_called(noun: str, name: str) -> bool:
    if name == "person" and PRONOUNS.intersection(noun.split()):
        return True
    return language.mentions(noun, [name], load_wordnet(ROOT / "data" / "wordnet" / "wordnet.zip"))
