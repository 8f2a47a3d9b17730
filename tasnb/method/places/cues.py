"""What an expression says about place: sides, order, size, and a relation to a second noun.

People rarely write sentences ("2nd from left in back row"), so words are read by the words around
them rather than by a parse. Words of place that say something else are left out: "a red top",
"looking left", "her left hand", "right behind".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from tasnb.method.language.orientation import FRUIT_OR_FURNITURE, HAVING, OTHERS, TOP_OF
from tasnb.method.language.words import (
    BODY,
    CLITIC,
    COLOURS,
    DEGREES,
    LIMBS,
    PEOPLE,
    PLACE_NOUNS,
    WORN,
)
from tasnb.method.places.vocabulary import (
    ALSO,
    ARTICLES,
    BACKED,
    COUNTED,
    CUES,
    DEGREED,
    ENDS,
    FACING,
    FROM,
    GLUED,
    JUST,
    MISSPELT,
    NOWHERE,
    OPPOSITES,
    OTHER_WORDS,
    RANKS,
    RELATIONS,
    SIDES,
    TO,
    VIEWER,
    WEARING,
)


class Cue(NamedTuple):
    """A word of place.

    Attributes:
        kind: A value of ``CUES``.
        rank: 2 for the second from that side; 0 if nothing is counted.
    """

    kind: str
    rank: int = 0


class Relation(NamedTuple):
    """How the thing stands to a second one: a value of ``RELATIONS``, and the second noun."""

    kind: str
    other: str


class Reading(NamedTuple):
    """What an expression says about place."""

    cues: tuple[Cue, ...] = ()
    relations: tuple[Relation, ...] = ()


@lru_cache(maxsize=100_000)
def read(expression: str) -> Reading:
    """The words of place in an expression that describe its subject."""
    words = words_of(expression)
    relations, taken = _relations(words)
    cues = [cue for cue, _ in _cues(words, taken)]
    # what is left of another thing is mostly at the left of the picture as well
    cues += [Cue(ALSO[relation.kind]) for relation in relations if relation.kind in ALSO]
    said = {cue.kind for cue in cues}
    unclear = set().union(*(pair for pair in OPPOSITES if pair <= said))
    return Reading(tuple(dict.fromkeys(c for c in cues if c.kind not in unclear)), tuple(relations))


@lru_cache(maxsize=100_000)
def unplaced(expression: str, phrase: str) -> str:
    """A phrase of an expression without the words by which `read` finds a place, order or size.

    "leftmost red bus" becomes "red bus", as captions of pictures would say. A phrase without any
    other noun is returned as it is: "the left", "the pink top".
    """
    words = words_of(expression)
    said = {i for _, those in _cues(words, _relations(words)[1]) for i in those}
    said |= {i - 1 for i in said if i and words[i - 1] in DEGREES - ARTICLES}  # "*far* left"
    placing = {words[i] for i in said if words[i] in CUES.keys() | RANKS.keys() | DEGREES}
    kept = [word for word in phrase.split() if not placing.issuperset(words_of(word))]
    return phrase if (ARTICLES | COLOURS).issuperset(kept[-1:]) else " ".join(kept)


def in_words(reading: Reading) -> str:
    """A reading for people: "left 2, front, near: dog"; "" for none."""
    cues = [f"{cue.kind} {cue.rank}" if cue.rank else cue.kind for cue in reading.cues]
    return ", ".join([*cues, *(f"{kind}: {noun}" for kind, noun in reading.relations)])


def words_of(expression: str) -> list[str]:
    """The words of an expression, and its commas: four words in "topleft botom-right"."""
    words = re.findall(r"[a-z0-9']+|,", GLUED.sub(r"\1 \2", CLITIC.sub("'", expression.lower())))
    return [MISSPELLINGS.get(word, word) for word in words]


def _misspellings() -> dict[str, str]:
    """Words of ``MISSPELT`` with a letter after the first missing, doubled or swapped."""
    found = {}
    for word in MISSPELT:
        for i in range(1, len(word)):
            head, letter, tail = word[:i], word[i], word[i + 1 :]
            swapped = head + tail[:1] + letter + tail[1:]
            for wrong in (head + tail, head + 2 * letter + tail, swapped):
                found[wrong] = word
    return {wrong: word for wrong, word in found.items() if wrong not in {word, *OTHER_WORDS}}


MISSPELLINGS = _misspellings()
_LONGEST = max(len(phrase.split()) for phrase in RELATIONS)

# --- Relations ------------------------------------------------------------------------------------


def _relations(words: list[str]) -> tuple[list[Relation], set[int]]:
    """The relations to other nouns, and the numbers of the words that tell them."""
    found, taken = [], set()
    for i in range(1, len(words)):
        for length in range(_LONGEST, 0, -1) if i not in taken else ():
            kind = RELATIONS.get(" ".join(words[i : i + length]))
            other, end = _second_noun(words, i + length) if kind else ("", i)
            if other:
                found.append(Relation(kind, other))
                taken |= set(range(i, end))
                break
    return found, taken


def _second_noun(words: list[str], start: int) -> tuple[str, int]:
    """The noun phrase that begins here, and where it ends; "" if it is a place or a colour."""
    while start < len(words) and words[start] in ARTICLES:
        start += 1
    end = start
    while end < len(words) and words[end] not in ENDS:
        end += 1
    noun = words[start:end]
    is_thing = noun and not NOWHERE.intersection(noun) and noun[-1] not in COLOURS
    return (" ".join(noun) if is_thing else ""), end


# --- Places, order and size -----------------------------------------------------------------------


def _cues(words: list[str], taken: set[int]) -> list[tuple[Cue, set[int]]]:
    """Each cue with the numbers of the words that say it, without those of relations."""
    found, taken = [], set(taken)
    for i, word in enumerate(words):
        if word in RANKS and i not in taken and (counted := _counted(words, i)):
            found.append(counted)
            taken |= counted[1]
    for i, word in enumerate(words):
        if word in CUES and i not in taken and _is_place(words, i):
            found.append((Cue(CUES[word]), {i}))
    return found


# --- Order ----------------------------------------------------------------------------------------


def _counted(words: list[str], i: int) -> tuple[Cue, set[int]] | None:
    """ "*second* from the left", "*third* man from left", "*second* left", "left *second*"."""
    rank = RANKS[words[i]]
    for k in range(i + 1, min(i + 7, len(words))):
        kind, between = CUES.get(words[k]), words[i + 1 : k]
        if kind in COUNTED and (not between or FROM.intersection(between)):
            return Cue(kind, rank), set(range(i, k + 1))
    if i and CUES.get(words[i - 1]) in SIDES:
        return Cue(CUES[words[i - 1]], rank), {i - 1, i}
    return None


# --- Words that say something else ----------------------------------------------------------------


def _is_place(words: list[str], i: int) -> bool:
    """Whether a word of ``CUES`` says where the subject is."""
    word, before, after = words[i], words[:i], words[i + 1 :]
    last, next_ = "".join(before[-1:]), "".join(after[:1])
    kind = CUES[word]
    if kind in ("left", "right"):
        led = [w for w in before if w not in TO][-1:]
        if FACING.intersection(led) or last in OTHERS or last.endswith("'s"):
            return False
        if word == "right" and next_ in JUST and last not in ("on", "far", "the"):
            return False
        return next_ not in LIMBS or bool((PLACE_NOUNS | PEOPLE).intersection(after[1:2]))
    if kind in ("top", "bottom"):
        return not HAVING.intersection(before) and not _is_garment(before, word)
    if word == "back":
        return last not in BACKED and next_ != "of"
    if kind in ("front", "back"):
        following = [w for w in after if w not in ARTICLES][:1]
        return not DEGREED.intersection(following) or bool(VIEWER.intersection(after[:3]))
    if kind in ("big", "small"):
        return next_ not in BODY | WORN
    return True


def _is_garment(before: list[str], word: str) -> bool:
    """ "girl in a pink *top*", "tank *top*"; but "orange *top* right"."""
    last = "".join(before[-1:])
    if word != "top" or last not in TOP_OF:
        return False
    is_worn = bool((PEOPLE | WEARING).intersection(before))
    return is_worn or last not in FRUIT_OR_FURNITURE | COLOURS
