"""Text generated from the numbers of a run, shown below the tables of the notebooks.

Each function takes a table of this package and returns Markdown, so the text is true for any run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown

from tasnb import profiles
from tasnb.datasets.splits import ablated, columns
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.results import ablations, comparison, reasons
from tasnb.results.beyond import READ
from tasnb.results.tables import OWN
from tasnb.settings import Settings, short


def refinement(settings: Settings, height: int, width: int) -> Markdown:
    """The thresholds by which this run drops masks, in pixels of an image of the given size."""
    region, least = (
        settings.pixels_on(area, height, width)
        for area in (settings.min_mask_region_area, settings.min_mask_area)
    )
    return Markdown(
        f"In this run, a mask needs a predicted IoU of at least {settings.pred_iou_thresh:g} and a "
        f"stability of at least {settings.stability_score_thresh:g}. On an image of {width} × "
        f"{height} pixels, holes smaller than {region:,.0f} pixels are filled, and islands smaller "
        f"than that are removed. The refinement drops masks smaller than {least:,.0f} pixels, and "
        f"masks of which more than {100 * settings.subset_overlap:g} % is covered by a larger one."
    )


def networks(frame: pd.DataFrame) -> Markdown:
    """The upper bound of each network before and after the refinement.

    Args:
        frame: From ``analysis.networks``.
    """
    best = next(name for name in frame if name.startswith("best IoU"))
    lines = []
    for name, rows in frame.groupby("network", sort=False):
        rows = rows.round(1)  # so that the difference is that of the numbers shown
        every, refined = (rows[rows["proposals"] == step].iloc[0] for step in ("all", "refined"))
        lines.append(
            f"* {name}: {every['masks per image']:.1f} masks per image, the best of which has an "
            f"IoU of {every[best]:.1f} % on average; after the refinement, "
            f"{refined['masks per image']:.1f} masks and {refined[best]:.1f} % "
            f"({_signed(refined[best] - every[best])} points)."
        )
    return Markdown("\n".join(lines))


def spread(scored: ScoreTable, alpha: float, lam: float) -> Markdown:
    """The range of each weighted term over the masks of a sentence."""
    by = scored.pairs.groupby("sentence")
    spans = {name: (by[name].max() - by[name].min()).median() for name in "VPN"}
    return Markdown(
        "The range of each term over the masks of a sentence (median over all sentences) is "
        f"{spans['V']:.3f} for V, {alpha * spans['P']:.3f} for {alpha:g} P and "
        f"{lam * spans['N']:.3f} for {lam:g} N."
    )


def table1(frame: pd.DataFrame) -> Markdown:
    """The number of columns in which TAS has a higher mIoU than the others, by encoder.

    Args:
        frame: From ``tables.table1``.
    """
    wide = _miou(frame)
    lines = []
    for encoder in dict.fromkeys(encoder for encoder, method in wide.index if method == "TAS"):
        tas, alone = wide.loc[(encoder, "TAS")], wide.loc[(encoder, "CLIP-only")]
        gain = (tas - alone).dropna()
        said = f"With {encoder}, TAS is ahead of CLIP-only {_in_columns(gain > 0)} (mIoU). "
        if len(gain) > 1:
            said += f"The gain ranges from {_signed(gain.min())} points on {gain.idxmin()} to "
            said += f"{_signed(gain.max())} points on {gain.idxmax()}."
        else:
            said += f"The gain is {_signed(gain.max())} points on {gain.idxmax()}."
        others = {
            method: row - tas
            for (own, method), row in wide.iterrows()
            if (own == encoder and method not in OWN) or method == "Text-only"
        }
        ahead = [
            f"{method} {_in_columns(gap.dropna() > 0)}"
            for method, gap in others.items()
            if (gap > 0).any()
        ]
        if ahead:
            said += f" Other methods ahead of TAS: {'; '.join(ahead)}."
        elif others:
            said += " No other method is ahead of TAS in any column."
        lines.append(f"* {said}")
    return Markdown("\n".join(lines))


def against_tas(extra: pd.DataFrame, main: pd.DataFrame) -> Markdown:
    """Mean mIoU of some methods and of TAS over the same columns.

    Args:
        extra: From ``tables.table1_extra`` or ``table2_extra``.
        main: The table with TAS on the same columns.
    """
    if extra.empty:
        return Markdown("")
    means = _miou(extra).mean(axis=1).sort_values(ascending=False)
    tas = _miou(main[main["method"] == "TAS"]).mean(axis=1)
    others = ", ".join(f"{_with(*key)} {value:.1f}" for key, value in means.items())
    own = ", ".join(f"{_with(*key)} {value:.1f}" for key, value in tas.items())
    return Markdown(f"Mean mIoU over the columns of this run: {others}; for comparison, {own}.")


def size(pipeline: Pipeline) -> Markdown:
    """The number of sentences and images in the columns of a run."""
    splits = [pipeline.split(*column) for column in columns(pipeline.settings)]
    counts = [[len(s.sentences) for s in splits], [len(s.images) for s in splits]]
    sentences, images = (
        f"{min(some):,}" if min(some) == max(some) else f"{min(some):,} to {max(some):,}"
        for some in counts
    )
    each = f"Each of the {len(splits)} columns" if len(splits) > 1 else "The column of this run"
    return Markdown(f"{each} has {sentences} sentences on {images} images.")


def claims(settings: Settings) -> Markdown:
    """The claims of the paper that this run has no data for."""
    left_out = comparison.left_out(settings)
    if not left_out:
        return Markdown("This run includes all the columns that the claims refer to.")
    return Markdown("\n".join(f"* Not tested: {line}." for line in left_out))


def measured_on(settings: Settings) -> Markdown:
    """The columns and encoders used for Tables 3 to 7."""
    swapped = " and ".join(_column(*column) for column in ablations.swapped(settings))
    return Markdown(
        f"In this run, Tables 3 to 5 use {_column(*ablated(settings))} with "
        f"{short(settings.encoders[-1])}; Tables 6 and 7 use {swapped}."
    )


def modules(frame: pd.DataFrame) -> Markdown:
    """The cases in which each module of Table 4 helps, hurts, or is undecided.

    Args:
        frame: From ``comparison.module_gains``.
    """
    lines = []
    for step, rows in frame.groupby("step", sort=False):
        parts = {
            "helps": rows[rows["CI low"] > 0],
            "hurts": rows[rows["CI high"] < 0],
        }
        said = [
            f"{verb} " + ", ".join(_gain_on(row) for _, row in some.iterrows())
            for verb, some in parts.items()
            if len(some)
        ]
        without = int(((rows["CI low"] == 0) & (rows["CI high"] == 0)).sum())
        undecided = len(rows) - sum(map(len, parts.values())) - without
        for count, verdict in ((without, "has no effect"), (undecided, "is undecided")):
            if count:
                cases = f"{count} of {len(rows)} cases" if len(rows) > 1 else "the only case"
                said.append(f"{verdict} in {cases}")
        lines.append(f"* **{step}** {'; '.join(said)}.")
    return Markdown("\n".join(lines))


def negatives(frame: pd.DataFrame) -> Markdown:
    """The gain of N on each dataset, and what the sentences with each kind of negatives add to it.

    Args:
        frame: From ``reasons.negatives``.
    """
    weights = {float(name.split()[-1]): name for name in frame if name.startswith("gain at ")}
    least, most = min(weights), max(weights)
    every = frame[frame["negatives name"] == reasons.EVERY]
    lower = int((every[weights[most]] < every[weights[least]]).sum())
    lines = []
    if len(every) > 1 and least < most:
        lines = [
            f"The gain of N is smaller with lambda = {most:g} than with {least:g} on {lower} of "
            f"{len(every)} datasets.\n"
        ]
    for dataset, rows in frame.groupby("dataset", sort=False):
        whole, parts = rows.iloc[0], rows.iloc[1:][rows["sentences"].iloc[1:] > 0]
        own = whole["lambda"]
        gain = reasons.gain_at(own)
        others = ", ".join(
            f"{_signed(whole[name])} with {lam:g}" for lam, name in weights.items() if name != gain
        )
        share = parts["sentences"] / whole["sentences"]
        added = ", ".join(
            f"{row['negatives name']} {_signed(share[k] * row[gain])} ({100 * share[k]:.0f} %)"
            for k, row in parts.iterrows()
        )
        lines.append(
            f"* {dataset}: {_signed(whole[gain])} [{_signed(whole['CI low'])}, "
            f"{_signed(whole['CI high'])}] points of mIoU with its lambda of {own:g} ({others})"
            + (f". By what the negatives name (share of sentences): {added}." if added else ".")
        )
    return Markdown("\n".join(lines))


def inputs(frame: pd.DataFrame) -> Markdown:
    """The rows of Table 5 that differ significantly from the paper's choice.

    Args:
        frame: From ``comparison.inputs``.
    """
    others = frame[frame["CI low"].notna()]
    return Markdown(f"Compared with the paper's choice: {_decided(others['inputs'], others)}.")


def captions(frame: pd.DataFrame) -> Markdown:
    """The share of masks for which two captioners give the same caption.

    Args:
        frame: From ``analysis.two_captioners``.
    """
    names = [name for name in frame if name not in ("image", "mask_id")]
    if len(names) < 2 or frame.empty:
        return Markdown("This run has only one captioner.")
    same = 100 * (frame[names[0]] == frame[names[1]]).mean()
    return Markdown(
        f"{names[0]} and {names[1]} give the same caption for {same:.0f} % of the masks."
    )


def recipes(frame: pd.DataFrame) -> Markdown:
    """The effects of the differences of the released code, alone and together.

    Args:
        frame: From ``ablations.recipes``.
    """
    single = frame.iloc[1:-1].rename(columns={"low": "CI low", "high": "CI high"})
    every = frame.iloc[-1]
    return Markdown(
        f"Individual differences: {_decided(single['recipe'], single, 'gain')}. The individual "
        f"effects add up to {_signed(single['gain'].sum())} points; all differences together "
        f"change the result by {_signed(every['gain'])} "
        f"[{_signed(every['low'])}, {_signed(every['high'])}] points."
    )


def few_images(pipeline: Pipeline, encoder: str, among: Sequence[tuple[str, str]]) -> Markdown:
    """The columns, sentences and images of an analysis on few images, and its encoder."""
    splits = [pipeline.split(*column) for column in among]
    parts = [
        f"{_column(*column)} ({len(split.sentences):,} sentences on {len(split.images):,} images)"
        for column, split in zip(among, splits, strict=True)
    ]
    return Markdown(
        f"In this run, the sections on results use {', '.join(parts)}, with {short(encoder)}."
    )


def spoken(frame: pd.DataFrame) -> Markdown:
    """How many sentences have a word of place, and which kinds the paper's rule hardly reads.

    Args:
        frame: From ``beyond.spoken``.
    """
    some = 100 - frame["share (%)"].iloc[-1]
    missed = frame.iloc[:-1][frame[READ].iloc[:-1] < 50]
    named = ", ".join(
        f"{row['words of place']} ({row[READ]:.0f} %)" for _, row in missed.iterrows()
    )
    return Markdown(
        f"In this run, {some:.0f} % of the sentences have words of these kinds. "
        + (f"The paper's rule reads a side in fewer than half of those with: {named}." if named
           else "The paper's rule reads a side in most of those with each kind.")
    )  # fmt: skip


def extended(frame: pd.DataFrame) -> Markdown:
    """The choices beyond the paper whose interval is on one side of zero, first and last.

    Args:
        frame: From ``ablations.extended``.
    """
    every = frame.iloc[0]
    lines = [
        f"All choices of `extended` together: {_signed(every['first'])} "
        f"[{_signed(every['first low'])}, {_signed(every['first high'])}] points of mIoU over "
        f"`published`, which has {every['first mIoU'] - every['first']:.1f} %.\n"
    ]
    for name, title in (("first", "Added to `published`"), ("last", "Added to all the others")):
        rows = frame.iloc[1:].rename(columns={f"{name} low": "CI low", f"{name} high": "CI high"})
        lines.append(f"* {title}: {_decided(rows['choice'], rows, name)}.")
    return Markdown("\n".join(lines))


def speed(frame: pd.DataFrame) -> Markdown:
    """The ratio of the times of TAS and CLIP-only, here and in the paper.

    Args:
        frame: From ``speed.by_method``.
    """
    rows = frame.set_index("method")
    here, theirs = (
        rows.loc["TAS", name] / rows.loc["CLIP-only", name]
        for name in ("seconds per image", "seconds (paper)")
    )
    return Markdown(f"TAS takes {here:.1f} times as long as CLIP-only (paper: {theirs:.1f} times).")


# --- words


def _signed(points: float) -> str:
    return f"{round(points, 1) + 0.0:+.1f}"


def _column(dataset: str, split: str) -> str:
    return f"{profiles.title(dataset)} {split}"


def _with(encoder: str, method: str) -> str:
    return f"{method} with {encoder}" if encoder else method


def _miou(frame: pd.DataFrame) -> pd.DataFrame:
    """Our mIoU, with one row per encoder and method and one column per split."""
    rows = frame[(frame["metric"] == "mIoU") & frame["value"].notna()]
    names = list(map(_column, rows["dataset"], rows["split"]))
    keys = [rows["encoder"], rows["method"], pd.Series(names, rows.index, dtype=object)]
    wide = rows["value"].astype(float).groupby(keys, sort=False).first().unstack(sort=False)
    return wide.reindex(columns=list(dict.fromkeys(names)))


def _in_columns(ahead: Iterable[bool]) -> str:
    found = list(ahead)
    count, of = int(np.sum(found)), len(found)
    if of == 1:
        return "in the only column" if count else "in no column"
    if count in (0, of):
        return f"in all {of} columns" if count else f"in none of the {of} columns"
    return f"in {count} of {of} columns"


def _gain_on(row: pd.Series) -> str:
    return f"with {row['encoder']} on {row['dataset']} ({_signed(row['mIoU gain'])} points)"


def _decided(names: Sequence[str], rows: pd.DataFrame, gain: str = "mIoU gain") -> str:
    """The rows whose interval (``CI low``, ``CI high``) does not contain zero, as text."""
    sure = (rows["CI low"] > 0) | (rows["CI high"] < 0)
    found = [
        f"{name} {_signed(row[gain])} [{_signed(row['CI low'])}, {_signed(row['CI high'])}]"
        for name, (_, row) in zip(names, rows.iterrows(), strict=True)
        if sure[row.name]
    ]
    undecided = int((~sure).sum())
    if not found:
        return "undecided in all cases, since every 95 % interval contains zero"
    rest = f"; undecided in {undecided} of {len(sure)} cases" if undecided else ""
    return f"{'; '.join(found)} points of mIoU{rest}"
