"""Why P and N help or do not: what the captions name, and what the negatives name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.datasets.splits import columns
from tasnb.method.metrics import difference
from tasnb.method.pipeline import Pipeline
from tasnb.profiles import title
from tasnb.results import tables
from tasnb.results.analysis import GOOD

LAMBDAS = (0.3, 0.7, 1.0)
"""Weights of N to compare: a small one, and the paper's two (section 4.2)."""

EVERY = "all sentences"
NEGATIVES = ("the target", "another annotated object", "no annotated object")
"""What the negatives of a sentence name: the first of these that applies to any of them."""


def why(pipeline: Pipeline, encoder: str, dataset: str, split: str) -> pd.DataFrame:
    """The gains of P and N on a column where the captions are correct, and where they are not.

    P is split by whether the caption of the target's best proposal names the target, and N by
    whether the target is among its own negatives. Targets not covered by any proposal are omitted.
    """
    scored = pipeline.scored(dataset, split, encoder)
    v, vp, vpn = (
        tables.outcome(pipeline, name, encoder, dataset, split) for name in tables.MODULES[:3]
    )
    best = scored.best_possible()
    covered = scored.outcome(best)["iou"].to_numpy() >= GOOD
    caption = scored.pairs["caption"].reindex(best).fillna("")
    named = np.array(pipeline.mention(caption, scored.sentences["names"]), bool)
    own = scored.sentences["own_negative"].to_numpy(bool)
    cases = [
        ("P", "the target's caption names it", named, vp, v),
        ("P", "the target's caption does not name it", ~named, vp, v),
        ("N", "the target is among the negatives", own, vpn, vp),
        ("N", "the target is not among the negatives", ~own, vpn, vp),
    ]
    found = []
    for module, case, those, after, before in cases:
        rows = those & covered
        gain = _gain(after, before, rows)
        found.append((module, case, int(rows.sum()), *gain))
    return pd.DataFrame(
        found, columns=["module", "where", "sentences", "mIoU gain", "CI low", "CI high"]
    )


def negatives(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """The gain of N by what the negatives name, with several weights, for each dataset.

    Returns:
        dataset, lambda (that of the dataset), negatives name (``EVERY`` or one of ``NEGATIVES``),
        sentences, a column "gain at lambda ..." for each of ``LAMBDAS`` and of the run's own
        (points of mIoU, V + P + N minus V + P), and the 95 % interval (``CI low``, ``CI high``) of
        the gain at the dataset's own lambda. Sentences without negatives, which N leaves alone,
        count in ``EVERY`` only.
    """
    settings, found = pipeline.settings, []
    datasets = dict.fromkeys(dataset for dataset, _ in columns(settings))
    weights = {gain_at(lam): lam for lam in sorted({*LAMBDAS, *map(settings.lambda_of, datasets)})}
    for dataset in datasets:
        there = [column for column in columns(settings) if column[0] == dataset]
        named = np.concatenate([_named(pipeline, encoder, *column) for column in there])
        plain, *weighted = (
            pd.concat([_weighted(pipeline, encoder, *c, lam) for c in there], ignore_index=True)
            for lam in (0, *weights.values())
        )
        own = weighted[list(weights).index(gain_at(settings.lambda_of(dataset)))]
        for case in (EVERY, *NEGATIVES):
            rows = (named == case) | (case == EVERY)
            gains = [100 * (one["iou"] - plain["iou"])[rows].mean() for one in weighted]
            key = (title(dataset, settings.datasets), settings.lambda_of(dataset), case)
            found.append((*key, int(rows.sum()), *gains, *_gain(own, plain, rows)[1:]))
    names = ["dataset", "lambda", "negatives name", "sentences"]
    return pd.DataFrame(found, columns=[*names, *weights, "CI low", "CI high"])


def gain_at(lam: float) -> str:
    """The name of the column of ``negatives`` with the gain at this lambda."""
    return f"gain at lambda {lam:g}"


def _gain(after: pd.DataFrame, before: pd.DataFrame, rows: npt.NDArray[np.bool_]) -> tuple:
    """The gain in mIoU on some sentences (points) with its interval; NaN if there are none."""
    return difference(after[rows], before[rows], "mIoU")[:3] if rows.any() else (np.nan,) * 3


def _weighted(
    pipeline: Pipeline, encoder: str, dataset: str, split: str, lam: float
) -> pd.DataFrame:
    """The results of V + alpha P + lambda N on a column, without the rectifier."""
    scored = pipeline.scored(dataset, split, encoder)
    total = scored.total(pipeline.settings.alpha, lam)
    return tables.by_image(scored, scored.choose(total, rectify=False))


def _named(pipeline: Pipeline, encoder: str, dataset: str, split: str) -> npt.NDArray[np.object_]:
    """What the negatives of each sentence name: one of ``NEGATIVES``, or "" without negatives."""
    sentences = pipeline.scored(dataset, split, encoder).sentences
    things, found = pipeline.split(dataset, split).things, []
    for image, own, texts in zip(
        sentences["image"], sentences["own_negative"], sentences["negatives"], strict=True
    ):
        case = 0 if own else 1 if any(pipeline.mention_any(texts, things[image])) else 2
        found.append(NEGATIVES[case] if texts else "")
    return np.array(found, object)
