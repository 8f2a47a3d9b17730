"""The table of datasets with no-target sentences, such as gRefCOCO.

The other tables omit these sentences, since their IoU is not defined.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
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
    "always chooses a proposal). T-acc is the share of sentences with a target for which a mask is "
    "returned. All other tables omit sentences without a target."
)


def table(pipeline: Pipeline) -> pd.DataFrame:
    """The results of every method on every column that has sentences without a target.

    Returns:
        dataset, split, encoder, method, gIoU, cIoU, N-acc and T-acc (percent), the number of
        sentences and how many of them have no target; empty if there is no such column.
    """
    found = []
    settings = pipeline.settings
    for dataset, split in columns(settings):
        apart = pipeline.split(dataset, split).no_target
        for encoder in settings.encoders if len(apart) else ():
            for method in tables.methods(pipeline, encoder):
                values = _evaluated(pipeline, method, encoder, dataset, split)
                counts = len(pipeline.split(dataset, split).sentences) + len(apart), len(apart)
                name = "" if method == "Text-only" else tables.short(encoder)
                key = (title(dataset, settings.datasets), split, name, method)
                found.append((*key, *values.values(), *counts))
    names = ["dataset", "split", "encoder", "method", "gIoU", "cIoU", "N-acc", "T-acc"]
    return pd.DataFrame(found, columns=[*names, "sentences", "without a target"])


def _evaluated(
    pipeline: Pipeline, method: str, encoder: str, dataset: str, split: str
) -> dict[str, float]:
    meant = tables.outcome(pipeline, method, encoder, dataset, split)
    area = answers(pipeline, method, encoder, dataset, split)
    nothing = np.zeros(len(area), np.int64)
    return evaluate_generalized(
        np.concatenate([meant["intersection"], nothing]),
        np.concatenate([meant["union"], area]),
        np.repeat([False, True], [len(meant), len(area)]),
        np.concatenate([meant["mask_id"] >= 0, area > 0]),
    )


def answers(
    pipeline: Pipeline, method: str, encoder: str, dataset: str, split: str
) -> npt.NDArray[np.int64]:
    """The area of a method's answer to each sentence without a target, (S,); 0 for no mask."""
    if method == tables.FREESOLO:
        return answers(pipeline.on_other_network, "Global-Local", encoder, dataset, split)
    data = pipeline.split(dataset, split)
    apart = replace(data, sentences=data.no_target)
    if method in scoring.METHODS:
        scored = pipeline.unscored(apart)
        score = scoring.scores(pipeline, method, apart, encoder, scored)
        chosen = scored.choose(score, rectify=False)
    else:
        scored = pipeline.score(apart, encoder)
        chosen = tables.choose(method, scored, pipeline.settings, dataset)
    return scored.overlap(chosen)[1]
