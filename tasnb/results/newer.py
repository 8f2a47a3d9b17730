"""Methods that are newer than the paper, next to TAS by every recipe, on the columns of Table 1.

Most of them report whether the *box* of their choice is right, on boxes of a detector, so this
share is measured here as well. Their published results are in ``newer.csv``, with the sources.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.baselines import scoring
from tasnb.datasets.splits import Split, columns
from tasnb.method.pipeline import Pipeline
from tasnb.profiles import counterpart, is_phrases
from tasnb.results.tables import BOX, BY_RECIPE, COLUMNS, outcome, rows
from tasnb.settings import short

NAME = "newer"


def newer(pipeline: Pipeline) -> pd.DataFrame:
    """The table ``newer``: all methods of ``methods`` on every column of Table 1, and cited ones.

    All choose among the same refined proposals as TAS. The paper's results in Table 1 are given
    for the methods that it has.
    """
    wanted = {encoder: methods(pipeline, encoder) for encoder in pipeline.settings.encoders}
    found = []
    for dataset, split in columns(pipeline.settings):
        if is_phrases(dataset):
            continue
        data = pipeline.split(dataset, split)
        for encoder, names in wanted.items():
            for method in names:
                result = outcome(pipeline, method, encoder, dataset, split)
                right = box_precision(pipeline, data, result)
                box = (
                    NAME,
                    method,
                    short(encoder),
                    dataset,
                    split,
                    BOX,
                    right,
                    np.nan,
                    len(result),
                )
                found.append(rows("table1", method, encoder, dataset, split, result))
                found.append(pd.DataFrame([box], columns=COLUMNS))
    if not found:
        return pd.DataFrame(columns=COLUMNS)
    found = pd.concat(found, ignore_index=True).assign(table=NAME)
    return pd.concat([found, _cited(found)], ignore_index=True)


def methods(pipeline: Pipeline, encoder: str) -> list[str]:
    """The rows of an encoder; those that are in neither Table 1 nor ``table1_extra`` come first."""
    settings = pipeline.settings
    found = list(scoring.newer_of(encoder, settings))
    if "GEM" in found:  # with a ViT
        found.append("CLIP Surgery")
    others = [row for recipe, row in BY_RECIPE.items() if recipe != settings.recipe]
    return [*found, "CLIP-only", "TAS", *others]


def box_precision(pipeline: Pipeline, split: Split, outcome: pd.DataFrame) -> float:
    """Percentage of sentences for which the boxes of choice and target have an IoU of 0.5 or more.

    Args:
        outcome: From ``tables.outcome``.
    """
    masks = pipeline.proposals(split.images).set_index(["image", "mask_id"])[[*"xywh"]]
    wanted = pd.MultiIndex.from_frame(outcome[["image", "mask_id"]])
    chosen = masks.reindex(wanted).fillna(0).to_numpy(float)
    truth = split.sentences
    target = coco_mask.toBbox(
        [
            {"size": [int(height), int(width)], "counts": counts}
            for height, width, counts in zip(
                truth["height"], truth["width"], truth["ground_truth"], strict=True
            )
        ]
    )
    near = np.maximum(chosen[:, :2], target[:, :2])
    far = np.minimum(chosen[:, :2] + chosen[:, 2:], target[:, :2] + target[:, 2:])
    shared = np.maximum(far - near, 0).prod(1)
    whole = chosen[:, 2:].prod(1) + target[:, 2:].prod(1) - shared
    return 100 * float((shared >= 0.5 * whole).mean())


@lru_cache(maxsize=1)
def published() -> pd.DataFrame:
    """What was published about methods of this table, on the validation splits."""
    return pd.read_csv(Path(__file__).with_name("newer.csv"), keep_default_na=False)


def _cited(beside: pd.DataFrame) -> pd.DataFrame:
    """The published results on the columns of a table, without a value of ours."""
    there = beside[["table", "dataset", "split"]].drop_duplicates()
    named = there.assign(theirs=there["dataset"].map(counterpart))
    known = published().rename(columns={"dataset": "theirs"})
    found = named.merge(known, on=["theirs", "split"])
    found = found.assign(method=found["method"] + " (cited)", value=np.nan, n=0)
    return found[COLUMNS]
