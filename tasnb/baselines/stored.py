"""What the baselines store about the refined masks, and how it is matched with sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.datasets.splits import Split
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import decoded
from tasnb.method.scores import ScoreTable
from tasnb.models.encoders import load_encoder
from tasnb.settings import short
from tasnb.store.shards import Stage

if TYPE_CHECKING:
    from tasnb.models.clip.towers import Tower

Floats = npt.NDArray[np.floating]
Pixels = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Vectors = Callable[["Tower", Pixels, Masks], npt.NDArray[np.float32]]
"""From an image (H, W, 3) and its masks (M, H, W), one vector per mask, (M, D)."""

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


def stage_of(pipeline: Pipeline, method: str, encoder: str) -> Stage:
    """The stored results of a method on the refined masks."""
    name = method.lower().replace(" ", "-")
    return pipeline.stage(
        name, pipeline.on_masks(), pipeline.proposal_stage, encoder, version=VERSION
    )


def refined(pipeline: Pipeline, split: Split, images: Iterable[str]) -> pd.DataFrame:
    """The refined masks of some images, image by image."""
    return pipeline.refined({image: split.images[image] for image in images})


def mask_vectors(
    pipeline: Pipeline, method: str, split: Split, encoder: str, vectors_of: Vectors
) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
    """Rows (image, mask_id) of the refined masks, and the method's vector for each, (M, D)."""
    from tasnb.models.clip.towers import tower_of

    def work(keys: list[str]) -> dict:
        import torch

        tower = tower_of(load_encoder(encoder, pipeline.settings))
        masks, vectors = refined(pipeline, split, keys), []
        for image, rows in masks.groupby("image", sort=False):
            with torch.inference_mode():
                pixels = pipeline.pixels(split.images, str(image))
                vectors += [vectors_of(tower, pixels, some) for some in decoded(rows)]
        stored = np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float32)
        frame = masks[["image", "mask_id"]].rename(columns={"image": "key"})
        return {"rows": frame, "vectors": (stored, list(frame["key"]))}

    stage = stage_of(pipeline, method, encoder)
    title = f"{method}, {short(encoder)} (images)"
    stage.compute(split.images, work, pipeline.settings.shard_size, title)
    stored, _ = stage.read(split.images, "vectors")
    return stage.read(split.images, "rows").rename(columns={"key": "image"}), stored


def of_pairs(rows: pd.DataFrame, table: ScoreTable) -> npt.NDArray[np.int64]:
    """The row of each pair's mask in a frame with the columns image and mask_id."""
    images = table.sentences["image"].to_numpy()[table.pairs["sentence"]]
    wanted = pd.MultiIndex.from_arrays([images, table.pairs["mask_id"]])
    return pd.MultiIndex.from_frame(rows[["image", "mask_id"]]).get_indexer(wanted)


def products(table: ScoreTable, rows: pd.DataFrame, masks: Floats, texts: Floats) -> Floats:
    """The inner product of every pair's mask and sentence.

    Args:
        rows: The rows (image, mask_id) of `masks`.
        masks: (M, D).
        texts: (S, D).
    """
    sentence = table.pairs["sentence"].to_numpy()
    return np.einsum("pd,pd->p", masks[of_pairs(rows, table)], texts[sentence])
