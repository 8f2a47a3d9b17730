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
from tasnb.method.places.cues import read
from tasnb.method.places.priors import cost, layout
from tasnb.method.places.relations import related
from tasnb.method.places.vocabulary import PRONOUNS
from tasnb.models.parsers import load_wordnet
from tasnb.settings import ROOT

Floats = npt.NDArray[np.floating]
NOUN, RELATED, SIZE = 3.0, 0.8, 0.1


def score(
    sentence: str,
    boxes: Floats,
    size: tuple[int, int],
    likely: Floats,
    names: Sequence[str] = (),
) -> Floats:
    """A score of each object from how likely it is and where it is, (M,), for measuring.

    Args:
        boxes: x, y, width, height in pixels, (M, 4).
        size: Height and width of the image in pixels.
        likely: How likely each object is by everything but its place, from 0 to 1, (M,).
        names: What each object is called, so that the second noun of a relation is found.
    """
    reading, where = read(sentence), layout(boxes, size)
    total = NOUN * likely - cost(reading.cues, where, likely) + SIZE * where.size
    if reading.relation and len(names):
        others = np.array([_is_called(reading.relation.other, name) for name in names], float)
        total = total + RELATED * related(reading.relation.kind, where, others)
    return total


score.wants_names = True  # type: ignore[attr-defined]


@lru_cache(maxsize=100_000)
def _is_called(noun: str, name: str) -> bool:
    if name == "person" and PRONOUNS.intersection(noun.split()):
        return True
    return language.mentions(noun, [name], load_wordnet(ROOT / "data" / "wordnet" / "wordnet.zip"))
