"""Orientation words that describe the subject of an expression (section 3.4, first step).

The words are looked up; whether they describe the subject is read off the parse, and off the word
order where a clipped expression defeats a small parser ("man left", "vase top left"). The rules
lean towards "no region", which leaves the choice to the scores: "cat behind the dog on the left"
may mean either animal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token


def word_set(words: str) -> frozenset[str]:
    """The words of a string."""
    return frozenset(words.split())


SIDES = {
    word: side
    for side, words in {
        "left": "left leftmost lefthand leftside",
        "right": "right rightmost righthand rightside",
        "top": "top topmost upper uppermost",
        "bottom": "bottom bottommost lower lowermost",
    }.items()
    for word in words.split()
}
ADVERBS = {"up": "top", "down": "bottom"}  # beside a side word only: "up left", not "standing up"

# A place goes on over these: "left-hand side", "bottom middle right", "top corner".
LINKS = word_set("- / most hand middle center centre back front")
PLACE_NOUNS = word_set("side corner edge end half part area section portion row column border")
# They may stand between the place and what leads to it: "to the very far left".
DEGREES = word_set(
    "the a very far extreme furthest farthest way most middle center centre mid back front rear "
    "just immediate slightly outer more"
)
PREPOSITIONS = word_set("on at to in from near by toward towards along of with into inside")

FRAME_NOUNS = word_set("picture pic photo photograph image img frame screen shot scene view page")
# Nouns for a place in the picture, or for who looks at it, rather than for a thing in it.
NOT_THINGS = (
    FRAME_NOUNS
    | PLACE_NOUNS
    | word_set(
        "group line bunch pair middle center centre front back rear background foreground way"
    )
    | word_set("camera viewer us me you")
)
# What holds two things apart, so that a place named after it is that of the second thing.
APART = word_set(
    "next beside besides near by behind under underneath beneath above below between against front "
    "to past around across over than looking facing watching chasing following feeding petting"
)
# After "right" in the sense of "just": "right next to him", "right there".
NEARNESS = APART | word_set("before after inside outside here there now up at")
# What one does towards a side, wherever one is.
DIRECTED = word_set(
    "looking look looks facing faces turning turned turns turn pointing points leaning leans "
    "heading headed gazing staring glancing walking walk walks going go goes moving move moves "
    "running driving flying swimming tilting tilted bending bent reaching aiming angled"
)
OTHERS = word_set("his her hers its their whose")
BODY = word_set(
    "arm arms hand hands leg legs foot feet eye ear shoulder knee elbow wrist fist head hair tail"
)
WORN = word_set(
    "shirt tshirt t tee dress jacket coat hat cap suit pants shorts jeans skirt tie sweater hoodie "
    "helmet uniform jersey vest outfit glasses scarf hair"
)
COLOURS = word_set(
    "red orange yellow green blue purple pink brown black white grey gray tan beige blond blonde "
    "striped plaid"
)
# Before "top": something to wear, or the top of something.
TOP_OF = COLOURS | word_set("tank crop halter tube bikini table desk counter roof mountain tree")
NOUN = ("NOUN", "PROPN")


def orientation(doc: Doc, start: int = 0) -> str:
    """Where the subject is said to be: "", "left", "right top" and so on.

    Opposites cancel each other: "the left man on the right" says nothing.

    Args:
        doc: A parsed expression, in lower case.
        start: Index of its first token; what comes before was put there for the parser.

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


def is_thing(token: Token) -> bool:
    """Whether a word names a thing or a person in the picture, and no place."""
    named = token.pos_ in NOUN or token.tag_ == "PRP" or token.text in ("one", "ones")
    return named and token.is_alpha and token.text not in NOT_THINGS | SIDES.keys()


def _places(doc: Doc, start: int) -> list[_Place]:
    """Every run of side words with what belongs to it: "upper left-hand corner", "top"."""
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
        # A hand is a place only as in "left hand side" or "left hand guy".
        while end > i and (
            doc[end - 1].text in "-/"
            or (doc[end - 1].text == "hand" and (end == len(doc) or doc[end].pos_ not in NOUN))
        ):
            end -= 1
        if end - i > 1 and doc[i].text == "top" and i > start and doc[i - 1].text in TOP_OF:
            i += 1  # "girl in pink top left": she wears a top
        if end > i:
            places.append(_Place(doc, start, i, end))
        i = max(end, i + 1)
    return places


def _is_side_adverb(doc: Doc, i: int, start: int) -> bool:
    if doc[i].text not in ADVERBS:
        return False
    before = doc[i - 1].text if i > start else ""
    if i + 1 == len(doc):
        return before in SIDES
    return doc[i + 1].text in SIDES and not before.endswith("ing")  # "standing up left"


class _Place:
    """A place that an expression names, and the rules that say whether the subject is there."""

    def __init__(self, doc: Doc, start: int, begin: int, end: int) -> None:
        self.doc, self.span = doc, doc[begin:end]
        self.words = [token.text for token in self.span]
        self.sides = {SIDES.get(w) or ADVERBS.get(w) for w in self.words} - {None}
        self.before, self.after = list(doc[start:begin]), list(doc[end:])
        self.things = [token for token in self.before if is_thing(token)]
        # Up to the word that leads to the place: "on" the far left, "looking" left.
        self.leading = list(self.before)
        while self.leading and self.leading[-1].text in DEGREES:
            self.leading.pop()
        self.lead = self.leading[-1].text if self.leading else ""
        self.is_led_directly = len(self.leading) == len(self.before)
        self.next = self.after[0].text if self.after else ""

    def is_the_subjects(self) -> bool:
        """Whether the place is one in the picture and describes the subject."""
        if (
            self._has_another_sense()
            or self._is_somebodys()
            or self._is_direction()
            or self._is_relative_to_thing()
        ):
            return False
        noun = self._modified_noun()
        if noun is None:
            return self._is_hosted_by_subject()
        # "left man", but not "left man's hat", "man in the left car", "behind the left tree".
        owner = noun.i + 1 < len(self.doc) and noun.nbor().tag_ == "POS"
        return not (owner or self.things or self.lead in PREPOSITIONS | APART)

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
        if self.lead in ("in", "with", "wearing", "wears") and self._modified_noun() is None:
            return True
        return previous is not None and (
            (previous.pos_ == "ADJ" and self.is_led_directly)
            or (previous.pos_ in NOUN and len(self.things) > 1)
        )

    def _is_somebodys(self) -> bool:
        """ "to his right", "her left shoe"; but "to our left" is the viewer's."""
        return self.lead in OTHERS or (bool(self.leading) and self.leading[-1].tag_ == "POS")

    def _is_direction(self) -> bool:
        """ "looking left", "turned to the left"; but "walking on the left"."""
        words = [token.text for token in self.leading]
        if self.lead in ("to", "toward", "towards"):
            words.pop()
            while words and words[-1] in ("off", "over", "up", "down", "out", "away", "and"):
                words.pop()
        elif not self.is_led_directly:
            return False
        return bool(words) and words[-1] in DIRECTED

    def _is_relative_to_thing(self) -> bool:
        """ "left of the dog"; but "left of the picture", "the left of the two cats"."""
        if self.next not in ("of", "from", "to", "than"):
            return False
        if self.next == "of" and self.words[-1] == "half" and not self.before:
            return False  # "left half of the sandwich": the half is the subject
        relatum = []
        for token in self.after[1:]:
            if token.pos_ in ("ADP", "VERB", "PUNCT", "SCONJ"):
                break
            relatum.append(token)
        if self.next != "of":
            return any(is_thing(token) for token in relatum)
        few = any(t.pos_ == "NUM" or t.text in ("both", "all", "these", "them") for t in relatum)
        if few and not self.things:
            return False
        nouns = [token for token in relatum if token.pos_ in NOUN or token.tag_ == "PRP"]
        return not nouns or any(token.text not in NOT_THINGS for token in nouns)

    def _modified_noun(self) -> Token | None:
        """The noun that the place stands before: "left young *man*", "left side *guy*"."""
        skipped = ("ADJ", "ADV", "NUM")
        following = next((t for t in self.after if t.pos_ not in skipped or is_thing(t)), None)
        follows_thing = bool(self.leading) and self.leading[-1] in self.things
        if follows_thing and (following is None or following.text not in BODY):
            return None  # "man left, red shirt", "suitcase top right"
        head = self.span[-1].head
        if head.i < self.span.end or not is_thing(head) or head.dep_ == "appos":
            # The parser may have read "left man jumping" as one who left.
            head = following if following is not None and is_thing(following) else None
        if head is not None and self.lead in ("on", "at", "to"):
            # "on left red shirt", "on the right holding hands", "on left man with hat"
            clipped = head.text in WORN or head.text.endswith("ing") or len(self.leading) == 1
            return None if clipped else head
        return head

    def _is_hosted_by_subject(self) -> bool:
        """Whether nothing holds the thing named last before the place apart from the subject.

        "man in red on the left", "girl holding umbrella on the right"; not "cat behind the dog on
        the left". Without a preposition the place goes with the whole: "cat behind the dog, left".
        """
        if len(self.things) < 2 or self.lead not in PREPOSITIONS:
            return True
        first, last = self.things[0], self.things[-1]
        if self.lead == "to" and last.text in BODY:
            return False  # "with her hair to the left"
        if any(token.text == "," for token in self.doc[last.i : self.span.start]):
            return True
        between = self.doc[first.i : last.i]
        return not any(token.text in APART and token.tag_ != "TO" for token in between)
