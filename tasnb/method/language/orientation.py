"""Orientation words that describe the subject of an expression (section 3.4, first step).

The paper extracts the words that describe the subject with spaCy and looks for orientation words
such as "left" among them; without any, the spatial rectifier does nothing. Here, too, the words are
looked up. Whether they describe the subject is decided by the parse, or by word order where an
elliptical expression defeats a small parser ("man left", "vase top left"). In doubt the answer is
no orientation, which leaves the choice to the scores: in "cat behind the dog on the left", either
animal may be on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasnb.method.language.words import (
    BODY,
    COLOURS,
    DEGREES,
    FRAME_NOUNS,
    LIMBS,
    LINKS,
    NOT_THINGS,
    NOUN,
    ORDINALS,
    PARTS,
    PEOPLE,
    PLACE_NOUNS,
    PREPOSITIONS,
    SIDES,
    WORN,
    is_action,
    is_thing,
    word_set,
)

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

# Next to a side word ("up left") or after the subject ("the cat up"); not in "standing up".
ADVERBS = {"up": "top", "down": "bottom"}
HEIGHTS = {"up": "high", "down": "low"}
# Things that are "up" when they are open or held up, wherever they are in the picture.
MOVED = BODY | WORN | word_set("hood lid seat window zipper umbrella stem board sun batter batters")

# Words that separate two things, so that a place after the second thing belongs to that one.
APART = word_set(
    "next beside besides near by behind under underneath beneath above below between against front "
    "to past around across over than looking facing watching chasing following feeding petting"
)
ACTS = word_set("looking facing watching chasing following feeding petting")
# After "right" in the sense of "just": "right next to him", "right there".
NEARNESS = (APART - ACTS) | word_set("before after inside outside here there now up at")
# Actions directed towards a side, wherever in the picture they happen.
DIRECTED = word_set(
    "looking look looks facing faces turning turned turns turn pointing points leaning leans "
    "heading headed gazing staring glancing walking walk walks going go goes moving move moves "
    "running driving flying swimming tilting tilted bending bent reaching aiming angled"
)
FACING = word_set("looking facing faces pointing pointed turned")
OTHERS = word_set("his her hers its their whose")
# Before "top": a garment, or the top of something.
TOP_OF = COLOURS | word_set("tank crop halter tube bikini table desk counter roof mountain tree")
# But these may be at the top themselves.
FRUIT_OR_FURNITURE = word_set("orange table desk counter roof mountain tree")
# A place after these is on something the subject has: "a boat with a red bottom".
HAVING = word_set("with without w has have having no")


def orientation(doc: Doc, start: int = 0) -> str:
    """Where the expression places its subject: "", "left", "right top" and so on.

    Opposites cancel out: "the left man on the right" gives "".

    Args:
        doc: A parsed expression, in lower case.
        start: Index of the expression's first token; any before it were added for the parser.

    Returns:
        Words among left, right, top and bottom, in this order, joined by a space.
    """
    said = {
        side for place in _places(doc, start) if place.is_the_subjects() for side in place.sides
    }
    for opposites in ({"left", "right"}, {"top", "bottom"}):
        if opposites <= said:
            said -= opposites
    return " ".join(side for side in ("left", "right", "top", "bottom") if side in said)


def _places(doc: Doc, start: int) -> list[_Place]:
    """Every run of side words, with the words linked to them: "upper left-hand corner", "top"."""
    places = []
    i = start
    while i < len(doc):
        end = i
        while end < len(doc) and (
            doc[end].text in SIDES
            or _is_side_adverb(doc, end, start)
            or (end > i and doc[end].text in LINKS | PLACE_NOUNS)
        ):
            end += 1
        # "hand" belongs to a place only as in "left hand side" or "left hand guy".
        while end > i and (
            doc[end - 1].text in "-/"
            or (doc[end - 1].text == "hand" and (end == len(doc) or doc[end].pos_ not in NOUN))
        ):
            end -= 1
        if end - i > 1 and doc[i].text == "top" and _is_worn_top(doc, i, start):
            i += 1  # "girl in pink top left": she wears a top
        if end > i:
            places.append(_Place(doc, start, i, end, places[:]))
        i = max(end, i + 1)
    return places


def _is_worn_top(doc: Doc, i: int, start: int) -> bool:
    """ "girl in pink *top* left", "cat on table *top* left"; but "orange top right"."""
    before = [t for t in doc[start:i] if t.pos_ != "DET"]
    if not before or before[-1].text not in TOP_OF:
        return False
    described = [t.pos_ in ("ADJ", *NOUN) and not is_thing(t) for t in before[:-1]]
    return not (all(described) and before[-1].text in FRUIT_OR_FURNITURE)


def _is_side_adverb(doc: Doc, i: int, start: int) -> bool:
    """ "chair up left", "the cat up", "toaster down low"; but "standing up left", "arms up"."""
    word = doc[i].text
    if word not in ADVERBS:
        return False
    before, after = doc[start:i], doc[i + 1 :]
    previous = before[-1].text if len(before) else ""
    following = after[0].text if len(after) else ""
    if following in SIDES and not previous.endswith("ing"):
        return True
    if following == HEIGHTS[word]:
        return True
    if (following and not after[0].is_punct) or previous.endswith("ing"):
        return False
    if previous in SIDES or not previous or previous in ("way", "far"):
        return True
    nouns = [t for t in before if t.pos_ in NOUN or t.pos_ == "PRON" or t.text in ("one", "ones")]
    counted = any(t.text in ORDINALS or t.pos_ == "NUM" for t in before if t.text != "one")
    return [t.text for t in nouns] == [previous] and previous not in MOVED and not counted


class _Place:
    """A place named in an expression, and the rules that decide whether the subject is there."""

    def __init__(
        self, doc: Doc, start: int, begin: int, end: int, earlier: Sequence[_Place]
    ) -> None:
        self.doc, self.span, self.earlier = doc, doc[begin:end], earlier
        self.words = [token.text for token in self.span]
        self.sides = {SIDES.get(w) or ADVERBS.get(w) for w in self.words} - {None}
        self.before, self.after = list(doc[start:begin]), list(doc[end:])
        self.things = [token for token in self.before if is_thing(token)]
        # The words up to the one that leads to the place: "on" the far left, "looking" left.
        self.leading = list(self.before)
        while self.leading and self.leading[-1].text in DEGREES:
            self.leading.pop()
        self.lead = self.leading[-1].text if self.leading else ""
        self.is_led_directly = len(self.leading) == len(self.before)
        self.next = self.after[0].text if self.after else ""

    def is_the_subjects(self) -> bool:
        """Whether the place is a place in the picture and describes the subject."""
        if (
            self._has_another_sense()
            or self._is_somebodys()
            or self._is_direction()
            or self._is_relative_to_thing()
        ):
            return False
        noun = self._modified_noun()
        is_counted = self._is_counted()
        if noun is None or (is_counted and self.things):
            return self._is_hosted_by_subject()
        # "left man", but not "left man's hat", "man in the left car", "behind the left tree".
        owner = noun.i + 1 < len(self.doc) and noun.nbor().tag_ == "POS"
        if self._is_of_limb() and not is_counted:
            return False
        leads_elsewhere = self.lead in PREPOSITIONS | APART and not is_counted
        return not (owner or self.things or leads_elsewhere)

    def _is_counted(self) -> bool:
        """ "*second from* left bear", "third one in from the right"."""
        if self.lead not in ("from", "to"):
            return False
        counts = self.leading[-4:-1]
        numbers = ORDINALS - {"next"}
        return any(t.text in numbers or (t.pos_ == "NUM" and t.text != "one") for t in counts)

    def _has_another_sense(self) -> bool:
        """ "left-handed", "the dog that left", "right behind him", "a red top", "not on left"."""
        if self.next in ("handed", "footed", "turn", "'s"):
            return True
        if self.next == "-" and self.after[1:] and self.after[1].text in ("handed", "facing"):
            return True
        if self.next == "facing" and not self.things:
            return True
        if "not" in (token.text for token in self.leading[-2:]):
            return True
        return {
            ("left",): self._means_gone,
            ("right",): self._means_just,
            ("top",): self._means_garment,
            ("right", "side"): lambda: self.next == "up",
        }.get(tuple(self.words[:2]), lambda: False)()

    def _means_gone(self) -> bool:
        """ "the man who has left", "pizza left over"; but "the man who is left"."""
        if self.next in ("over", "alone", "open", "out", "unattended"):
            return True
        if self.next == "behind" and len(self.after) == 1:
            return True
        verbs = [token for token in self.before if token.pos_ not in ("ADV", "AUX")]
        by_relative = bool(self.things) and verbs[-1].tag_ in ("WDT", "WP")
        return by_relative and self.before[-1].text not in ("is", "are", "'s")

    def _means_just(self) -> bool:
        """ "right next to him", "right in front"; but "on the right behind him"."""
        if not self.is_led_directly or self.lead in PREPOSITIONS:
            return False
        if self.next in ("in", "on"):
            where = next((t.text for t in self.after[1:] if t.text not in ("the", "a")), "")
            return where in ("front", "middle", "center", "centre", "between", "back", "top")
        return self.next in NEARNESS

    def _means_garment(self) -> bool:
        """ "a red top", "woman in a top", "top hat", "cat on table top"."""
        previous = self.before[-1] if self.before else None
        if self.next == "hat" or (previous is not None and previous.text in TOP_OF):
            return True
        worn = [t.i for t in self.before if t.text in ("in", "with", "wearing", "wears")]
        between = self.doc[worn[-1] + 1 : self.span.start] if worn else None
        if between is not None and not any(t.pos_ in ("ADP", "PUNCT") for t in between):
            is_last = not any(is_thing(t) for t in between if t.text not in TOP_OF)
            if is_last and self._modified_noun() is None:
                return True  # "in a top", "wearing a blue colored top"
        return previous is not None and (
            (previous.pos_ == "ADJ" and self.is_led_directly)
            or (previous.pos_ in NOUN and len(self.things) > 1)
        )

    def _is_somebodys(self) -> bool:
        """ "to his right", "her left shoe"; but "to our left" is the viewer's."""
        return self.lead in OTHERS or (bool(self.leading) and self.leading[-1].tag_ == "POS")

    def _is_of_limb(self) -> bool:
        """ "the right foot of a man", wherever it is; but "far left foot", "bottom left foot"."""
        noun = next(filter(is_thing, self.after), None)
        degrees = [t for t in self.before[len(self.leading) :] if t.text not in ("the", "a")]
        return not degrees and len(self.sides) == 1 and noun is not None and noun.text in LIMBS

    def _is_direction(self) -> bool:
        """ "looking left", "turned to the left"; but "walking on the left"."""
        words = [token.text for token in self.leading]
        if self.lead in ("to", "toward", "towards"):
            words.pop()
            while words and words[-1] in ("off", "over", "up", "down", "out", "away", "and"):
                words.pop()
        elif not self.is_led_directly:
            return self.lead in FACING  # "facing the left", but "walking far left"
        return bool(words) and words[-1] in DIRECTED

    def _is_relative_to_thing(self) -> bool:
        """ "left of the dog"; but "left of the picture", "the left of the two cats"."""
        if self.next not in ("of", "from", "to", "than"):
            return False
        if self.next == "of" and self.words[-1] in PARTS and not self.leading:
            return False  # "the left half of the sandwich": the half is the subject
        relatum = []
        for token in self.after[1:]:
            if token.pos_ in ("ADP", "VERB", "PUNCT", "SCONJ"):
                break
            relatum.append(token)
            if token.text in FRAME_NOUNS:
                break  # "top of photo small fox"
        if self.next != "of":
            return any(is_thing(token) for token in relatum)
        if relatum and relatum[-1].text in FRAME_NOUNS:
            return False
        few = any(t.pos_ == "NUM" or t.text in ("both", "all", "these", "them") for t in relatum)
        if few and not self.things:
            return False
        nouns = [token for token in relatum if token.pos_ in NOUN or token.tag_ == "PRP"]
        return not nouns or any(token.text not in NOT_THINGS for token in nouns)

    def _is_beside_thing(self) -> bool:
        return bool(self.sides & {"left", "right"}) and self._is_relative_to_thing()

    def _modified_noun(self) -> Token | None:
        """The noun that the place modifies: "left young *man*", "left side *guy*"."""
        skipped = ("ADJ", "ADV", "NUM")
        following = next((t for t in self.after if t.pos_ not in skipped or is_thing(t)), None)
        follows_thing = bool(self.leading) and self.leading[-1] in self.things
        if follows_thing and (following is None or following.text not in BODY):
            return None  # "man left, red shirt", "suitcase top right"
        head = self.span[-1].head
        if head.i < self.span.end or not is_thing(head) or head.dep_ == "appos":
            # The parser may have taken "left" in "left man jumping" for a verb.
            head = following if following is not None and is_thing(following) else None
        if head is not None and self.lead in ("on", "at", "to", "from"):
            return None if self._is_left_off_before(head) else head
        return head

    def _is_left_off_before(self, noun: Token) -> bool:
        """Whether a comma is missing: "lady on left | teal shirt", "on left | man with hat"."""
        if len(self.leading) == 1 or noun.text in WORN | COLOURS | {"one", "ones"}:
            return True
        if noun.text in BODY:  # "sheep on the right head only", but "ring on the right hand"
            return noun.text not in LIMBS
        if is_action(noun) or self.after[0].tag_ == "VBG":  # "on the right | cutting bread"
            return True
        if not self.things:
            return False
        is_person = self.things[0].text in PEOPLE and self.after[0].text in COLOURS
        return is_person or self.words[-1] in PLACE_NOUNS

    def _is_hosted_by_subject(self) -> bool:
        """Whether a place after several things is that of the subject, not of the last thing.

        It is in "man in red on the left" and "girl holding umbrella on the right", but not in "cat
        behind the dog on the left". A place without a preposition goes with the whole expression:
        "cat behind the dog, left".
        """
        if self._is_on_what_it_has():
            return False
        if self.lead not in PREPOSITIONS:
            return True
        if any(place._is_beside_thing() for place in self.earlier):
            # "left of the tree on the right": the tree's
            return any(token.text == "," for token in self.before)
        if len(self.things) < 2:
            return True
        first, last = self.things[0], self.things[-1]
        if self.lead == "to" and last.text in BODY:
            return False  # "with her hair to the left"
        if any(token.text == "," for token in self.doc[last.i : self.span.start]):
            return True
        between = self.doc[first.i : last.i]
        return not any(token.text in APART and token.tag_ != "TO" for token in between)

    def _is_on_what_it_has(self) -> bool:
        """ "a boat with a red bottom", "a suitcase with a hat on top", "without bread on top"."""
        having = [token for token in self.before if token.text in HAVING]
        if not having or not self.things or having[-1].i < self.things[0].i:
            return False
        between = self.doc[having[-1].i + 1 : self.span.start]
        held = [t for t in between if is_thing(t) or t.text in SIDES or t.pos_ in ("ADP", "VERB")]
        if not held:
            return True
        if not self.sides <= {"top", "bottom"} or self.lead != "on":
            return False
        return self.words in (["top"], ["bottom"])
