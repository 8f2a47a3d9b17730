"""Breakdown of the errors by cause, kind of expression, size of the target, and sentence."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.datasets.splits import columns
from tasnb.method.metrics import difference
from tasnb.method.pipeline import Pipeline
from tasnb.results import tables
from tasnb.results.analysis import GOOD

SIZES = (0.02, 0.04, 0.08)  # limits between the size classes, as shares of the image
COMPARED = ("CLIP-only", "TAS")
NOTHING, TOO_MANY = "answered with nothing", "too many masks"
"""Causes of errors where an answer may have any number of masks."""


def sentences(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """Every sentence of the run with its properties and the results of the methods.

    Returns:
        dataset, split, image, sentence, target, the target's share of the image, whether the
        sentence has a location word (place), an attribute or a relation, its number of words, the
        IoU of the best proposal, IoU, intersection and union of ``COMPARED`` and of TAS without
        the rectifier, the number of masks that TAS answers with (TAS masks), and the cause of its
        error ("" if it is right).
    """
    parts = [column(pipeline, *names, encoder) for names in columns(pipeline.settings)]
    return pd.concat(parts, ignore_index=True)


def column(pipeline: Pipeline, dataset: str, split: str, encoder: str) -> pd.DataFrame:
    """The rows of ``sentences`` for one column, in the order of its sentences."""
    scored = pipeline.scored(dataset, split, encoder)
    rows = scored.sentences
    frame = pd.DataFrame(
        {
            "dataset": dataset,
            "split": split,
            "image": rows["image"],
            "sentence": rows["sentence"],
            "target": rows["target"],
            "share": rows["share"],
            "place": rows["orientation"] != "",
            "attribute": rows["attribute"],
            "relation": rows["relation"],
            "words": rows["sentence"].str.split().str.len(),
            "best": scored.outcome(scored.best_possible())["iou"],
        }
    )
    for method in (*COMPARED, "V + P + N"):
        outcome = tables.outcome(pipeline, method, encoder, dataset, split)
        for name in ("iou", "intersection", "union"):
            frame[f"{method} {name}"] = outcome[name].to_numpy()
    answer = tables.outcome(pipeline, "TAS", encoder, dataset, split)
    frame["TAS masks"] = answer["mask_ids"].map(len)
    first = scored.outcome(tables.choose("TAS", scored, pipeline.settings, dataset))["iou"]
    return frame.assign(cause=_cause(frame, first.to_numpy()))


def _cause(frame: pd.DataFrame, first: npt.NDArray[np.floating]) -> list[str]:
    """Why TAS is wrong: the first cause that applies.

    Args:
        first: IoU of the mask that is ranked first, whatever else is part of the answer.
    """
    right, could = frame["TAS iou"] >= GOOD, frame["best"] >= GOOD
    before = frame["V + P + N iou"] >= GOOD
    causes = {
        "": right,
        "no good proposal": ~could,
        NOTHING: frame["TAS masks"] == 0,
        TOO_MANY: first >= GOOD,
        "excluded by the rectifier": before,
    }
    return np.select([*causes.values()], [*causes], "wrong proposal ranked first").tolist()


def causes(frame: pd.DataFrame) -> pd.DataFrame:
    """Shares of sentences (percent) on which TAS is right (IoU of 0.5), and of each error cause.

    Args:
        frame: From ``sentences``.
    """
    order = ["right", "no good proposal", "wrong proposal ranked first"]
    order.append("excluded by the rectifier")
    order += [name for name in (NOTHING, TOO_MANY) if (frame["cause"] == name).any()]
    named = frame.assign(cause=frame["cause"].replace("", "right"))
    groups = named.groupby(["dataset", "split"], sort=False)["cause"]
    shares = groups.value_counts(normalize=True).unstack(fill_value=0).reindex(columns=order)
    return (100 * shares.fillna(0)).reset_index().rename_axis(columns=None)


def kinds(frame: pd.DataFrame) -> pd.DataFrame:
    """CLIP-only and TAS by kind of expression and size of the target, over all columns.

    Args:
        frame: From ``sentences``.

    Returns:
        what, kind, sentences, mIoU of the best proposals and of both methods, and the gain of TAS
        with its 95 % interval (bootstrap over images).
    """
    yes_no = {True: "yes", False: "no"}
    length = pd.cut(frame["words"], [0, 2, 4, 8, 1000], labels=["1-2", "3-4", "5-8", "9 or more"])
    edges = [0, *SIZES, 1]
    names = [f"{100 * a:g}-{100 * b:g} %" for a, b in itertools.pairwise(edges)]
    classes = {
        "has a location word": frame["place"].map(yes_no),
        "mentions an attribute": frame["attribute"].map(yes_no),
        "mentions a second object": frame["relation"].map(yes_no),
        "number of words": length,
        "target's share of the image": pd.cut(frame["share"], edges, labels=names),
    }
    found = []
    for what, kind in classes.items():
        for name, rows in frame.groupby(kind, observed=True):
            both = [_outcome(rows, method) for method in COMPARED]
            gain = difference(both[1], both[0], "mIoU")
            means = [100 * rows[c].mean() for c in ("best", "CLIP-only iou", "TAS iou")]
            found.append((what, str(name), len(rows), *means, gain.value, gain.low, gain.high))
    names = ["what", "kind", "sentences", "best proposal", *COMPARED, "gain of TAS"]
    return pd.DataFrame(found, columns=[*names, "CI low", "CI high"])


def _outcome(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    names = {f"{method} {name}": name for name in ("intersection", "union")}
    return rows[["image", *names]].rename(columns=names)
