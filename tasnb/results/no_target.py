"""The table of datasets whose sentences may have several targets or none, such as gRefCOCO.

The other tables omit sentences without a target, since their IoU is not defined.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from tasnb.baselines import scoring
from tasnb.datasets.splits import columns
from tasnb.method.metrics import evaluate_generalized
from tasnb.method.pipeline import Pipeline
from tasnb.profiles import title
from tasnb.results import tables

NOTE = (
    "The metrics of gRefCOCO over all sentences, including those without a target. gIoU is the "
    "mean IoU, where a sentence without a target counts as 1 if no mask is returned for it, and as "
    "0 otherwise. cIoU is the sum of the intersections divided by the sum of the unions. N-acc is "
    "the share of sentences without a target for which no mask is returned (0 for a method that "
    "always chooses a proposal, blank if there are no such sentences). T-acc is the share of "
    f"sentences with a target for which a mask is returned. {tables.ANY}: all masks that are "
    "nearly as likely as the best one, or none if there is too little evidence (setting answers). "
    "All other tables omit sentences without a target."
)


def table(pipeline: Pipeline) -> pd.DataFrame:
    """The results of every method on every column with sentences that have several targets or none.

    Returns:
        dataset, split, encoder, method, gIoU, cIoU, N-acc and T-acc (percent), the number of
        sentences, and how many of them have several targets, and none; empty if there is no such
        column.
    """
    found = []
    settings = pipeline.settings
    for dataset, split in columns(settings):
        data = pipeline.split(dataset, split)
        several, none = int((data.sentences["objects"] > 1).sum()), len(data.no_target)
        for encoder in settings.encoders if several or none else ():
            for method in methods(pipeline, encoder):
                values = _evaluated(pipeline, method, encoder, dataset, split)
                counts = len(data.sentences) + none, several, none
                name = "" if method == "Text-only" else tables.short(encoder)
                key = (title(dataset, settings.datasets), split, name, method)
                found.append((*key, *values.values(), *counts))
    names = ["dataset", "split", "encoder", "method", "gIoU", "cIoU", "N-acc", "T-acc"]
    return pd.DataFrame(found, columns=[*names, "sentences", "several targets", "no target"])


def methods(pipeline: Pipeline, encoder: str) -> list[str]:
    """The rows of an encoder: all of Table 1, and TAS with answers of any number of masks."""
    settings, rows = pipeline.settings, tables.methods(pipeline, encoder)
    if settings.recipe != "extended":
        rows.append(tables.BY_RECIPE["extended"])
    is_any = settings.recipe == "extended" and settings.answers == "any"
    return list(dict.fromkeys(rows if is_any else [*rows, tables.ANY]))


def _evaluated(
    pipeline: Pipeline, method: str, encoder: str, dataset: str, split: str
) -> dict[str, float]:
    meant = tables.outcome(pipeline, method, encoder, dataset, split)
    apart = answers(pipeline, method, encoder, dataset, split)
    both = pd.concat([meant, apart], ignore_index=True)
    return evaluate_generalized(
        both["intersection"],
        both["union"],
        np.repeat([False, True], [len(meant), len(apart)]),
        both["mask_id"] >= 0,
    )


def answers(
    pipeline: Pipeline, method: str, encoder: str, dataset: str, split: str
) -> pd.DataFrame:
    """A method's answers to the sentences without a target, as from ``tables.outcome``.

    Their union is the area of the answer: 0 if it is empty.
    """
    pipeline, method = tables.run_of(pipeline, method)
    data = pipeline.split(dataset, split)
    apart = replace(data, sentences=data.no_target)
    by_s = method not in scoring.METHODS
    scored = pipeline.score(apart, encoder) if by_s else pipeline.unscored(apart)
    return tables.answered(pipeline, method, encoder, apart, scored)
