"""The baselines of Table 1 (section 4.3) and newer methods, each as a score per sentence and mask.

All of them choose among the same refined proposals as TAS, without the rectifier. The networks run
once per image, and one vector per mask is stored; its inner product with a sentence's vector is the
score. Only Grad-CAM, whose map depends on the sentence, takes a gradient for every sentence. The
newer methods are in ``NEWER``, and the table of the same name compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.baselines.cam_scores import grad_cam_scores
from tasnb.baselines.hybridgl import GEM_PROMPT, hybridgl_scores
from tasnb.baselines.relations import relation_scores
from tasnb.baselines.stored import Asked, Floats, Masks, Pixels, mask_vectors, products
from tasnb.baselines.views import view_scores
from tasnb.datasets.splits import Split
from tasnb.method.language import PROMPT
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.models.devices import to_numpy
from tasnb.models.encoders import load_encoder
from tasnb.profiles import is_long
from tasnb.settings import InputError, Settings

if TYPE_CHECKING:
    from tasnb.models.clip.towers import Tower


def scores(
    pipeline: Pipeline, method: str, split: Split, encoder: str, table: ScoreTable
) -> Floats:
    """A method's score for every pair of ``table``, in the order of the pairs.

    Args:
        method: One of ``methods_of(encoder, ...)`` or ``newer_of(encoder, ...)``.
        table: From ``pipeline.scored`` for the same split and encoder.

    Raises:
        InputError: The method does not work on this encoder's image tower.
    """
    if not len(table.pairs):
        return np.zeros(0)
    if method in NEWER:
        return NEWER[method](pipeline, split, encoder, table)
    if METHODS[method] is None:
        return grad_cam_scores(pipeline, split, encoder, table)
    against = METHODS[method][1]
    rows, stored = features(pipeline, method, split, encoder)
    texts, masks = against(Asked(pipeline, split.dataset, encoder, table.sentences), stored)
    return products(table, rows, masks, texts)


def methods_of(encoder: str, settings: Settings) -> tuple[str, ...]:
    """The methods of ``METHODS`` that support an encoder's image tower, in the paper's order.

    Empty for encoders without a CLIP image tower.
    """
    return _supported(METHODS, encoder, settings)


def newer_of(encoder: str, settings: Settings) -> tuple[str, ...]:
    """The methods of ``NEWER`` that support an encoder's image tower."""
    return _supported(NEWER, encoder, settings)


def _supported(names: Iterable[str], encoder: str, settings: Settings) -> tuple[str, ...]:
    from tasnb.models.clip.towers import is_resnet, tower_of

    try:
        resnet = is_resnet(tower_of(load_encoder(encoder, settings)))
    except InputError:
        return ()
    return tuple(name for name in names if name not in ONLY_VIT or not resnet)


def features(
    pipeline: Pipeline, method: str, split: Split, encoder: str
) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
    """Rows (image, mask_id) of the refined masks, and the method's vector for each, (M, D).

    Args:
        method: One of ``METHODS`` but Grad-CAM.
    """
    return mask_vectors(pipeline, method, split, encoder, METHODS[method][0])


# --- Activation maps: the mean of a map inside a mask ---------------------------------------------


def _score_map(tower: Tower, image: Pixels, masks: Masks) -> npt.NDArray[np.float32]:
    from tasnb.models.clip.activation_maps import score_map
    from tasnb.models.clip.towers import to_pixels

    # ImageNet's normalisation, as in MaskCLIP's own code.
    return _means(to_numpy(score_map(tower, to_pixels(tower, image, imagenet=True))[0]), masks)


def _clip_surgery(tower: Tower, image: Pixels, masks: Masks) -> npt.NDArray[np.float32]:
    from tasnb.models.clip.activation_maps import clip_surgery
    from tasnb.models.clip.towers import to_pixels

    return _means(to_numpy(clip_surgery(tower, to_pixels(tower, image))[0]), masks)


def _gem_scores(pipeline: Pipeline, split: Split, encoder: str, table: ScoreTable) -> Floats:
    """The mean of the map of "a photo of a ..." in each mask."""
    rows, masks = mask_vectors(pipeline, "GEM", split, encoder, _gem)
    prompts = table.sentences[["sentence"]].map(GEM_PROMPT.format)
    return products(table, rows, masks, Asked(pipeline, split.dataset, encoder, prompts).texts())


def _gem(tower: Tower, image: Pixels, masks: Masks) -> npt.NDArray[np.float32]:
    from tasnb.models.clip.activation_maps import gem
    from tasnb.models.clip.towers import to_pixels

    return _means(to_numpy(gem(tower, to_pixels(tower, image))[0]), masks)


def _means(places: npt.NDArray[np.float32], masks: Masks) -> npt.NDArray[np.float32]:
    """Mean inside each mask, (M, D), of a map of vectors (h, w, D) upsampled to the image."""
    from tasnb.models.clip.activation_maps import mean_in_masks

    return mean_in_masks(masks, *places.shape[:2]) @ places.reshape(-1, places.shape[-1])


def maps(pipeline: Pipeline, encoder: str, image: Pixels, expression: str) -> dict[str, Floats]:
    """The three activation maps (h, w) of an expression on an image, for display.

    None for encoders without a CLIP image tower.
    """
    import torch

    from tasnb.models.clip.activation_maps import clip_surgery, grad_cam, score_map
    from tasnb.models.clip.towers import to_pixels, tower_of

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


# --- Similarity: features of regions against texts ------------------------------------------------


def _region_token(tower: Tower, image: Pixels, masks: Masks) -> npt.NDArray[np.float32]:
    import torch
    import torch.nn.functional as F

    from tasnb.baselines.region_features import region_tokens
    from tasnb.models.clip.towers import to_pixels

    tokens = region_tokens(tower, to_pixels(tower, image), torch.from_numpy(masks))
    return to_numpy(F.normalize(tokens, dim=-1))


def _global_local(tower: Tower, image: Pixels, masks: Masks) -> npt.NDArray[np.float32]:
    """Both halves concatenated, (M, 2 D), not normalised: their weights depend on the dataset."""
    import torch

    from tasnb.baselines.region_features import global_features, global_pixels, local_pixels
    from tasnb.models.clip.towers import encode

    whole = global_features(tower, global_pixels(tower, image), torch.from_numpy(masks))
    return to_numpy(torch.cat([whole, encode(tower, local_pixels(tower, image, masks))], 1))


def _mixed(asked: Asked, stored: Floats) -> tuple[Floats, Floats]:
    """Global-Local's text features (sentence and subject) and region features (both halves)."""
    import torch

    from tasnb.baselines.region_features import mixed_regions, mixed_texts
    from tasnb.models.clip.towers import tower_of

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

NEWER: dict[str, Callable[[Pipeline, Split, str, ScoreTable], Floats]] = {
    "GEM": _gem_scores,
    "Red circle": partial(view_scores, views=("circle",)),
    "Blur": partial(view_scores, views=("blur",)),
    "Crop + blur": partial(view_scores, views=("box", "blur")),
    "ReCLIP relations": relation_scores,
    "HybridGL": hybridgl_scores,
}
"""Methods that are not in the paper -> a function for their scores, as in ``scores``."""

ONLY_VIT = ("Region Token", "GEM", "HybridGL")
"""Methods that need the blocks of a ViT."""
