"""The baselines of Table 1 (section 4.3), each as a score per sentence and mask.

All of them choose among the same refined proposals as TAS, without the rectifier. The networks run
once per image, and one vector per mask is stored; its inner product with a sentence's vector is the
score. Only Grad-CAM, whose map depends on the sentence, takes a gradient for every sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.datasets.splits import Split
from tasnb.method.language import PROMPT
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import decode
from tasnb.method.scores import ScoreTable
from tasnb.models.devices import to_numpy
from tasnb.models.encoders import load_encoder
from tasnb.profiles import is_long
from tasnb.settings import InputError, Settings, short
from tasnb.store.shards import Stage

if TYPE_CHECKING:
    from tasnb.baselines.towers import Tower

Floats = npt.NDArray[np.floating]
Pixels = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]

VERSION = 2
"""Of all methods, part of the fingerprint of what they store. Version 1 computed the same in other
steps, so that the last bits differ."""


class Asked(NamedTuple):
    """What a method is to score: the sentences of a dataset, with one encoder."""

    pipeline: Pipeline
    dataset: str
    encoder: str
    sentences: pd.DataFrame

    def texts(self, column: str = "sentence", normalize: bool = True) -> Floats:
        """Text embeddings E_t of a column of the sentences, (S, D)."""
        wanted = self.sentences[column]
        vectors = self.pipeline.text_embeddings(wanted, self.encoder, normalize)
        return np.stack([vectors[text] for text in wanted])


def scores(
    pipeline: Pipeline, method: str, split: Split, encoder: str, table: ScoreTable
) -> Floats:
    """A method's score for every pair of ``table``, in the order of the pairs.

    Args:
        method: One of ``methods_of(encoder, ...)``.
        table: From ``pipeline.scored`` for the same split and encoder.

    Raises:
        InputError: The method does not work on this encoder's image tower.
    """
    sentence = table.pairs["sentence"].to_numpy()
    if not len(sentence):
        return np.zeros(0)
    mask_id = table.pairs["mask_id"].to_numpy()
    if METHODS[method] is None:
        return _grad_cam(pipeline, split, encoder, table.sentences, sentence, mask_id)
    against = METHODS[method][1]
    rows, stored = features(pipeline, method, split, encoder)
    images = table.sentences["image"].to_numpy()[sentence]
    mask = pd.MultiIndex.from_frame(rows).get_indexer(pd.MultiIndex.from_arrays([images, mask_id]))
    texts, masks = against(Asked(pipeline, split.dataset, encoder, table.sentences), stored)
    return np.einsum("pd,pd->p", masks[mask], texts[sentence])


def methods_of(encoder: str, settings: Settings) -> tuple[str, ...]:
    """The methods of ``METHODS`` that support an encoder's image tower, in the paper's order.

    Empty for encoders without a CLIP image tower.
    """
    from tasnb.baselines.towers import is_resnet, tower_of

    try:
        resnet = is_resnet(tower_of(load_encoder(encoder, settings)))
    except InputError:
        return ()
    return tuple(name for name in METHODS if name != "Region Token" or not resnet)


def features(
    pipeline: Pipeline, method: str, split: Split, encoder: str
) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
    """Rows (image, mask_id) of the refined masks, and the method's vector for each, (M, D).

    Args:
        method: Any but Grad-CAM.
    """
    from tasnb.baselines.towers import tower_of

    def work(keys: list[str]) -> dict:
        import torch

        tower = tower_of(load_encoder(encoder, pipeline.settings))
        masks, vectors = _refined(pipeline, split, keys), []
        for image, rows in masks.groupby("image", sort=False):
            with torch.inference_mode():
                pixels = pipeline.pixels(split.images, str(image))
                vectors.append(METHODS[method][0](tower, pixels, decode(rows)))
        stored = np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float32)
        frame = masks[["image", "mask_id"]].rename(columns={"image": "key"})
        return {"rows": frame, "vectors": (stored, list(frame["key"]))}

    stage = _stage(pipeline, method, encoder)
    title = f"{method}, {short(encoder)} (images)"
    stage.compute(split.images, work, pipeline.settings.shard_size, title)
    stored, _ = stage.read(split.images, "vectors")
    return stage.read(split.images, "rows").rename(columns={"key": "image"}), stored


def _stage(pipeline: Pipeline, method: str, encoder: str) -> Stage:
    """The stored results of a method on the refined masks."""
    name = method.lower().replace(" ", "-")
    return pipeline.stage(
        name, pipeline.on_masks(), pipeline.proposal_stage, encoder, version=VERSION
    )


def _refined(pipeline: Pipeline, split: Split, images: Iterable[str]) -> pd.DataFrame:
    """The refined masks of some images, image by image."""
    return pipeline.refined({image: split.images[image] for image in images})


# --- Activation maps: the mean of a map inside a mask ---------------------------------------------


def _score_map(tower: Tower, image: Pixels, masks: Masks) -> npt.NDArray[np.float32]:
    from tasnb.baselines.activation_maps import score_map
    from tasnb.baselines.towers import to_pixels

    # ImageNet's normalisation, as in MaskCLIP's own code.
    return _means(to_numpy(score_map(tower, to_pixels(tower, image, imagenet=True))[0]), masks)


def _clip_surgery(tower: Tower, image: Pixels, masks: Masks) -> npt.NDArray[np.float32]:
    from tasnb.baselines.activation_maps import clip_surgery
    from tasnb.baselines.towers import to_pixels

    return _means(to_numpy(clip_surgery(tower, to_pixels(tower, image))[0]), masks)


def _means(places: npt.NDArray[np.float32], masks: Masks) -> npt.NDArray[np.float32]:
    """Mean inside each mask, (M, D), of a map of vectors (h, w, D) upsampled to the image."""
    from tasnb.baselines.activation_maps import mean_in_masks

    return mean_in_masks(masks, *places.shape[:2]) @ places.reshape(-1, places.shape[-1])


def maps(pipeline: Pipeline, encoder: str, image: Pixels, expression: str) -> dict[str, Floats]:
    """The three activation maps (h, w) of an expression on an image, for display.

    None for encoders without a CLIP image tower.
    """
    import torch

    from tasnb.baselines.activation_maps import clip_surgery, grad_cam, score_map
    from tasnb.baselines.towers import to_pixels, tower_of

    if not methods_of(encoder, pipeline.settings):
        return {}
    loaded = load_encoder(encoder, pipeline.settings)
    tower = tower_of(loaded)
    prompt = PROMPT.format(expression.lower())
    pixels = to_pixels(tower, image)
    vectors = torch.from_numpy(loaded.encode_texts([expression, "", prompt]))
    text, empty, asked = vectors.to(pixels.device)
    with torch.inference_mode():
        surgery = clip_surgery(tower, pixels)[0] @ (text - empty)
        score = score_map(tower, to_pixels(tower, image, imagenet=True))[0] @ text
    cam = grad_cam(tower, pixels, asked[None])[0]
    found = {"CLIP Surgery": surgery, "Score Map": score, "Grad-CAM": cam}
    return {method: to_numpy(values) for method, values in found.items()}


def _with_sentences(asked: Asked, stored: Floats) -> tuple[Floats, Floats]:
    return asked.texts(), stored


def _without_the_empty_text(asked: Asked, stored: Floats) -> tuple[Floats, Floats]:
    """CLIP Surgery subtracts the embedding of the empty text from that of every text."""
    empty = asked.pipeline.text_embeddings([""], asked.encoder)[""]
    return asked.texts() - empty, stored


def _grad_cam(
    pipeline: Pipeline,
    split: Split,
    encoder: str,
    sentences: pd.DataFrame,
    sentence: npt.NDArray[np.int64],
    mask_id: npt.NDArray[np.int64],
) -> Floats:
    """Scores of pairs (row of ``sentences``, mask); maps are upsampled bicubically.

    The sentence is lower-cased and put into "a photo of ...", as in earlier work that scores
    regions with Grad-CAM.
    """
    texts = sentences["sentence"].str.lower().map(PROMPT.format)
    keys = (sentences["image"] + "\n" + texts).to_numpy()
    text_of = dict(zip(keys, texts, strict=True))

    def work(some: list[str]) -> dict:
        import torch

        from tasnb.baselines.activation_maps import grad_cam, mean_in_masks
        from tasnb.baselines.towers import to_pixels, tower_of

        tower = tower_of(load_encoder(encoder, pipeline.settings))
        vectors = pipeline.text_embeddings([text_of[key] for key in some], encoder)
        asked: dict[str, list[str]] = {}
        for key in some:
            asked.setdefault(key.partition("\n")[0], []).append(key)
        own, ids, means = [np.zeros(0, object)], [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for image, masks in _refined(pipeline, split, asked).groupby("image", sort=False):
            about = asked[str(image)]
            pixels = to_pixels(tower, pipeline.pixels(split.images, str(image)))
            texts = torch.from_numpy(np.stack([vectors[text_of[key]] for key in about]))
            maps = to_numpy(grad_cam(tower, pixels, texts))
            inside = mean_in_masks(decode(masks), *maps.shape[1:], "bicubic")
            means.append((maps.reshape(len(maps), -1) @ inside.T).ravel())  # (texts, masks)
            own.append(np.repeat(np.array(about, object), len(masks)))
            ids.append(np.tile(masks["mask_id"], len(about)))
        rows = {"key": own, "mask_id": ids, "score": means}
        return {"scores": pd.DataFrame({name: np.concatenate(v) for name, v in rows.items()})}

    stage = _stage(pipeline, "Grad-CAM", encoder)
    wanted = sorted(text_of)
    if stage.missing(wanted):
        pipeline.text_embeddings(texts, encoder)  # of all shards together, in full batches
    title = f"Grad-CAM, {short(encoder)} (sentences)"
    stage.compute(wanted, work, 16 * pipeline.settings.shard_size, title)
    found = stage.read(wanted, "scores")
    index = pd.MultiIndex.from_frame(found[["key", "mask_id"]])
    place = index.get_indexer(pd.MultiIndex.from_arrays([keys[sentence], mask_id]))
    return found["score"].to_numpy()[place]


# --- Similarity: features of regions against texts ------------------------------------------------


def _region_token(tower: Tower, image: Pixels, masks: Masks) -> npt.NDArray[np.float32]:
    import torch
    import torch.nn.functional as F

    from tasnb.baselines.region_features import region_tokens
    from tasnb.baselines.towers import to_pixels

    tokens = region_tokens(tower, to_pixels(tower, image), torch.from_numpy(masks))
    return to_numpy(F.normalize(tokens, dim=-1))


def _global_local(tower: Tower, image: Pixels, masks: Masks) -> npt.NDArray[np.float32]:
    """Both halves concatenated, (M, 2 D), not normalised: their weights depend on the dataset."""
    import torch

    from tasnb.baselines.region_features import global_features, global_pixels, local_pixels
    from tasnb.baselines.towers import encode

    whole = global_features(tower, global_pixels(tower, image), torch.from_numpy(masks))
    return to_numpy(torch.cat([whole, encode(tower, local_pixels(tower, image, masks))], 1))


def _mixed(asked: Asked, stored: Floats) -> tuple[Floats, Floats]:
    """Global-Local's text features (sentence and subject) and region features (both halves)."""
    import torch

    from tasnb.baselines.region_features import mixed_regions, mixed_texts
    from tasnb.baselines.towers import tower_of

    tower = tower_of(load_encoder(asked.encoder, asked.pipeline.settings))
    columns = asked.sentences[["sentence", "subject"]]
    lower = asked._replace(sentences=columns.apply(lambda texts: texts.str.lower()))
    halves = [torch.from_numpy(lower.texts(c, normalize=False)) for c in ("sentence", "subject")]
    whole, crops = (torch.from_numpy(half) for half in np.split(stored, 2, axis=1))
    share = GLOBAL_SHARE_G if is_long(asked.dataset) else GLOBAL_SHARE
    return mixed_texts(tower, *halves).numpy(), mixed_regions(tower, whole, crops, share).numpy()


GLOBAL_SHARE, GLOBAL_SHARE_G = 0.95, 0.85  # weight of the global half; the second for RefCOCOg

METHODS: dict[str, tuple[Callable, Callable] | None] = {
    "CLIP Surgery": (_clip_surgery, _without_the_empty_text),
    "Score Map": (_score_map, _with_sentences),
    "Grad-CAM": None,  # whose map depends on the sentence
    "Region Token": (_region_token, _with_sentences),
    "Global-Local": (_global_local, _mixed),
}
"""Method -> a function for the vectors it stores per mask, and one that prepares texts and vectors
for the inner product."""
