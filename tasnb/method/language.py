"""What the words say: subject, noun phrases, synonyms (section 3.3) and orientation (3.4).

spaCy parses, WordNet compares nouns. The subject is read in `subjects`, its place in `orientation`;
here are the noun phrases of captions, and which of them are negative.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from tasnb.method.orientation import orientation
from tasnb.method.subjects import doer, subject
from tasnb.method.words import (
    COLOURS,
    DEGREES,
    FRAME_NOUNS,
    NOUN,
    SIDES,
    described_noun,
    is_action,
    is_described,
    is_thing,
    mended,
    parses,
    word_set,
)

if TYPE_CHECKING:
    from nltk.corpus.reader import WordNetCorpusReader
    from spacy.language import Language
    from spacy.tokens import Doc, Span

PROMPT = "a photo of {}"
"""What a negative phrase is put into before it is encoded for the N-score, and an expression before
Grad-CAM asks for it."""

# --- Noun phrases and synonyms (section 3.3) -----------------------------------------------------


def says(caption: str, noun: str) -> bool:
    """Whether a caption has a noun, or its plural, as words of their own: no "man" in "woman"."""
    return re.search(rf"\b{re.escape(noun)}(e?s)?\b", caption) is not None


class Phrase(NamedTuple):
    """A noun phrase and the lemmas of its nouns: ("a dog house", "house", "dog house").

    Attributes:
        text: As the caption has it.
        head: Lemma of its head noun; "" where the rule that found it names none.
        nouns: Lemmas of all its nouns, the head among them, joined by a space.
    """

    text: str
    head: str
    nouns: str


def noun_phrases(captions: Iterable[str], parser: Language) -> list[list[Phrase]]:
    """The noun chunks of each caption, in order and each text once.

    Left out are chunks that name nothing: pronouns, a bare "kneeling", and the caption's own frame,
    "a photo of ...". It would become the negative "a photo of a photo", which is true of each mask.
    """
    found = []
    for doc in parser.pipe(caption.strip() for caption in captions):
        chunks = [c for c in mended(doc, parser).noun_chunks if _names_something(c)]
        found.append(list({chunk.text: _phrase(chunk) for chunk in chunks}.values()))
    return found


def _phrase(chunk: Span) -> Phrase:
    head = doer(chunk, chunk.root)
    nouns = [t for t in chunk if t == head or (t.pos_ in NOUN and not is_action(t))]
    return Phrase(chunk.text, head.lemma_.lower(), " ".join(t.lemma_.lower() for t in nouns))


def _names_something(chunk: Span) -> bool:
    following = chunk.doc[chunk.end : chunk.end + 1].text
    is_frame = chunk.root.lemma_.lower() in FRAME_NOUNS and following == "of"
    only_acts = len(chunk) == 1 and is_action(chunk.root)
    return chunk.root.pos_ != "PRON" and not is_frame and not only_acts


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
    """The texts of those phrases that contain no synonym of the subject's head (T_n of Eq. 4).

    For the subject "dog" neither "a big dog" nor "a dog house" is a negative.
    """
    return [
        phrase.text
        for phrase in phrases
        if not any(same(noun, subject_head, wordnet) for noun in phrase.nouns.split())
    ]


# --- Expressions ---------------------------------------------------------------------------------

# Adjectives to the parser that say where something is.
NOT_ATTRIBUTES = SIDES.keys() | DEGREES | word_set("second third first last next other same close")


def read_expressions(texts: Sequence[str], parser: Language) -> pd.DataFrame:
    """Subject and orientation of each expression.

    Returns:
        One row per text, in order, with the columns `key` (the text as given), `subject` and
        `head` (the subject's noun phrase and the lemma of its head noun: `subjects.subject`),
        `orientation` (words among left, right, top, bottom, joined by a space, the horizontal one
        first; "" for none), `attribute` (whether an adjective or a colour says what something
        looks like) and `relation` (whether a second thing is named, as in "next to the dog" or
        "with an umbrella").
    """
    names = ["key", "subject", "head", "orientation", "attribute", "relation"]
    found = [
        (text, *subject(doc, start), orientation(doc, start), *_kinds(doc, start))
        for text, (doc, start) in zip(texts, parses(texts, parser), strict=True)
    ]
    return pd.DataFrame(found, columns=names)


def _kinds(doc: Doc, start: int) -> tuple[bool, bool]:
    """Whether an attribute is named, and whether a second thing is."""
    attribute = any(
        (token.pos_ == "ADJ" or token.text in COLOURS) and token.text not in NOT_ATTRIBUTES
        for token in doc[start:]
    )
    objects = [token for token in doc[start:] if token.dep_ in ("pobj", "dobj")]
    relation = any(is_thing(token) or is_described(described_noun(token)) for token in objects)
    return attribute, relation
