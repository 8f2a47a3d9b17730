"""The paper's tables as tidy frames, each number beside the paper's, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.io.formats.style import Styler

from tasnb import baselines
from tasnb.metrics import evaluate
from tasnb.pipeline import Pipeline
from tasnb.scores import ScoreTable
from tasnb.settings import Settings
from tasnb.store import atomic_write

COLUMNS = ["table", "method", "encoder", "dataset", "split", "metric", "value", "paper", "n"]

COUNTERPARTS = {
    "refscenes": "RefCOCO",
    "refscenes+": "RefCOCO+",
    "refscenesg": "RefCOCOg",
    "phrasescenes": "PhraseCut",
}
"""The paper's dataset that each embedded one stands for."""

FAMILY = ("refscenes", "refscenes+", "refscenesg")  # the columns of Table 1

TITLES = {"refscenes": "RefScenes", "refscenes+": "RefScenes+", "refscenesg": "RefScenesg"}
TITLES["phrasescenes"] = "PhraseScenes"

OWN = ("Text-only", "CLIP-only", "TAS")
METHODS = ("Text-only", *baselines.METHODS, "CLIP-only", "TAS")
"""Rows of Table 1, in the paper's order; those between are of `tasnb.baselines`."""
EXTRA = ("CLIP Surgery", "Score Map", "Grad-CAM")  # with a ViT: rows that the paper does not have
ALPHAS = (0.0, 0.05, 0.1, 0.2, 0.4)
LAMBDAS = (0.0, 0.3, 0.5, 0.7, 0.9)
MODULES = ("V", "V + P", "V + P + N", "V + P + N + spatial")
INPUTS = (("crop", "crop"), ("blur", "blur"), ("crop", "blur"), ("blur", "crop"))
ABLATED = ("refscenes", "val")  # the paper's ablations are on RefCOCO val with the ViT


def counterpart(encoder: str) -> str:
    """The paper's visual encoder that one of ours stands for."""
    name = encoder.lower()
    return "ViT-B/32" if "vit" in name else "RN50" if "rn" in name else ""


def short(encoder: str) -> str:
    """An encoder's name without library and folder: "clip-vit"."""
    return encoder.rpartition("/")[2].rpartition(":")[2]


def choose(
    method: str, scored: ScoreTable, settings: Settings, dataset: str
) -> npt.NDArray[np.int64]:
    """The pairs that a method of Table 1 or a row of Table 4 picks."""
    lam = settings.lambda_of(dataset)
    total = scored.total(settings.alpha, lam)
    v, p = scored.pairs["V"].to_numpy(), scored.pairs["P"].to_numpy()
    scores = {
        "Text-only": (p, False),
        "CLIP-only": (v, False),
        "TAS": (total, True),
        "V": (v, False),
        "V + P": (v + settings.alpha * p, False),
        "V + P + N": (total, False),
        "V + P + N + spatial": (total, True),
    }
    return scored.choose(*scores[method])


def outcome(
    pipeline: Pipeline, method: str, encoder: str, dataset: str, split: str
) -> pd.DataFrame:
    """What any method of Tables 1, 2 and 4 scores, a row a sentence.

    Returns:
        ``ScoreTable.outcome`` with the sentence's image.
    """
    key = (method, encoder, dataset, split)
    if key not in pipeline.outcomes:
        scored = pipeline.scored(dataset, split, encoder)
        if method in baselines.METHODS:
            data = pipeline.split(dataset, split)
            score = baselines.scores(pipeline, method, data, encoder, scored)
            pick = scored.choose(score, rectify=False)
        else:
            pick = choose(method, scored, pipeline.settings, dataset)
        pipeline.outcomes[key] = by_image(scored, pick)
    return pipeline.outcomes[key]


def by_image(scored: ScoreTable, chosen: npt.NDArray[np.int64]) -> pd.DataFrame:
    """``ScoreTable.outcome`` with the sentence's image, as intervals and paired tests want it."""
    return scored.outcome(chosen).assign(image=scored.sentences["image"].to_numpy())


@lru_cache(maxsize=1)
def paper_numbers() -> pd.Series:
    """Every number of the paper's tables by (table, method, encoder, dataset, split, metric)."""
    frame = pd.read_csv(Path(__file__).with_name("paper.csv"), keep_default_na=False)
    return frame.set_index(COLUMNS[:6])["paper"].astype(float)


def rows(
    table: str, method: str, encoder: str, dataset: str, split: str, outcome: pd.DataFrame
) -> pd.DataFrame:
    """All metrics of one method on one split as tidy rows.

    Args:
        encoder: Ours, or "" for a method without an image tower.
        outcome: From ``ScoreTable.outcome``.
    """
    values = evaluate(outcome["intersection"], outcome["union"])
    known = paper_numbers()
    found = []
    for metric, value in values.items():
        where = (table, method, counterpart(encoder), COUNTERPARTS.get(dataset, dataset), split)
        paper = known.get((*where, metric), np.nan)
        row = (table, method, short(encoder), dataset, split, metric, value, paper, len(outcome))
        found.append(row)
    return pd.DataFrame(found, columns=COLUMNS)


def table1(pipeline: Pipeline) -> pd.DataFrame:
    """Table 1: every method of the paper on every split of the RefCOCO family.

    TSEG, which is trained, is cited: its rows hold the paper's number and none of ours.
    """
    found = _main_table(pipeline, "table1", FAMILY, lambda e: methods(pipeline, e, extra=False))
    return pd.concat([found, _cited("TSEG", found)], ignore_index=True)


def table1_extra(pipeline: Pipeline) -> pd.DataFrame:
    """Rows of Table 1 that the paper does not have: activation maps of the ViT."""
    return _main_table(pipeline, "table1_extra", FAMILY, lambda e: methods(pipeline, e, extra=True))


def table2(pipeline: Pipeline) -> pd.DataFrame:
    """Table 2: Global-Local and TAS on phrases that may mean several things.

    Global-Local's number in the paper is cited from its authors, without its encoder.
    """
    wanted = ("Global-Local", "TAS")
    found = _main_table(
        pipeline,
        "table2",
        ("phrasescenes",),
        lambda e: [m for m in methods(pipeline, e, extra=False) if m in wanted],
    )
    return pd.concat([found, _cited("Global-Local", found)], ignore_index=True)


def table2_extra(pipeline: Pipeline) -> pd.DataFrame:
    """The other methods of Table 1 on the data of Table 2."""
    wanted = ("Global-Local", "TAS")
    return _main_table(
        pipeline,
        "table2_extra",
        ("phrasescenes",),
        lambda e: [m for m in methods(pipeline, e) if m not in wanted],
    )


def methods(pipeline: Pipeline, encoder: str, extra: bool | None = None) -> list[str]:
    """Rows of an encoder: the paper's, those beyond it, or (None) all."""
    settings = pipeline.settings
    there = baselines.methods_of(encoder, settings)
    rows = [m for m in METHODS if m in there or m in OWN]
    if encoder != settings.encoders[-1]:
        rows.remove("Text-only")  # no image tower in it: one row, with the last text tower
    beyond = EXTRA if "Region Token" in there else ()
    return [m for m in rows if extra is None or (m in beyond) == extra]


def _main_table(
    pipeline: Pipeline,
    table: str,
    datasets: Container[str],
    names: Callable[[str], Sequence[str]],
) -> pd.DataFrame:
    found = []
    wanted = {encoder: names(encoder) for encoder in pipeline.settings.encoders}
    for dataset, split in pipeline.settings.columns:
        for encoder, some in wanted.items() if dataset in datasets else ():
            for method in some:
                name = "" if method == "Text-only" else encoder
                result = outcome(pipeline, method, encoder, dataset, split)
                found.append(rows(table, method, name, dataset, split, result))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)


def _cited(method: str, beside: pd.DataFrame) -> pd.DataFrame:
    """The paper's numbers of a method on the columns of a table, with no value of ours."""
    columns = beside[["table", "dataset", "split"]].drop_duplicates()
    known = paper_numbers().rename("paper").reset_index()
    known = known[known["method"] == method]
    known = known[~known["encoder"].isin(["RN50", "ViT-B/32"])]  # those are measured
    named = columns.assign(theirs=columns["dataset"].map(COUNTERPARTS))
    found = named.merge(
        known.rename(columns={"dataset": "theirs"}), on=["table", "theirs", "split"]
    )
    found = found.assign(method=f"{method} (cited)", value=np.nan, n=0)
    return found[COLUMNS] if len(found) else pd.DataFrame(columns=COLUMNS)


def table3(scored: ScoreTable, encoder: str, settings: Settings) -> pd.DataFrame:
    """Table 3: alpha and lambda varied one at a time, rectifier on."""
    dataset, split = ABLATED
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
            outcome = scored.outcome(scored.choose(scored.total(alpha, lam), True))
            values = evaluate(outcome["intersection"], outcome["union"])
            found.append((alpha, lam, values["oIoU"], values["mIoU"]))
    return pd.DataFrame(found, columns=["alpha", "lambda", "oIoU", "mIoU"])


def table4(scored: ScoreTable, encoder: str, settings: Settings) -> pd.DataFrame:
    """Table 4: the modules added one by one."""
    dataset, split = ABLATED
    found = [
        rows("table4", name, encoder, dataset, split,
             scored.outcome(choose(name, scored, settings, dataset)))
        for name in MODULES
    ]  # fmt: skip
    return pd.concat(found, ignore_index=True)


def table5(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """Table 5: what the captioner and CLIP see of a mask, all four ways."""
    dataset, split = ABLATED
    found = []
    for caption_input, clip_input in INPUTS:
        scored = pipeline.scored(dataset, split, encoder, caption_input, clip_input)
        outcome = scored.outcome(choose("TAS", scored, pipeline.settings, dataset))
        name = f"BLIP-2 {caption_input}, CLIP {clip_input}"
        found.append(rows("table5", name, encoder, dataset, split, outcome))
    return pd.concat(found, ignore_index=True)


def networks(pipeline: Pipeline, names: Mapping[str, str], encoder: str) -> pd.DataFrame:
    """TAS on the proposals of several networks, on the column of the ablations.

    Args:
        names: What each is called -> its name in the settings.
    """
    found = []
    for called, name in names.items():
        result = outcome(pipeline.variant(proposal_network=name), "TAS", encoder, *ABLATED)
        found.append(rows("networks", f"TAS on {called}", encoder, *ABLATED, result))
    return pd.concat(found, ignore_index=True)


def layout(frame: pd.DataFrame) -> pd.DataFrame:
    """A tidy table in the paper's own layout, each cell "ours (the paper's)".

    Table 1 has a row a metric, encoder and method and a column a split; the others a row a method
    and a column a metric.
    """
    frame = frame[frame["metric"].isin(["oIoU", "mIoU"])].copy()
    if frame.empty:
        return frame
    paper = frame["paper"].map(lambda x: "" if pd.isna(x) else f" ({x:.2f})")
    ours = frame["value"].map(lambda x: "" if pd.isna(x) else f"{x:.2f}")
    frame["cell"] = (ours + paper).str.strip()
    frame["column"] = frame["dataset"].map(lambda d: TITLES.get(d, d)) + " " + frame["split"]
    one = frame["column"].nunique() == 1
    index = ["encoder", "method"] if one else ["metric", "encoder", "method"]
    measured = frame.groupby("encoder")["value"].count().to_dict()
    orders: dict[str, Callable[[str], Any]] = {
        "metric": ("oIoU", "mIoU").index,
        "encoder": lambda e: (not measured[e], e),  # cited rows last
        "method": lambda m: METHODS.index(m) if m in METHODS else -1,
    }
    for name in [*index, "column", "metric"]:  # else the order of first appearance
        values = list(dict.fromkeys(frame[name]))
        values = sorted(values, key=orders[name]) if name in orders else values
        frame[name] = pd.Categorical(frame[name], values, ordered=True)
    wide = frame.pivot(index=index, columns="metric" if one else "column", values="cell")
    return wide.reset_index().rename_axis(columns=None).astype(object).fillna("")


def provenance(settings: Settings) -> str:
    """Which models and data the numbers are from, in a sentence."""
    images = f"the first {settings.limit} images a split" if settings.limit else "all images"
    return (
        f"Profile {settings.profile}, recipe {settings.recipe}, {images}; "
        f"{settings.proposal_network}, {settings.captioner}, {', '.join(settings.encoders)}."
    )


def to_markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table."""
    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
    lines += [
        ["" if pd.isna(cell) else str(cell).replace("|", "\\|") for cell in row]
        for row in frame.itertuples(index=False)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def save(frame: pd.DataFrame, name: str, out: Path, note: str = "") -> pd.DataFrame:
    """Writes ``tables/<name>`` as csv, parquet and, in the paper's layout, Markdown.

    Returns:
        The frame in that layout, to be shown.
    """
    shown = layout(frame) if "paper" in frame else frame.round(2)
    with atomic_write(out / "tables" / f"{name}.csv") as path:
        frame.to_csv(path, index=False, float_format="%.4f")
    with atomic_write(out / "tables" / f"{name}.parquet") as path:
        frame.to_parquet(path, index=False)
    with atomic_write(out / "tables" / f"{name}.md") as path:
        path.write_text(to_markdown(shown) + (f"\n{note}\n" if note else ""))
    return shown


def compact(shown: pd.DataFrame) -> Styler:
    """A wide table in small print, so that a page holds all of its columns."""
    small = [("font-size", "10px"), ("padding", "1px 4px")]
    styles = [
        {"selector": "th", "props": [*small, ("white-space", "normal")]},
        {"selector": "td", "props": [*small, ("white-space", "nowrap")]},
    ]
    return shown.style.hide(axis="index").set_table_styles(styles)
