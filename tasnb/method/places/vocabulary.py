"""The words by which people say where a thing is, as data for `cues`.

The lists are made of whole words in lower case; `cues.words_of` brings glued and misspelt ones into
this form first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tasnb.method.language.orientation import DIRECTED, NEARNESS, OTHERS
from tasnb.method.language.words import FRAME_NOUNS, GROUPS, PLACE_NOUNS, word_set


def _by_word(lists: Mapping[str, str]) -> dict[str, str]:
    return {word: meaning for meaning, words in lists.items() for word in words.split()}


CUES = _by_word({
    "left": "left leftmost leftest lefthand leftside lft leftt l",
    "right": "right rightmost rightest righthand rightside rt r rite",
    "top": "top topmost upper uppermost highest",
    "bottom": "bottom bottommost lower lowermost lowest",
    "middle": "middle mid center centre central centered centermost middlemost",
    "front": "front frontmost foreground forefront close closer closest near nearer nearest",
    "back": "back backmost rear background far farther farthest further furthest distant",
    "big": "big bigger biggest large larger largest huge tallest",
    "small": "small smaller smallest little littlest tiny tiniest shortest",
})  # fmt: skip
"""A word -> what it says: a side, the middle, how near to the viewer, or a size."""
SIDES = ("left", "right", "top", "bottom")
COUNTED = (*SIDES, "front", "back")  # "second from the left", "second from the front"
OPPOSITES = ({"left", "right"}, {"top", "bottom"}, {"front", "back"}, {"big", "small"})

RANKS = {
    word: rank
    for rank, words in enumerate(
        ("first 1st", "second 2nd", "third 3rd", "fourth 4th forth", "fifth 5th", "sixth 6th"), 1
    )
    for word in words.split()
}
FROM = word_set("from to on in at the a far very one ones over")  # "second one in *from the* left"

# "topleft", "farright"; but "backpack" and "topping" are other words.
GLUED = re.compile(
    r"\b(top|bottom|upper|lower|far|front|back|middle|mid)(left|right|center|middle)\b"
)
MISSPELT = ("right", "bottom", "middle", "center", "second", "closest", "biggest")
"""One letter of these may be missing, doubled or swapped with the next one."""
OTHER_WORDS = word_set("closet")  # is no misspelling of "closest"

# --- Words next to a cue that give it another sense -----------------------------------------------

FACING = DIRECTED | word_set("swinging throwing hitting")
TO = word_set("to the")  # "turned *to the* left"
WEARING = word_set("in wearing wears")  # "*in* a red top"
# "his back", "back to us", "turned back"; but "the man in the back".
BACKED = OTHERS | word_set("turned facing with to")
# After these, "far", "close" and "near" say more of the word that follows, unless it is the viewer.
DEGREED = word_set(
    "left right top bottom upper lower corner side end edge border away to from up by"
)
VIEWER = word_set("us me you camera viewer screen")
# After "right" in the sense of "just": "right next to him".
JUST = NEARNESS | word_set("in on")

# --- Relations to a second noun -------------------------------------------------------------------

RELATIONS = {
    phrase: kind
    for kind, phrases in {
        "near": "next to|beside|besides|near|nearest|nearest to|closest to|close to|closer to|by|"
        "against|touching|adjacent to",
        "behind": "behind|in back of",
        "before": "in front of|infront of|front of",
        "above": "above|over|on top of",
        "below": "under|below|underneath|beneath",
        "left": "left of|to the left of|on the left of|on left of|to left of|left side of",
        "right": "right of|to the right of|on the right of|on right of|to right of|right side of",
        "on": "holding|carrying|riding|wearing|with|on|in",
    }.items()
    for phrase in phrases.split("|")
}
"""Words that lead to a second noun -> how the first thing stands to the second."""
ALSO = {"left": "left", "right": "right", "above": "top", "below": "bottom"}
"""Relation -> the side on which the first thing is likely to be in the picture as well."""
ARTICLES = word_set("the a an his her their its that this some my our")
ENDS = word_set(
    "on in at with to and that who which is are from of by next near behind looking facing , left "
    "right not holding wearing but"
)
NOWHERE = FRAME_NOUNS | PLACE_NOUNS | GROUPS | VIEWER | CUES.keys() | word_set("ground air it")
"""No second nouns: "on the *left*", "near the *camera*"."""
PRONOUNS = word_set("him her he she them they")
"""For people: "next to *him*"."""
