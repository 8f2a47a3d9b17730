"""Tables 3 to 7, the paper's ablations: weights, modules, what the models see, other models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.datasets import ablated, stand_in
from tasnb.metrics import evaluate
from tasnb.pipeline import Pipeline
from tasnb.scores import ScoreTable
from tasnb.settings import Settings, short
from tasnb.tables import MODULES, choose, outcome, rows

ALPHAS = (0.0, 0.05, 0.1, 0.2, 0.4)
LAMBDAS = (0.0, 0.3, 0.5, 0.7, 0.9)
INPUTS = (("crop", "crop"), ("blur", "blur"), ("crop", "blur"), ("blur", "crop"))
CAPTIONERS = {"blip2": "BLIP-2", "blip2-8bit": "BLIP-2 in 8 bits", "git": "GIT"}
FAMILIES = {"open_clip": "CLIP", "blip2-itc": "BLIP-2", "albef": "ALBEF"}
"""Kinds of captioners and encoders -> their names in Tables 6 and 7."""


def table3(scored: ScoreTable, encoder: str, settings: Settings) -> pd.DataFrame:
    """Table 3: alpha and lambda varied one at a time, rectifier on."""
    dataset, split = ablated(settings)
    points = [(f"alpha = {a:g}", a, settings.lam) for a in ALPHAS]
    points += [(f"lambda = {b:g}", settings.alpha, b) for b in LAMBDAS]
    found = [
        rows("table3", name, encoder, dataset, split,
             scored.outcome(scored.choose(scored.total(alpha, lam), True)))
        for name, alpha, lam in points
    ]  # fmt: skip
    return pd.concat(found, ignore_index=True)


def grid(scored: ScoreTable, alphas: npt.ArrayLike, lambdas: npt.ArrayLike) -> pd.DataFrame:
    """oIoU and mIoU over all pairs of alpha and lambda, from stored scores alone."""
    found = []
    for alpha in np.asarray(alphas, float):
        for lam in np.asarray(lambdas, float):
            chosen = scored.outcome(scored.choose(scored.total(alpha, lam), True))
            values = evaluate(chosen["intersection"], chosen["union"])
            found.append((alpha, lam, values["oIoU"], values["mIoU"]))
    return pd.DataFrame(found, columns=["alpha", "lambda", "oIoU", "mIoU"])


def table4(scored: ScoreTable, encoder: str, settings: Settings) -> pd.DataFrame:
    """Table 4: the modules added one by one."""
    dataset, split = ablated(settings)
    found = [
        rows("table4", name, encoder, dataset, split,
             scored.outcome(choose(name, scored, settings, dataset)))
        for name in MODULES
    ]  # fmt: skip
    return pd.concat(found, ignore_index=True)


def table5(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """Table 5: what the captioner and CLIP see of a mask, all four ways."""
    dataset, split = ablated(pipeline.settings)
    found = []
    for caption_input, clip_input in INPUTS:
        scored = pipeline.scored(dataset, split, encoder, caption_input, clip_input)
        result = scored.outcome(choose("TAS", scored, pipeline.settings, dataset))
        name = f"BLIP-2 {caption_input}, CLIP {clip_input}"
        found.append(rows("table5", name, encoder, dataset, split, result))
    return pd.concat(found, ignore_index=True)


def swapped(settings: Settings) -> list[tuple[str, str]]:
    """The columns of Tables 6 and 7: RefCOCO+ testA and RefCOCOg val(U)."""
    both = (("RefCOCO+", "testA"), ("RefCOCOg", "val(U)"))
    return list(dict.fromkeys(stand_in(settings, *column) for column in both))


def table6(pipeline: Pipeline) -> pd.DataFrame:
    """Table 6: TAS without captions (CLIP-only), with BLIP-2's and with another captioner's."""
    found = []
    for encoder in pipeline.settings.encoders:
        for name, method, run in captioners(pipeline):
            for column in swapped(pipeline.settings):
                result = outcome(run, method, encoder, *column)
                found.append(rows("table6", name, encoder, *column, result))
    return pd.concat(found, ignore_index=True)


def captioners(pipeline: Pipeline) -> list[tuple[str, str, Pipeline]]:
    """The rows of Table 6: name, method, and the pipeline that has the captioner."""
    runs = [pipeline, pipeline.with_other_captioner]
    named = [(captioner(run.settings.captioner), "TAS", run) for run in runs]
    return [("no captioner", "CLIP-only", pipeline), *named]


def captioner(name: str) -> str:
    """What Table 6 calls a captioner."""
    return CAPTIONERS.get(name.partition(":")[0], short(name))


def table7(pipeline: Pipeline) -> pd.DataFrame:
    """Table 7: three image-text encoders by themselves, and with TAS; alpha and lambda as ever."""
    found = []
    for name, method, encoder in contrasts(pipeline.settings):
        for column in swapped(pipeline.settings):
            result = outcome(pipeline, method, encoder, *column)
            found.append(rows("table7", name, encoder, *column, result))
    return pd.concat(found, ignore_index=True)


def contrasts(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """The rows of Table 7: name, method and encoder."""
    for encoder in dict.fromkeys([settings.encoders[-1], *settings.other_encoders]):
        kind = encoder.partition(":")[0]
        family = FAMILIES.get(kind, kind)
        yield (family if family == "CLIP" else f"{family}-ITC"), "CLIP-only", encoder
        yield f"{family}-TAS", "TAS", encoder


def networks(pipeline: Pipeline, names: Mapping[str, str], encoder: str) -> pd.DataFrame:
    """TAS on the proposals of several networks, on the column of the ablations.

    Args:
        names: What each is called -> its name in the settings.
    """
    found, column = [], ablated(pipeline.settings)
    for called, name in names.items():
        result = outcome(pipeline.variant(proposal_network=name), "TAS", encoder, *column)
        found.append(rows("networks", f"TAS on {called}", encoder, *column, result))
    return pd.concat(found, ignore_index=True)
