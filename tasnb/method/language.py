"""What the words say: subject, noun phrases, synonyms (section 3.3) and orientation (3.4).

spaCy parses, WordNet compares nouns. Orientation is read by rules over the parse; where a clipped
expression defeats the small parser ("man left", "vase top left") they fall back on word order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from tasnb.method.orientation import (
    COLOURS,
    DEGREES,
    FRAME_NOUNS,
    NOUN,
    SIDES,
    is_thing,
    orientation,
    word_set,
)

if TYPE_CHECKING:
    from nltk.corpus.reader import WordNetCorpusReader
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

PROMPT = "a photo of {}"
"""What a negative phrase is put into before it is encoded for the N-score, and an expression before
Grad-CAM asks for it."""

# --- Noun phrases and synonyms (section 3.3) -----------------------------------------------------


def says(caption: str, noun: str) -> bool:
    """Whether a caption has a noun, or its plural, as words of their own: no "man" in "woman"."""
    return re.search(rf"\b{re.escape(noun)}(e?s)?\b", caption) is not None


# "brick building", "kitchen cutting board"
NOT_ACTIONS = word_set(
    "building painting ceiling railing awning wing ring string king thing clothing icing dressing "
    "topping frosting drawing carving earring wedding dining living parking cutting frying washing"
)


class Phrase(NamedTuple):
    """A noun phrase and the lemma of its head noun: ("a young man", "man")."""

    text: str
    head: str


def noun_phrases(captions: Iterable[str], parser: Language) -> list[list[Phrase]]:
    """The noun chunks of each caption, in order and each text once.

    Left out are chunks that name nothing: pronouns, a bare "kneeling", and the caption's own frame,
    "a photo of ...". It would become the negative "a photo of a photo", which is true of each mask.
    """
    return [
        list(
            dict.fromkeys(
                Phrase(chunk.text, _head(chunk, chunk.root).lemma_.lower())
                for chunk in doc.noun_chunks
                if _names_something(chunk)
            )
        )
        for doc in parser.pipe(caption.strip() for caption in captions)
    ]


def _head(chunk: Span, root: Token) -> Token:
    """The head noun of a chunk, `root` unless it should be a doer: "man" of "a man kneeling".

    The small parser takes that for a kind of kneeling, and "player swinging bat" for a kind of bat.
    """
    for noun, action in itertools.pairwise(chunk):
        if _is_action(action) and (noun.pos_ in NOUN or (action == root and noun.pos_ != "DET")):
            return noun
        if action == root:
            break
    return root


def _is_action(token: Token) -> bool:
    return token.text.endswith("ing") and token.text not in NOT_ACTIONS


def _names_something(chunk: Span) -> bool:
    following = chunk.doc[chunk.end : chunk.end + 1].text
    is_frame = chunk.root.lemma_.lower() in FRAME_NOUNS and following == "of"
    is_action = len(chunk) == 1 and _is_action(chunk.root)
    return chunk.root.pos_ != "PRON" and not is_frame and not is_action


def are_synonyms(head_a: str, head_b: str, wordnet: WordNetCorpusReader) -> bool:
    """Whether two nouns are the same word or their first noun senses are one synset.

    The strict reading of section 3.3: path similarity 1 between the most frequent senses, so that
    "man" and "boy", or "man" and "guy", are not synonyms.
    """
    if head_a == head_b:
        return True
    sense = _first_sense(head_a, wordnet)
    return sense is not None and sense == _first_sense(head_b, wordnet)


@cache
def _first_sense(noun: str, wordnet: WordNetCorpusReader) -> int | None:
    """Offset of the first noun synset, which identifies it."""
    synsets = wordnet.synsets(noun.replace(" ", "_"), pos="n")
    return synsets[0].offset() if synsets else None


def negative_phrases(
    phrases: Iterable[Phrase],
    subject_head: str,
    wordnet: WordNetCorpusReader,
    same: Callable[[str, str, WordNetCorpusReader], bool] = are_synonyms,
) -> list[str]:
    """The texts of those phrases whose head is no synonym of the subject's (T_n of Eq. 4)."""
    return [p.text for p in phrases if not same(p.head, subject_head, wordnet)]


# --- Expressions ---------------------------------------------------------------------------------

# What an expression may begin with that leaves no room for an article.
NO_ARTICLE = word_set(
    "a an the this that these those both all some any another every each no one two three four "
    "his her its my our your their who which whose what he she they it there "
    "in on at to from by near with of under behind above below next"
)


# Adjectives to the parser that say where something is.
NOT_ATTRIBUTES = SIDES.keys() | DEGREES | word_set("second third first last next other same close")

# What the small parser now and then takes for the noun that it describes.
MODIFIERS = (
    COLOURS
    | SIDES.keys()
    | word_set("haired bald bearded old young big large small little biggest")
)


def read_expressions(texts: Sequence[str], parser: Language) -> pd.DataFrame:
    """Subject and orientation of each expression.

    Returns:
        One row a text, in order, with the columns `key` (the text as given), `subject` (the noun
        chunk that contains the root, else that of the root's first child; where these name a
        place, the first noun that does not; else the whole expression), `head` (lemma of the
        subject's head noun), `orientation` (words among left, right, top, bottom, joined by a
        space, the horizontal one first; "" for none), `attribute` (whether an adjective or a
        colour says what something looks like) and `relation` (whether a second thing is named, as
        in "next to the dog" or "with an umbrella").
    """
    names = ["key", "subject", "head", "orientation", "attribute", "relation"]
    found = [
        (text, *_subject(doc, start), orientation(doc, start), *_kinds(doc, start))
        for text, (doc, start) in zip(texts, _parse(texts, parser), strict=True)
    ]
    return pd.DataFrame(found, columns=names)


def _kinds(doc: Doc, start: int) -> tuple[bool, bool]:
    """Whether an attribute is named, and whether a second thing is."""
    attribute = any(
        (token.pos_ == "ADJ" or token.text in COLOURS) and token.text not in NOT_ATTRIBUTES
        for token in doc[start:]
    )
    relation = any(token.dep_ in ("pobj", "dobj") and is_thing(token) for token in doc[start:])
    return attribute, relation


def _parse(texts: Iterable[str], parser: Language) -> Iterator[tuple[Doc, int]]:
    """The parse of each text, with the index of its first own token.

    People drop the article ("left man jumping"), and the small parser then takes "left" for a
    verb. So a text that begins without one is parsed with "the" before it (index 1).
    """
    cleaned = (" ".join(text.lower().split()) for text in texts)
    contexts = (
        (t, 0) if not t or t.split()[0].strip(",.") in NO_ARTICLE else (f"the {t}", 1)
        for t in cleaned
    )
    return parser.pipe(contexts, as_tuples=True)


def _subject(doc: Doc, start: int) -> tuple[str, str]:
    """Text and head lemma of the subject's noun chunk."""
    if len(doc) == start:
        return "", ""
    chunks = {token.i: chunk for chunk in doc.noun_chunks for token in chunk}
    root = next(token for token in doc if token.dep_ == "ROOT")
    first_child = next((child for child in root.children if child.i >= start), root)
    found = [chunks[token.i] for token in (root, first_child) if token.i in chunks]
    head = next((chunk.root for chunk in found if is_thing(chunk.root)), None)
    if head is None:
        # "groom right", "vase top left": the root is where it is, not what it is.
        things = [t for t in doc[start:] if is_thing(t)]
        free = (
            t for t in things if not any(p.pos_ == "ADP" and p.text != "of" for p in doc[: t.i])
        )
        head = next(free, found[0].root if found else None)
    if head is None:
        return doc[start:].text, root.lemma_
    begin = max(start, chunks[head.i].start if head.i in chunks else head.left_edge.i)
    head = _behind_modifiers(_head(doc[begin : head.i + 1], head))
    lemma = head.lemma_ if head.pos_ in NOUN else head.text  # of "moped", read as a verb: mop
    return doc[begin : head.i + 1].text.strip(" ,"), lemma


def _behind_modifiers(head: Token) -> Token:
    """The noun that the parser cut off: "rightmost *pear*", "teddy *bear* on a chair"."""
    last = head
    while last.i + 1 < len(last.doc) and (
        last.text in MODIFIERS or _is_action(last) or _is_cut_off(last, last.nbor())
    ):
        last = last.nbor()
    is_name = last.pos_ in (*NOUN, "VERB") and last.text not in MODIFIERS and not _is_action(last)
    return last if is_name else head


def _is_cut_off(noun: Token, following: Token) -> bool:
    """Whether two words are one name: "alarm clock"; "teddy bear", with bear read as a verb."""
    if following.tag_ == "VBP":
        return noun.tag_ in ("NN", "NNP") and following.pos_ == "VERB"  # no singular goes with it
    return noun.pos_ in NOUN and is_thing(following) and not _is_action(following)
