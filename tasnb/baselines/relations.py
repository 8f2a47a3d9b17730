"""ReCLIP's relations (Subramanian et al. 2022, section 3.2) on TAS's V-score.

ReCLIP reads from the parse of an expression an *entity*: the noun chunk of its head, relations to
other entities ("left of the dog"), and superlatives ("leftmost"). Executing it gives a probability
for every mask. The entity's own chunk is scored, V followed by a softmax over the masks; a relation
multiplies p_i by sum_j R_ij q_j, where q are the probabilities of the other entity; a superlative
multiplies it by sum_j S_ij p_j. R_ij and S_ij say whether mask i is left of mask j, larger, and so
on. If the expression contains a word for a relation or superlative, this probability is multiplied
by that of the whole expression; otherwise the whole expression decides alone.

Boxes become masks here: a mask's centre is its centroid, its size the number of its pixels.
Differences from the authors' code:

* A relation that holds for no mask would make all probabilities 0 / 0; it is ignored.
* Words that lead to another object but are no known relation extend the text of the entity. With
  several of them, the authors' code keeps only the last one; here all of them count.
* "between" is off by default in the authors' code, and extends the text like other words.
* The probabilities that the authors compute for possessives and drop are not computed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from tasnb.baselines.stored import Floats
from tasnb.datasets.splits import Split
from tasnb.method.language.words import parses, word_set
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import intersections, to_rles
from tasnb.method.released import NULLS
from tasnb.method.scores import ScoreTable, similarity
from tasnb.models.encoders import load_encoder
from tasnb.models.parsers import load_parser

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span, Token

RELATIONS = {
    "left": word_set("left west"),
    "right": word_set("right east"),
    "above": word_set("above north top back behind"),
    "below": word_set("below south under front"),
    "bigger": word_set("bigger larger closer"),
    "smaller": word_set("smaller tinier further"),
    "within": word_set("inside within contained"),
}
SUPERLATIVES = {
    "left": word_set("left west leftmost western"),
    "right": word_set("right rightmost east eastern"),
    "above": word_set("above north top"),
    "below": word_set("below south underneath front"),
    "bigger": word_set("bigger biggest larger largest closer closest"),
    "smaller": word_set("smaller smallest tinier tiniest further furthest"),
}
"""Comparison of two masks -> words for it. What is in front is lower, what is close is larger."""

RELATING = frozenset().union(*RELATIONS.values())
SUPERLATIVE = frozenset().union(*SUPERLATIVES.values())


class Entity(NamedTuple):
    """An object in an expression.

    Attributes:
        text: Its noun chunk, with the words that relate it to others in a way that is not listed.
        relations: (a key of ``RELATIONS``, the other object).
        superlatives: Keys of ``SUPERLATIVES``.
    """

    text: str
    relations: tuple[tuple[str, Entity], ...] = ()
    superlatives: tuple[str, ...] = ()

    def texts(self) -> Iterator[str]:
        """The texts of this entity and of all that it is related to."""
        yield self.text
        for _, other in self.relations:
            yield from other.texts()


# --- From an expression to an entity --------------------------------------------------------------


def read_entities(texts: Sequence[str], parser: Language) -> pd.DataFrame:
    """One row per text: key, and its entity as JSON, "" if only the whole text counts."""
    found = [entity_of(doc, start) for doc, start in parses(texts, parser)]
    encoded = ["" if entity is None else json.dumps(entity) for entity in found]
    return pd.DataFrame({"key": list(texts), "entity": encoded})


def from_json(text: str) -> Entity | None:
    """The entity that ``read_entities`` has encoded."""

    def made(text: str, relations: list, superlatives: list) -> Entity:
        related = tuple((relation, made(*other)) for relation, other in relations)
        return Entity(text, related, tuple(superlatives))

    return made(*json.loads(text)) if text else None


def entity_of(doc: Doc, start: int = 0) -> Entity | None:
    """The entity of a parsed expression; None if it has no keyword, or no noun chunk as its head.

    Args:
        start: Index of the expression's first token; any before it were added for the parser.
    """
    if not any(token.text in RELATING | SUPERLATIVE for token in doc[start:]):
        return None
    chunks = {i: chunk for chunk in doc.noun_chunks for i in range(chunk.start, chunk.end)}
    roots = [token for token in doc if token.head.i == token.i]
    roots = roots[:1] + [chunk.root.head for chunk in list(doc.noun_chunks)[:1]]
    return next(filter(None, (_entity(root, chunks, start) for root in roots)), None)


def _entity(head: Token, chunks: Mapping[int, Span], start: int) -> Entity | None:
    if head.i not in chunks:  # "is" in "the dog is left of the cat"
        head = next(iter(head.children), head)
        if head.i not in chunks:
            return None
    own, relations = chunks[head.i], []
    words = set(range(max(own.start, start), own.end))
    found = _Found([], [])
    _collect(head, own, [], chunks, found)
    for carried, other in found.others:
        relation = _named(carried, RELATIONS)
        if relation is not None:
            relations.append((relation, _entity(other, chunks, start)))
            continue
        for token in chunks[other.i]:
            if any(inside.is_ancestor(token) for inside in own):
                words |= {word.i for word in (token, *token.ancestors) if word.i >= start}
    text = "".join(head.doc[i].text_with_ws for i in sorted(words)).strip()
    superlatives = [_named(group, SUPERLATIVES) for group in found.groups]
    return Entity(text, tuple(relations), tuple(filter(None, superlatives)))


class _Found(NamedTuple):
    """The words that lead to a token of another chunk, with it; and words without such a token."""

    others: list[tuple[list[Token], Token]]
    groups: list[list[Token]]


def _collect(
    token: Token, own: Span, carried: list[Token], chunks: Mapping[int, Span], found: _Found
) -> None:
    """Descends the parse from the head of a chunk to other chunks and to the ends of branches."""
    chunk = chunks.get(token.i)
    keyword = token.text in RELATING | NULLS
    if chunk is not None and chunk.start != own.start and not keyword:
        found.others.append((carried, token))
        return
    children = list(token.children)
    if not children:
        found.groups.append([*carried, token])
    passed = carried
    if chunk is None or keyword or token.text in SUPERLATIVE:
        passed = [*carried, token]
    for child in children:
        other = chunks.get(child.i)
        same = None not in (chunk, other) and chunk.start == other.start
        if not same or child.text in SUPERLATIVE:
            _collect(child, own, passed, chunks, found)
        elif len(children) == 1:  # "the left" in "the dog on the left"
            found.groups.append([*carried, token])


def _named(tokens: Iterable[Token], listed: Mapping[str, frozenset[str]]) -> str | None:
    """The first comparison of which the tokens contain a word."""
    texts = {token.text for token in tokens}
    return next((name for name, words in listed.items() if texts & words), None)


# --- From an entity to a score --------------------------------------------------------------------


class Places(NamedTuple):
    """Where the masks of an image are: centres x and y, areas (pixels), and run-length encodings.

    The arrays are (M,).
    """

    x: Floats
    y: Floats
    area: Floats
    rles: list[dict]

    def compare(self, name: str) -> Floats:
        """How far mask i is left of mask j, and so on: 0 or 1, or the shared part of i, (M, M)."""
        if name == "within":
            return intersections(self.rles, self.rles) / self.area[:, None]
        along, sign = {
            "left": (self.x, 1),
            "right": (self.x, -1),
            "above": (self.y, 1),
            "below": (self.y, -1),
            "bigger": (self.area, -1),
            "smaller": (self.area, 1),
        }[name]
        return (sign * along[:, None] < sign * along).astype(float)


def execute(
    entity: Entity, likely: Callable[[str], Floats], compare: Callable[[str], Floats]
) -> Floats:
    """The probability of every mask to be an entity, (M,).

    Args:
        likely: From a text to its probability for every mask, (M,).
        compare: From the name of a comparison to its value for every pair of masks, (M, M).
    """
    found = likely(entity.text)
    for name, other in entity.relations:
        found = _weighted(found, compare(name) @ execute(other, likely, compare))
    for name in entity.superlatives:
        found = _weighted(found, compare(name) @ found)
    return found


def _weighted(probabilities: Floats, factors: Floats) -> Floats:
    product = probabilities * factors
    return product / product.sum() if product.sum() > 0 else probabilities


def softmax(logits: Floats) -> Floats:
    """The softmax over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def scale_of(pipeline: Pipeline, encoder: str) -> float:
    """The factor by which an open_clip model multiplies cosine similarities: 100 in CLIP's own."""
    return float(load_encoder(encoder, pipeline.settings).model.logit_scale.detach().exp())


def places_of(masks: pd.DataFrame) -> Places:
    """The places of an image's masks, from their rows in the mask table."""
    x, y, area = (masks[name].to_numpy(float) for name in ("center_x", "center_y", "area"))
    return Places(x, y, area, to_rles(masks))


def relation_scores(pipeline: Pipeline, split: Split, encoder: str, table: ScoreTable) -> Floats:
    """The probability of every pair's mask, by the relations and superlatives of its sentence."""

    def work(keys: list[str]) -> dict[str, pd.DataFrame]:
        return {"entities": read_entities(keys, load_parser(pipeline.settings.spacy_model))}

    sentences = table.sentences
    stage = pipeline.word_stage("reclip-entities", 1, False)
    stage.compute(sentences["sentence"], work, 1024, "ReCLIP's entities (texts)")
    read = stage.read(sentences["sentence"], "entities").set_index("key")["entity"]
    entities = [from_json(text) for text in read.loc[sentences["sentence"]]]
    texts = {text for entity in entities if entity is not None for text in entity.texts()}
    vectors = pipeline.text_embeddings([*texts, *sentences["sentence"]], encoder)
    views = pipeline.mask_views(split.images, encoder)
    scale, masks = scale_of(pipeline, encoder), pipeline.refined(split.images)
    found = np.zeros(len(table.pairs))
    for _, group, rows, pairs in table.by_image(masks):
        places, known = places_of(masks.iloc[rows]), {}

        def likely(text: str, rows=rows, known=known) -> Floats:
            if text not in known:
                seen = [similarity(view[rows], vectors[text][None])[0] for view in views]
                cosines = np.mean(seen, 0)  # as in V
                known[text] = softmax(scale * cosines.astype(float))
            return known[text]

        for number, sentence, own_pairs in zip(group.index, group["sentence"], pairs, strict=True):
            entity, whole = entities[number], likely(sentence)
            own = 1.0 if entity is None else execute(entity, likely, places.compare)
            found[own_pairs] = whole * own
    return found
