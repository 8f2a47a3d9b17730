"""HybridGL (Liu, Li 2025, "Hybrid Global-Local Representation with Augmented Spatial Guidance for
Zero-Shot Referring Image Segmentation"): features of both views, and spatial guidance.

A mask's feature comes from two runs of the ViT, one of which sees the picture blurred outside the
mask and the other only the mask (``region_features.fused_features``). Three masks with the largest
probability s for the expression are candidates. Among them, the best 0.4 r + 0.6 C is chosen:

* Relation: r_i is the sum of s_i n_j R_ij over the six masks with the largest probability n for the
  other nouns of the expression (or s_i s_j R_ij over the candidates if there are none), where R_ij
  compares centres or sizes; without a word for a relation, the sum of s_i.
* Position and coherence: A is GEM's map of the noun phrase, scaled to [0, 1], multiplied by a ramp
  for "left", "right" and so on, and divided by its mean. C is (2 - b) times its mean in the mask
  minus b times its mean outside, where b is 1.8 (1.95 for larger things, 1.5 for smaller ones).

Defects of the authors' code that are mended here:

* "right" never counts as a relation there, since a word is compared with a set of words.
* The numbers of candidates, 3 and 6, shrink on an image with fewer masks and are never reset, so
  that results depend on the order of the images. Here every image has its own.
* A softmax is applied to r but not to C, which therefore decides alone. Here it is applied to both.
* "top" and "bottom" are recognised, but their ramps are commented out. Here they act.
* A mask that covers the whole picture has no outside, and its C is NaN. Here that mean is 0.

Scaling to [0, 1], ramp and mean are applied to A on its own grid, before it is enlarged to the
picture. Boxes become masks, as in ``relations``, and the noun phrase is the subject that
`tasnb.method.language.subjects` finds, as in Global-Local here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.baselines import relations
from tasnb.baselines.relations import places_of, scale_of, softmax
from tasnb.baselines.stored import Asked, Floats, Masks, Pixels, refined, stage_of
from tasnb.datasets.splits import Split
from tasnb.method.language import PROMPT
from tasnb.method.language.subjects import subject
from tasnb.method.language.words import parses, word_set
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import decoded
from tasnb.method.released import NULLS
from tasnb.method.scores import ScoreTable
from tasnb.models.devices import to_numpy
from tasnb.models.encoders import load_encoder
from tasnb.models.parsers import load_parser
from tasnb.settings import short

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

    from tasnb.models.clip.towers import Tower

CANDIDATES, OTHERS = 3, 6
RELATION_SHARE, COHERENCE_SHARE = 0.4, 0.6
OUTSIDE = {"bigger": 1.95, "smaller": 1.5}
OUTSIDE_ELSE = 1.8
"""b, by relation."""

GEM_PROMPT = "a photo of a {}."

RELATIONS = relations.RELATIONS | {"smaller": relations.RELATIONS["smaller"] | {"smallest"}}
POSITIONS = {
    "left": word_set("left"),
    "right": word_set("right"),
    "middle": word_set("middle between"),
    "top": word_set("up top above"),
    "bottom": word_set("down under bottom low"),
}
NOT_NOUNS = frozenset().union(*RELATIONS.values()) | word_set("who what which middle")


# --- What an expression says ----------------------------------------------------------------------


def read_guidance(texts: Sequence[str], parser: Language) -> pd.DataFrame:
    """One row per text: key, others, relation and position.

    `others` are the noun chunks apart from its subject, one per line; relation and position are
    keys of ``RELATIONS`` and ``POSITIONS``, or "".
    """
    found = []
    for text, (doc, start) in zip(texts, parses(texts, parser), strict=True):
        own, _ = subject(doc, start)
        named = (doc[max(chunk.start, start) : chunk.end] for chunk in doc.noun_chunks)
        others = [
            chunk
            for chunk in named
            if chunk.root.text not in NOT_NOUNS and chunk.text not in own and own not in chunk.text
        ]
        in_frame = any(chunk.root.text in NULLS | {"photo"} for chunk in others)
        relation = "" if in_frame else _highest(doc, start, RELATIONS)
        names = "\n".join(chunk.text for chunk in others)
        found.append((text, names, relation, _highest(doc, start, POSITIONS)))
    return pd.DataFrame(found, columns=["key", "others", "relation", "position"])


def _highest(doc: Doc, start: int, listed: dict[str, frozenset[str]]) -> str:
    """The name of the listed word whose head comes first in the expression; "" for none."""
    words = {word: name for name, some in listed.items() for word in some}
    there = [token for token in doc[start:] if token.text in words]
    return words[min(there, key=lambda token: token.head.i).text] if there else ""


# --- Scores ---------------------------------------------------------------------------------------


def guided(
    own: Floats,
    others: Floats | None,
    heat: Floats,
    inside: Floats,
    outside: Floats,
    compare: npt.NDArray[np.floating] | None,
    relation: str,
) -> Floats:
    """The score of every mask of an image, (M,): -inf for all but the candidates.

    Args:
        own: Probabilities s of the masks, (M,).
        others: Probabilities n; None if the expression names nothing else.
        heat: The map A, flat, (g^2,).
        inside, outside: Weights of its places in the means inside and outside each mask, (M, g^2).
        compare: R, (M, M); None for no relation.
        relation: Its name, on which the weight b depends.
    """
    top = np.argsort(-own, kind="stable")[:CANDIDATES]
    if others is None:
        near, likely = top, own
    else:
        near, likely = np.argsort(-others, kind="stable")[:OTHERS], others
    if compare is None:
        related = own[top] * len(near)
    else:
        related = own[top] * (compare[np.ix_(top, near)] @ likely[near])
    b = OUTSIDE.get(relation, OUTSIDE_ELSE)
    coherent = (2 - b) * (inside[top] @ heat) - b * (outside[top] @ heat)
    found = np.full(len(own), -np.inf)
    found[top] = RELATION_SHARE * softmax(related) + COHERENCE_SHARE * softmax(coherent)
    return found


def ramp(position: str, grid: int) -> Floats:
    """The ramp of a position on a map, flat, (grid^2,).

    It falls from 1 at the edge that is named (or the middle) to 0; a place has its value at the
    centre of the place.
    """
    rising = (np.arange(grid) + 0.5) / grid
    along = {
        "left": 1 - rising,
        "top": 1 - rising,
        "right": rising,
        "bottom": rising,
        "middle": 1 - np.abs(2 * rising - 1),
    }.get(position, np.ones(grid))
    across = np.broadcast_to(along, (grid, grid))
    return (across.T if position in ("top", "bottom") else across).ravel()


def heat_map(cosines: Floats, position: str) -> Floats:
    """A, flat, (g^2,), from the cosine similarities of the places of GEM's map, (g^2,)."""
    low, high = cosines.min(), cosines.max()
    scaled = (cosines - low) / (high - low) if high > low else np.ones_like(cosines)
    heat = scaled * ramp(position, round(len(cosines) ** 0.5))
    return heat / heat.mean() if heat.any() else heat


def hybridgl_scores(pipeline: Pipeline, split: Split, encoder: str, table: ScoreTable) -> Floats:
    """The score of every pair; -inf for masks that are not among a sentence's candidates."""
    sentences = table.sentences
    read = _guidance(pipeline, sentences["sentence"])
    lower = sentences[["sentence", "subject"]].apply(lambda texts: texts.str.lower())
    asked = Asked(pipeline, split.dataset, encoder, lower)
    own = _unit((asked.texts(normalize=False) + asked.texts("subject", normalize=False)) / 2)
    others = _others(pipeline, encoder, read["others"])
    prompts = lower.assign(sentence=lower["subject"].map(GEM_PROMPT.format))
    nouns = asked._replace(sentences=prompts).texts()

    rows, vectors, maps = _features(pipeline, split, encoder)
    places = maps.shape[1]
    features, inside, outside = np.split(vectors, [-2 * places, -places], axis=1)
    features, scale = _unit(features), scale_of(pipeline, encoder)
    masks = pipeline.refined(split.images)
    map_of = dict(zip(split.images, maps, strict=True))
    found = np.zeros(len(table.pairs))
    for image, group, mine, pairs in table.by_image(rows):
        where = places_of(masks.iloc[mine])
        for number, own_pairs in zip(group.index, pairs, strict=True):
            relation, position = read["relation"].iloc[number], read["position"].iloc[number]
            other = others[number]
            found[own_pairs] = guided(
                softmax(scale * features[mine] @ own[number]),
                None if other is None else softmax(scale * features[mine] @ other),
                heat_map(map_of[image] @ nouns[number], position),
                inside[mine],
                outside[mine],
                where.compare(relation) if relation else None,
                relation,
            )
    return found


def _unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _guidance(pipeline: Pipeline, texts: pd.Series) -> pd.DataFrame:
    """``read_guidance`` of each text, in order."""

    def work(keys: list[str]) -> dict[str, pd.DataFrame]:
        return {"read": read_guidance(keys, load_parser(pipeline.settings.spacy_model))}

    stage = pipeline.word_stage("hybridgl-words", 1, False)
    stage.compute(texts, work, 1024, "HybridGL's guidance (texts)")
    return stage.read(texts, "read").set_index("key").loc[texts]


def _others(pipeline: Pipeline, encoder: str, others: pd.Series) -> list[Floats | None]:
    """The mean embedding of the other noun phrases of each sentence, (D,); None if none."""
    phrases = [[PROMPT.format(phrase) for phrase in text.split("\n") if phrase] for text in others]
    vectors = pipeline.text_embeddings([p for some in phrases for p in some], encoder, False)
    return [
        _unit(np.mean([vectors[phrase] for phrase in some], axis=0)) if some else None
        for some in phrases
    ]


def _features(
    pipeline: Pipeline, split: Split, encoder: str
) -> tuple[pd.DataFrame, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What is stored per image.

    Returns:
        Rows (image, mask_id); for each, its feature and the weights inside and outside the mask,
        (M, D + 2 g^2); and GEM's map of each image, (images, g^2, D).
    """
    from tasnb.models.clip.towers import tower_of

    def work(keys: list[str]) -> dict:
        import torch

        tower = tower_of(load_encoder(encoder, pipeline.settings))
        masks, vectors, maps = refined(pipeline, split, keys), [], []
        rows_of = masks.groupby("image").indices
        for key in keys:
            image, rows = pipeline.pixels(split.images, key), masks.iloc[rows_of.get(key, [])]
            with torch.inference_mode():
                maps.append(_map(tower, image))
                if len(rows):
                    grid = round(len(maps[-1]) ** 0.5)
                    vectors += [_of_masks(tower, image, p, grid) for p in decoded(rows)]
        stored = np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float32)
        frame = masks[["image", "mask_id"]].rename(columns={"image": "key"})
        return {"rows": frame, "vectors": (stored, list(frame["key"])), "maps": np.stack(maps)}

    stage = stage_of(pipeline, "HybridGL", encoder)
    title = f"HybridGL, {short(encoder)} (images)"
    stage.compute(split.images, work, pipeline.settings.shard_size, title)
    vectors, _ = stage.read(split.images, "vectors")
    maps, _ = stage.read(split.images, "maps")
    return stage.read(split.images, "rows").rename(columns={"key": "image"}), vectors, maps


def _map(tower: Tower, image: Pixels) -> npt.NDArray[np.float32]:
    """GEM's map of an image, flat, (g^2, D)."""
    from tasnb.models.clip.activation_maps import gem
    from tasnb.models.clip.towers import to_pixels

    return to_numpy(gem(tower, to_pixels(tower, image))[0].flatten(0, 1))


def _of_masks(tower: Tower, image: Pixels, masks: Masks, grid: int) -> npt.NDArray[np.float32]:
    """The feature of each mask, and the weights of a map of grid x grid inside and outside it."""
    import torch

    from tasnb.baselines.region_features import fused_features, fused_pixels
    from tasnb.models.clip.activation_maps import mean_in_masks

    blurred, alone = fused_pixels(tower, image, masks)
    features = to_numpy(fused_features(tower, blurred, alone, torch.from_numpy(masks)))
    inside = mean_in_masks(masks, grid, grid)
    outside = np.zeros_like(inside)
    partial = ~masks.all((1, 2))
    outside[partial] = mean_in_masks(~masks[partial], grid, grid)
    return np.concatenate([features, inside, outside], axis=1)
