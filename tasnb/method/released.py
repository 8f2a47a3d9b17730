"""How the authors' released code interprets language, where it differs from the paper's text.

The paper finds subjects, synonyms and orientation words with spaCy and WordNet (sections 3.3 and
3.4) but gives few details. The released code finds orientations with ReCLIP's parser, whose word
lists are used here. Each rule is a plain function, so that it can be compared with another
implementation. Rules about pixels and numbers are next to the published ones, in
``masked_images.masked_image``, ``rectifier.in_region`` and ``proposals.refine``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from tasnb.method.language.words import word_set
from tasnb.models.parsers import load_tagger

if TYPE_CHECKING:
    from nltk.corpus.reader import WordNetCorpusReader
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

# --- The rectifier: when it acts, and on which side -----------------------------------------------

RELATIONS = {
    "left": word_set("left west"),
    "right": word_set("right east"),
    "top": word_set("above north top"),
    "bottom": word_set("below south under"),
}
SIZES = word_set("bigger larger closer smaller tinier further inside within contained")
NULLS = word_set("part image side picture half region section")
KEYWORDS = frozenset().union(*RELATIONS.values()) | SIZES | NULLS

SUPERLATIVES = word_set(
    "left west leftmost western right rightmost east eastern above north top below south "
    "underneath bigger biggest larger largest closer closest smaller smallest tinier tiniest "
    "further furthest"
)
"""Words of size also select the branch for superlatives, which then looks only for sides."""


class Entity(NamedTuple):
    """An object in an expression, with the words that describe where it is.

    Attributes:
        head: Its expanded noun chunk.
        relations: The words that lead to another object, and that object.
        superlatives: Groups of words that contain one of ``SUPERLATIVES``.
    """

    head: Span
    relations: list[tuple[list[Token], Entity]]
    superlatives: list[list[Token]]


def place(doc: Doc) -> str:
    """Where the released rectifier looks for the subject: "", "left", "right top" and so on.

    It acts if the expanded chunk of the head equals the subject, and if either superlatives or
    relations were found, but not both. Every other word of the head's chunk counts as a relation
    (see ``entity_of``), so "right bear" is rectified while "the left cat" is not.

    Args:
        doc: A parsed expression, in lower case.
    """
    chunks = _expanded(doc)
    found = entity_of(doc, chunks)
    if found is None or found.head.text != subject(doc):
        return ""
    if found.superlatives and not found.relations:
        return place_of_superlatives(doc.text)
    if found.relations and not found.superlatives:
        heads = {chunk.text for chunk in chunks.values()}
        related = [
            ([word.text for word in words], other.head.text)
            for words, other in found.relations
            if other.head.text in heads
        ]
        return place_of_relations(related, found.head.text, doc.text)
    return ""


def place_of_superlatives(sentence: str) -> str:
    """The place by substrings of the whole sentence: "bigger lap*top*" is at the top.

    Args:
        sentence: In lower case.
    """
    down = ("below", "south", "underneath")
    return " ".join(filter(None, [_horizontal(sentence), _vertical(sentence, down)]))


def place_of_relations(
    relations: Iterable[tuple[Sequence[str], str]], head: str, sentence: str
) -> str:
    """The place by the first listed word of each relation; the last relation that acts decides.

    A relation acts if the text of its object equals that of the head or contains the word, as "the
    left" does in "man on the left". The other axis is decided by substrings of the sentence.

    Args:
        relations: The words that lead to an object, and the text of its expanded chunk.
        head: The text of the head's expanded chunk.
        sentence: In lower case.
    """
    found = ""
    for words, other in relations:
        sides = [(w, side) for w in words for side, listed in RELATIONS.items() if w in listed]
        if not sides or (other != head and sides[0][0] not in other):
            continue
        side = sides[0][1]
        if side in ("left", "right"):
            axes = [side, _vertical(sentence, ("below", "south", "under"))]
        else:
            axes = [_horizontal(sentence), side]
        found = " ".join(filter(None, axes))
    return found


def _horizontal(sentence: str) -> str:
    if any(word in sentence for word in ("left", "west")):
        return "left"
    return "right" if any(word in sentence for word in ("right", "east")) else ""


def _vertical(sentence: str, down: Iterable[str]) -> str:
    if any(word in sentence for word in ("above", "top", "north")):
        return "top"
    return "bottom" if any(word in sentence for word in down) else ""


def entity_of(doc: Doc, chunks: Mapping[int, Span]) -> Entity | None:
    """The head of an expression with its relations and superlatives, as ReCLIP's parser finds it.

    ReCLIP compares chunks by identity, and its expansion creates one chunk object per word. Words
    of the head's own chunk are therefore taken for other objects.

    Args:
        chunks: Index of a word -> its expanded chunk.
    """
    roots = [token for token in doc if token.head.i == token.i]
    found = _entity(roots[0], chunks) if roots else None
    if found is None:
        first = next(iter(doc.noun_chunks), None)
        found = _entity(first.root.head, chunks) if first is not None else None
    return found


def _entity(head: Token, chunks: Mapping[int, Span]) -> Entity | None:
    if head.i not in chunks:
        child = next(iter(head.children), None)
        if child is None or child.i not in chunks:
            return None
        head = child
    found = Entity(chunks[head.i], [], [])
    _collect(head, head, [], chunks, found)
    return found


def _collect(
    token: Token, head: Token, carried: list[Token], chunks: Mapping[int, Span], found: Entity
) -> None:
    """Descends the parse from the head and adds relations and superlatives to `found`."""
    keyword = token.text in KEYWORDS
    if token.i in chunks and token.i != head.i and not keyword:
        words = sorted(carried, key=lambda word: word.i)
        other = _entity(token, chunks)
        found.relations.append((words, other))
        return
    children = list(token.children)
    if not children:
        words = sorted([*carried, token], key=lambda word: word.i)
        if any(word.text in SUPERLATIVES for word in words):
            found.superlatives.append(words)
        return
    if token.i not in chunks or keyword or token.text in SUPERLATIVES:
        carried = [*carried, token]
    for child in children:
        _collect(child, head, carried, chunks, found)


def _expanded(doc: Doc) -> dict[int, Span]:
    """Index of a word -> its noun chunk, expanded by its dependents up to the next chunk."""
    chunk_of = {i: chunk for chunk in doc.noun_chunks for i in range(chunk.start, chunk.end)}
    expanded = {}
    for word, chunk in chunk_of.items():
        # The words of a longer chunk stop its own expansion, too, as each has its own chunk object.
        others = [doc[i] for i in chunk_of if i != word or len(chunk) > 1]
        begin, end = chunk.start, chunk.end
        for token in doc[: chunk.start]:
            hangs = any(inside.is_ancestor(token) for inside in chunk)
            if hangs and not any(token.is_ancestor(other) for other in others):
                begin = token.i
                break
        for token in doc[chunk.end :]:
            if not any(inside.is_ancestor(token) for inside in chunk):
                continue
            if any(token.is_ancestor(other) or token.i == other.i for other in others):
                break
            end = token.i + 1
        expanded[word] = doc[begin:end]
    return expanded


# --- Subject, noun phrases and synonyms -----------------------------------------------------------


def subject(doc: Doc) -> str:
    """The noun chunk of the root, or else of the root's first child, or else the whole text."""
    chunks = {token.i: chunk for chunk in doc.noun_chunks for token in chunk}
    roots = [token for token in doc if token.head.i == token.i]
    for token in [*roots[-1:], *[child for root in roots[-1:] for child in root.children][:1]]:
        if token.i in chunks:
            return chunks[token.i].text
    return doc.text


def first_noun(doc: Doc) -> str:
    """The first word that is tagged as a noun; "" if there is none.

    The released code uses NLTK's tagger, whose weights are not available as a package. Where they
    are not installed, spaCy's tags are used, which belong to the same tag set.
    """
    if (tagger := load_tagger()) is None:
        tagged = [(token.text, token.tag_) for token in doc]
    else:
        from nltk.tokenize import word_tokenize

        tagged = tagger.tag(word_tokenize(doc.text, preserve_line=True))
    return next((word for word, tag in tagged if tag.startswith("N")), "")


def are_near_synonyms(noun_a: str, noun_b: str, wordnet: WordNetCorpusReader) -> bool:
    """Whether at least three pairs of the nouns' synsets have a path similarity above 0.9.

    Synsets of any part of speech count. Only identical synsets are that similar, so a noun with
    fewer than three synsets is not a synonym of itself, and "" is a synonym of nothing. WordNet may
    list a synset twice, for a word and for its base form ("dumplings"); it then makes four pairs.
    """
    if not noun_a or not noun_b:
        return False
    theirs = Counter(wordnet.synsets(noun_b))
    return sum(theirs[synset] for synset in wordnet.synsets(noun_a)) >= 3


def read_expressions(texts: Sequence[str], parser: Language) -> pd.DataFrame:
    """The orientation of each expression, and the first noun of its subject.

    Returns:
        One row per text, in order: key (the text as given), orientation (see ``place``) and head
        (see ``first_noun``).
    """
    docs = list(parser.pipe(text.lower() for text in texts))
    subjects = parser.pipe(subject(doc) for doc in docs)
    rows = [
        (text, place(doc), first_noun(of))
        for text, doc, of in zip(texts, docs, subjects, strict=True)
    ]
    return pd.DataFrame(rows, columns=["key", "orientation", "head"])


def noun_phrases(captions: Iterable[str], parser: Language) -> list[list[tuple[str, str]]]:
    """All noun chunks of each caption, with duplicates, each with its first noun."""
    docs = list(parser.pipe(captions))
    chunks = [[chunk.text for chunk in doc.noun_chunks] for doc in docs]
    tagged = iter(parser.pipe([text for some in chunks for text in some]))
    return [[(text, first_noun(next(tagged))) for text in some] for some in chunks]
