"""The subject of a referring expression: the noun phrase that names the target (section 3.3).

The paper needs the subject to find negative phrases but does not say how it is found. People name
the target first, after at most a few words of place ("second from left shelf"), and often omit the
comma after it ("dude beige shirt"). The subject is therefore the first noun that does not depend on
a preposition, together with the nouns directly after it that belong to the same name.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasnb.method.language.words import (
    BODY,
    COLOURS,
    DEGREES,
    FRAME_NOUNS,
    GROUPS,
    JOINS,
    LINKS,
    NOT_THINGS,
    NOUN,
    OBJECTS,
    ORDINALS,
    PARTICLES,
    PEOPLE,
    PREPOSITIONS,
    SIDES,
    TRANSITIVE,
    WORN,
    described_noun,
    is_action,
    is_described,
    is_thing,
    word_set,
)

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span, Token

# Words inside a compound name: "honey covered bun", "gloomy looking wizard".
MADE = word_set(
    "covered topped filled coated dipped glazed haired sleeved colored coloured shaped sized "
    "flavored faced legged eyed headed striped checkered style looking"
)
TOPS = word_set("tank crop halter tube bikini")  # garments, before "top"
OPENED = word_set("pick pop button buttoned fold")  # before "up": "pick up truck"
HELD = word_set("up down out raised crossed open closed")  # "arm up boy"
HAIR = word_set("hair beard mustache")
FACED = word_set("to towards toward away down up")  # "kitten face away": a verb
# The object of a final preposition was named first: "stool cat is sitting on".
STRANDED = word_set("on in at by to with under near behind against over from into onto off")
PLACE_WORDS = SIDES.keys() | DEGREES | LINKS | NOT_THINGS
# Remarks to the other player of the game in which the expressions were collected.
CHATTER = word_set(
    "lol oh haha cutoff ok okay sorry thanks thank please click hint doh omg wow oops um duh lmao "
    "yes no yeah hi hey i u you we it they st nd rd th am pm sort kind type"
)


def subject(doc: Doc, start: int = 0) -> tuple[str, str]:
    """The text of the subject's noun phrase, and the lemma of its head noun.

    Args:
        doc: A parsed expression, in lower case.
        start: Index of the expression's first token; any before it were added for the parser.

    Returns:
        The whole expression with an empty head if it names no object ("far right") or only objects
        near the target ("between the apples").
    """
    words = list(doc[start:])
    free = _free(words)
    things = [t for t in words if t.i in free and (_names(t) or _is_object(t))]
    frames = [t for t in words if t.i in free and t.text in FRAME_NOUNS and not _is_after_of(t)]
    first = next(iter([*things, *frames]), None)  # "screen", "picture" if there is nothing else
    if first is None or words[0].text == "what":  # "what the cake is on"
        return doc[start:].text.strip(" ,."), ""
    head = _head(first)
    begin = _begin(first, start)
    lemma = head.lemma_.lower() if head.pos_ in NOUN else head.text
    return doc[begin : head.i + 1].text.strip(" ,"), lemma


def _names(token: Token) -> bool:
    """Whether a word can name the target."""
    if token.text in COLOURS:
        # "orange on the left"; but "green shiny carpet", "red part of the bus"
        noun = described_noun(token)
        between = token.doc[token.i + 1 : noun.i] if noun is not None else ()
        is_place = any(t.text in SIDES.keys() | ORDINALS for t in between)
        return noun is None or (is_place and noun.text in NOT_THINGS)
    if not is_thing(token) or is_action(token) or token.text in CHATTER | DEGREES | PARTICLES:
        return False
    before, after = (token.doc[i : i + 1].text for i in (token.i - 1, token.i + 1))
    if token.text == "hand" and before in SIDES and after in NOT_THINGS:
        return False  # "left hand side"
    if token.text == "one" and is_described(described_noun(token)):
        return False  # "one foot"
    if token.text in ("color", "colour") and is_described(described_noun(token)):
        return False  # "tan color striped tie"
    if token.text == "clock" and before == "o":
        return False
    return len(token) > 1 and token.text != "number"  # "number 2 clown"


def _is_object(token: Token) -> bool:
    """ "the *screen* on the left", "a white *area*"; but "corner of the screen"."""
    if token.text == "area" and _is_frame_of(token):
        return False
    return token.text in OBJECTS and token.pos_ in NOUN and not _is_after_of(token)


def _is_frame_of(token: Token) -> bool:
    """ "a *picture* of ...", "a *bunch* of ..."."""
    return token.doc[token.i + 1 : token.i + 2].text == "of"


def _is_after_of(token: Token) -> bool:
    """ "... of *screen*", "... of the *screen*"."""
    return "of" in (t.text for t in token.doc[max(0, token.i - 2) : token.i])


def doer(chunk: Span, root: Token) -> Token:
    """The head noun of a chunk: `root`, or the noun before an action ("man" in "a man kneeling").

    The small parser makes "kneeling" the head there, and "bat" in "player swinging bat".
    """
    for noun, action in itertools.pairwise(chunk):
        if is_action(action) and (noun.pos_ in NOUN or (action == root and noun.pos_ != "DET")):
            return noun
        if action == root:
            break
    return root


def _free(words: Sequence[Token]) -> set[int]:
    """Indices of the words that do not depend on a preposition.

    All words after a preposition depend on it, up to the next comma. If it leads only to a place,
    the words after the place are free again: "in the back the *man*", "second from left *shelf*".
    """
    free, held, lead = set(), False, ""
    i = 0
    while i < len(words):
        token = words[i]
        if token.is_punct and token.text != "-":
            held = False
        elif _holds(token):
            end = i + 1
            while end < len(words) and (words[end].text in PLACE_WORDS or _is_frame(words[end:])):
                end += 1
            places = SIDES.keys() | LINKS | NOT_THINGS
            is_place = any(t.text in places for t in words[i + 1 : end])
            is_relation = end < len(words) and words[end].text == "of"  # "in front of the girl"
            if token.text in PREPOSITIONS and is_place and not is_relation:
                i = end
                continue
            held, lead = True, token.text
        elif token.text in PEOPLE and lead in ("in", "on", "with") and words[i - 1].pos_ in NOUN:
            held = False  # "in white shirt *guy*"
        if not held:
            free.add(token.i)
        i += 1
    return free


def _is_frame(words: Sequence[Token]) -> bool:
    """Whether the words begin with "of the picture" or similar."""
    of, *after = [t.text for t in words[:3]]
    return of == "of" and any(word in FRAME_NOUNS for word in after)


def _holds(token: Token) -> bool:
    """Whether the words after this one describe another object, near the subject."""
    before, after = token.doc[: token.i], token.doc[token.i + 1 :]
    if token.text == "of":
        # "left of the boy"; but "left of the two boys", "left half of the sandwich"
        few = any(t.pos_ == "NUM" or t.text in ("both", "all", "these") for t in after[:2])
        return not few and before[-1:].text in ("left", "right")
    if token.text == "next":
        return after[:1].text == "to"
    if token.text in PARTICLES and not any(t.pos_ == "DET" for t in after[:1]):
        return False  # "cut off", but "down the street"
    return token.pos_ in ("ADP", "SCONJ")


def _head(first: Token) -> Token:
    """The last noun of the name that begins here: "alarm *clock*", "*dude* beige shirt"."""
    chunk = next((c for c in first.doc.noun_chunks if c.start <= first.i < c.end), None)
    if chunk is not None and chunk[0].text in ("a", "an"):
        # Expressions with articles are usually grammatical: "a single story red *bus*".
        root = doer(chunk, chunk.root)
        is_attire = first.text in PEOPLE and root.text in WORN | BODY
        is_name = _names(root) or (root.text in FRAME_NOUNS and not _is_frame_of(root))
        if is_name and root.i > first.i and root.text not in COLOURS and not is_attire:
            first = root
    head = first
    while (longer := _longer(head)) is not None:
        head = longer
    return head


def _longer(head: Token) -> Token | None:
    """A later noun that the name ending in `head` extends to, if any."""
    rest = list(head.doc[head.i + 1 :])
    if head.text == "baby" and len(rest) > 1 and rest[0].pos_ == "ADJ":  # "baby polar *bear*"
        return rest[1] if _names(rest[1]) and rest[1].text not in WORN | BODY else None
    if not rest:
        return None
    word, after = rest[0], rest[1:]
    following = after[0] if after else None
    if word.tag_ == "POS":  # "the man's left *hand*"
        owned = itertools.takewhile(lambda t: t.pos_ not in ("ADP", "VERB", "PUNCT"), after)
        return next(filter(is_thing, owned), None)
    if word.text == "top" and head.text in TOPS:
        return word
    if following is not None:
        if word.text == "-":  # "t-shirt"
            return following if following.pos_ in NOUN else None
        if word.text in MADE or (_is_participle(word) and head.text not in PEOPLE):
            # "honey covered *bun*", "serious looking *man*"; but "man striped vest"
            is_attire = head.text in PEOPLE and following.text in WORN
            return following if _names(following) and not is_attire else None
        if head.text in BODY and word.text in HELD and _names(following):
            return following if following.text not in WORN else None  # "arm up *boy*"
        if head.text in OPENED and word.text == "up" and _names(following):
            return following  # "pick up *truck*"
    if head.text in BODY | WORN and (person := _wearer(rest)) is not None:
        return person
    return word if _continues(head, word, after) else None


def _is_participle(token: Token) -> bool:
    """ "honey *glazed* ham"; but "ship called Aurora"."""
    return token.tag_ == "VBN" and token.text not in SIDES and token.head.i > token.i


def _wearer(rest: Sequence[Token]) -> Token | None:
    """The person described by a garment that is named first: "teal shirt jumping *man*"."""
    for token in rest:
        if token.text in PEOPLE and token.pos_ in NOUN:
            return token
        describes = token.pos_ == "ADJ" or token.text in WORN | COLOURS | SIDES.keys() | LINKS
        if not (describes or is_action(token)):
            return None
    return None


def _continues(head: Token, word: Token, rest: Sequence[Token]) -> bool:
    """Whether a word continues the name of the thing before it."""
    following = rest[0] if rest else None
    if word.text in FRAME_NOUNS | GROUPS:  # "computer *screen*", "banana *bunch*"
        return word.pos_ in NOUN and not _is_frame_of(word) and head.text not in PEOPLE
    if word.text in OPENED and following is not None and following.text == "up":
        return True
    if not _names(word) or word.text in COLOURS | {"one", "ones"} or word.tag_ == "PRP":
        return False
    if head.text in WORN and following is not None and following.text in WORN:
        return word.text in WORN  # "black shirt | linen trousers"
    if head.text in PEOPLE and not head.text.endswith("s"):
        # "clown uniform", "woman fur coat", "girl arms crossed"; but "lady arm", "kids jacket"
        if word.text in WORN or (following is not None and following.text in WORN):
            return False
        if word.text in HAIR:
            return False
        if word.text in BODY and following is not None:
            is_part = following.tag_ in ("IN", "VBG") or following.text in SIDES
            return is_part or following.pos_ not in ("VERB", "ADJ", "ADP", "NOUN")
    if word.text == "face" and following is not None and following.text in FACED:
        return False  # "kitten face away"
    # "stool cat is sitting on", "parasol man is holding"
    leaves_open = bool(rest) and rest[-1].text in STRANDED | TRANSITIVE
    is_doer = word.text in PEOPLE or (following is not None and following.lemma_ == "be")
    return not (leaves_open and is_doer and any(t.lemma_ == "be" for t in rest))


def _begin(first: Token, start: int) -> int:
    """Index of the first word that describes a noun."""
    doc, begin = first.doc, first.i
    while begin > start:
        word = doc[begin - 1]
        if word.text in FRAME_NOUNS and _is_after_of(word):
            break  # "top of the photo old man"
        if not (
            word.pos_ in ("ADJ", "NUM", "DET", *NOUN)
            or word.tag_ in ("VBN", "VBG", "PRP$", "POS")
            or word.text in SIDES
            or word.text in DEGREES
            or word.text == "-"
            or (word.tag_ == "RB" and (word.text.endswith("ly") or doc[begin].tag_ == "VBN"))
            or (word.text in JOINS and begin - 1 > start and _describes(doc[begin - 2]))
        ):
            break
        begin -= 1
        if word.pos_ == "DET" or word.tag_ == "PRP$":
            break
    if begin > start and doc[begin - 1].pos_ == "ADP" and doc[begin - 1].text != "of":
        # "second from the left fridge": these words say where it is
        place = list(itertools.takewhile(lambda t: t.text in PLACE_WORDS, doc[begin : first.i]))
        if any(t.text in SIDES.keys() | LINKS for t in place):
            begin += len(place)
    return begin


def _describes(token: Token) -> bool:
    """Whether the word before "and" or a comma is an adjective of the same noun."""
    return token.pos_ == "ADJ" or token.text in COLOURS | JOINS
