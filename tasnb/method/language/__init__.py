"""How expressions and captions are read: negative phrases (section 3.3), subjects and places.

The paper takes the noun phrases of the image's caption with spaCy and discards those that contain a
synonym of the expression's subject, by WordNet's path similarity; the rest name other objects. It
calls its rule strict: "young man" and "the boy" are not synonyms. `noun_phrases`, `are_synonyms`
and `negative_phrases` do this. `read_expressions` collects what `subjects` and `orientation` read
from an expression; `words` has their word lists, and parses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from tasnb.method.language import orientation, subjects
from tasnb.method.language.words import (
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
"""Prompt for the negative phrases of the N-score, and for expressions in Grad-CAM."""


def prompted(noun_phrase: str) -> str:
    """A noun phrase in the form of CLIP's training texts: "a photo of a red ball"."""
    return PROMPT.format("a " + re.sub(r"^(the|an?) ", "", noun_phrase))


# --- Noun phrases and synonyms (section 3.3) -----------------------------------------------------


def says(caption: str, noun: str) -> bool:
    """Whether a caption contains a noun or its plural as a word: there is no "man" in "woman"."""
    return re.search(rf"\b{re.escape(noun)}(e?s)?\b", caption) is not None


def mentions(text: str, names: Sequence[str], wordnet: WordNetCorpusReader) -> bool:
    """Whether a text contains one of the names of an object, in the singular or plural.

    A dataset such as COCO gives an object a single name. The object is then also mentioned by words
    that mean the same or a kind of it in WordNet, each in its first sense as a noun: a sofa is a
    couch, and a skier is a person. Where a dataset lists several names, only these count.
    """
    text = text.lower()
    if any(says(text, name.lower()) for name in names):
        return True
    words = [word for word in re.findall(r"[\w-]+", text) if word not in COLOURS]
    if len(names) == 1:
        return any(_is_a(word, names[0].lower(), wordnet) for word in words)
    singular = {_singular(word, wordnet) for word in words}
    return any(name.lower() in singular for name in names)


@cache
def _singular(word: str, wordnet: WordNetCorpusReader) -> str | None:
    """The singular of a noun, irregular or not; None if WordNet does not have it."""
    if word == "people":
        return "person"
    noun = wordnet.NOUN
    # Of "men", WordNet also has an entry, in the sense of a work force.
    man = wordnet.morphy(f"{word[:-2]}an", noun) if word.endswith("men") else None
    return man or wordnet.morphy(word, noun)


@cache
def _is_a(noun: str, name: str, wordnet: WordNetCorpusReader) -> bool:
    """Whether a noun's first sense is the first sense of a name, or below it in WordNet."""
    wanted, singular = _first_sense(name, wordnet), _singular(noun, wordnet)
    if wanted is None or singular is None:
        return False
    first = wordnet.synsets(singular, pos="n")[0]
    above = first.closure(lambda one: one.hypernyms() + one.instance_hypernyms())
    return any(sense.offset() == wanted for sense in (first, *above))


class Phrase(NamedTuple):
    """A noun phrase and the lemmas of its nouns, such as ("a dog house", "house", "dog house").

    Attributes:
        text: As it is written in the caption.
        head: Lemma of its head noun; "" if the rule that found the phrase determines none.
        nouns: Lemmas of all its nouns, including the head, joined by a space.
    """

    text: str
    head: str
    nouns: str


def noun_phrases(captions: Iterable[str], parser: Language) -> list[list[Phrase]]:
    """The noun chunks of each caption, in order and without duplicates.

    Chunks that name no object are left out: pronouns, a bare "kneeling", and "a photo" in "a photo
    of ...", which would become the negative "a photo of a photo" and match every mask.
    """
    found = []
    for doc in parser.pipe(caption.strip() for caption in captions):
        chunks = [c for c in mended(doc, parser).noun_chunks if _names_something(c)]
        found.append(list({chunk.text: _phrase(chunk) for chunk in chunks}.values()))
    return found


def _phrase(chunk: Span) -> Phrase:
    head = subjects.doer(chunk, chunk.root)
    nouns = [t for t in chunk if t == head or (t.pos_ in NOUN and not is_action(t))]
    return Phrase(chunk.text, head.lemma_.lower(), " ".join(t.lemma_.lower() for t in nouns))


def _names_something(chunk: Span) -> bool:
    following = chunk.doc[chunk.end : chunk.end + 1].text
    is_frame = chunk.root.lemma_.lower() in FRAME_NOUNS and following == "of"
    only_acts = len(chunk) == 1 and is_action(chunk.root)
    return chunk.root.pos_ != "PRON" and not is_frame and not only_acts


def are_synonyms(head_a: str, head_b: str, wordnet: WordNetCorpusReader) -> bool:
    """Whether two nouns are the same word or their first noun senses are the same synset.

    This is the strict reading of section 3.3: the path similarity of their most frequent senses is
    1. "man" and "boy", or "man" and "guy", are not synonyms.
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
    """The texts of the phrases that contain no synonym of the subject's head (T_n of Eq. 4).

    For the subject "dog", neither "a big dog" nor "a dog house" is a negative phrase.
    """
    return [
        phrase.text
        for phrase in phrases
        if not any(same(noun, subject_head, wordnet) for noun in phrase.nouns.split())
    ]


# --- Expressions ---------------------------------------------------------------------------------

# Words tagged as adjectives that say where something is.
NOT_ATTRIBUTES = SIDES.keys() | DEGREES | word_set("second third first last next other same close")


def read_expressions(texts: Sequence[str], parser: Language) -> pd.DataFrame:
    """Subject and orientation of each expression.

    Returns:
        One row per text, in order, with the columns `key` (the text as given), `subject` and `head`
        (the subject's noun phrase and the lemma of its head noun, from `subjects.subject`),
        `orientation` (words among left, right, top, bottom, joined by a space, the horizontal one
        first; "" for none), `attribute` (whether an adjective or a colour describes something) and
        `relation` (whether a second object is mentioned, as in "next to the dog" or "with an
        umbrella").
    """
    names = ["key", "subject", "head", "orientation", "attribute", "relation"]
    found = [
        (
            text,
            *subjects.subject(doc, start),
            orientation.orientation(doc, start),
            *_kinds(doc, start),
        )
        for text, (doc, start) in zip(texts, parses(texts, parser), strict=True)
    ]
    return pd.DataFrame(found, columns=names)


def _kinds(doc: Doc, start: int) -> tuple[bool, bool]:
    """Whether an attribute is mentioned, and whether a second object is."""
    attribute = any(
        (token.pos_ == "ADJ" or token.text in COLOURS) and token.text not in NOT_ATTRIBUTES
        for token in doc[start:]
    )
    objects = [token for token in doc[start:] if token.dep_ in ("pobj", "dobj")]
    relation = any(is_thing(token) or is_described(described_noun(token)) for token in objects)
    return attribute, relation
