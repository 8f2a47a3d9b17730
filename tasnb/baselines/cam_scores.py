"""Grad-CAM's scores (section 4.3): the one baseline of Table 1 whose map depends on the sentence.

It takes a gradient for every sentence, so one number per sentence and mask is stored.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasnb.baselines.stored import Floats, refined, stage_of
from tasnb.datasets.splits import Split
from tasnb.method.language import PROMPT
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import decoded
from tasnb.method.scores import ScoreTable
from tasnb.models.devices import to_numpy
from tasnb.models.encoders import load_encoder
from tasnb.settings import short


def grad_cam_scores(pipeline: Pipeline, split: Split, encoder: str, table: ScoreTable) -> Floats:
    """The mean of each sentence's map inside each mask; maps are upsampled bicubically.

    The sentence is lower-cased and put into "a photo of ...", as in earlier work that scores
    regions with Grad-CAM.
    """
    sentences = table.sentences
    sentence, mask_id = (table.pairs[name].to_numpy() for name in ("sentence", "mask_id"))
    texts = sentences["sentence"].str.lower().map(PROMPT.format)
    keys = (sentences["image"] + "\n" + texts).to_numpy()
    text_of = dict(zip(keys, texts, strict=True))

    def work(some: list[str]) -> dict:
        import torch

        from tasnb.models.clip.activation_maps import grad_cam, mean_in_masks
        from tasnb.models.clip.towers import to_pixels, tower_of

        tower = tower_of(load_encoder(encoder, pipeline.settings))
        vectors = pipeline.text_embeddings([text_of[key] for key in some], encoder)
        asked: dict[str, list[str]] = {}
        for key in some:
            asked.setdefault(key.partition("\n")[0], []).append(key)
        own, ids, means = [np.zeros(0, object)], [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for image, masks in refined(pipeline, split, asked).groupby("image", sort=False):
            about = asked[str(image)]
            pixels = to_pixels(tower, pipeline.pixels(split.images, str(image)))
            texts = torch.from_numpy(np.stack([vectors[text_of[key]] for key in about]))
            maps = to_numpy(grad_cam(tower, pixels, texts))
            parts = [mean_in_masks(p, *maps.shape[1:], "bicubic") for p in decoded(masks)]
            inside = np.concatenate(parts)
            means.append((maps.reshape(len(maps), -1) @ inside.T).ravel())  # (texts, masks)
            own.append(np.repeat(np.array(about, object), len(masks)))
            ids.append(np.tile(masks["mask_id"], len(about)))
        rows = {"key": own, "mask_id": ids, "score": means}
        return {"scores": pd.DataFrame({name: np.concatenate(v) for name, v in rows.items()})}

    stage = stage_of(pipeline, "Grad-CAM", encoder)
    wanted = sorted(text_of)
    if stage.missing(wanted):
        pipeline.text_embeddings(texts, encoder)  # of all shards together, in full batches
    title = f"Grad-CAM, {short(encoder)} (sentences)"
    stage.compute(wanted, work, 16 * pipeline.settings.shard_size, title)
    found = stage.read(wanted, "scores")
    index = pd.MultiIndex.from_frame(found[["key", "mask_id"]])
    place = index.get_indexer(pd.MultiIndex.from_arrays([keys[sentence], mask_id]))
    return found["score"].to_numpy()[place]
