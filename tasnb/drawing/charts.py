"""Charts of tables and scores; each function returns a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tasnb import profiles
from tasnb.drawing.figures import CLIP, INK, PAPER, TAS, nothing
from tasnb.method.scores import ScoreTable

BARS = {  # Table 1: activation maps in yellow, region features in green, then the main comparison
    "CLIP Surgery": "#ffe066", "Score Map": "#fcc419", "Grad-CAM": "#e67700",
    "Region Token": "#d8f5a2", "Global-Local (FreeSOLO)": "#94d82d", "Global-Local": "#5c940d",
    "Text-only": "#adb5bd", "CLIP-only": CLIP, "TAS": TAS,
}  # fmt: skip


def _names(frame: pd.DataFrame, between: str = " ") -> pd.Series:
    """The names of the tables' columns, e.g. "RefScenes val"."""
    return frame["dataset"].map(profiles.title) + between + frame["split"]


def reach(value: pd.Series, low: pd.Series, high: pd.Series) -> list[pd.Series]:
    """The lengths of an interval's arms to the left and right of the value, for ``errorbar``.

    A percentile interval may lie beside its value: by rounding, as on a single image, or because
    few images differ. Then that arm has no length.
    """
    return [(value - low).clip(lower=0), (high - value).clip(lower=0)]


def best_iou(frame: pd.DataFrame) -> Figure:
    """The IoU of the best proposal, and how it depends on the size of the target.

    Args:
        frame: Columns ``iou`` (best, 0 to 1) and ``share`` (target's share of the image).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.hist(frame["iou"], bins=np.linspace(0, 1, 21), color=TAS, edgecolor="white")
    left.axvline(frame["iou"].mean(), color=CLIP, lw=2)
    left.annotate(
        f"mean {frame['iou'].mean():.2f}", (frame["iou"].mean(), 0.95),
        xycoords=("data", "axes fraction"), ha="right", va="top", color=CLIP,
        xytext=(-5, 0), textcoords="offset points",
    )  # fmt: skip
    left.set(xlabel="IoU of the best proposal", ylabel="targets", xlim=(0, 1))
    right.scatter(100 * frame["share"], frame["iou"], s=12, alpha=0.5, color=TAS, lw=0)
    right.set(xlabel="target's share of the image (%)", ylabel="IoU of the best proposal")
    right.set(xscale="log", ylim=(0, 1.02))
    right.xaxis.set_major_formatter("{x:g}")
    return figure


def columns(frame: pd.DataFrame, metric: str) -> Figure:
    """Table 1 as bars, with the paper's results as ticks.

    One panel per encoder, one group per split, one bar per method.

    Args:
        frame: A tidy table.
    """
    frame = frame[(frame["metric"] == metric) & frame["value"].notna()]
    encoders = sorted(set(frame["encoder"]) - {""})
    frame = frame.assign(column=_names(frame, "\n"))
    groups = list(dict.fromkeys(frame["column"]))
    figure, axes = plt.subplots(
        len(encoders),
        1,
        figsize=(12, 2.9 * len(encoders)),
        squeeze=False,
        layout="constrained",
        sharey=True,
    )
    for ax, encoder in zip(axes[:, 0], encoders, strict=True):
        mine = frame[frame["encoder"].isin([encoder, ""])]
        methods = [method for method in BARS if method in set(mine["method"])]
        wide = 0.84 / len(methods)
        for k, method in enumerate(methods):
            rows = mine[mine["method"] == method].set_index("column").reindex(groups)
            where = np.arange(len(groups)) + wide * (k - (len(methods) - 1) / 2)
            ax.bar(where, rows["value"], 0.92 * wide, color=BARS[method], label=method)
            ticks = "paper, on its own data" if k == len(methods) - 1 else None
            left, right = where - 0.4 * wide, where + 0.4 * wide
            ax.hlines(rows["paper"], left, right, color=INK, lw=1.4, label=ticks)
        ax.set(xticks=range(len(groups)), xticklabels=groups, ylabel=f"{metric} (%)")
        ax.set_title(encoder, loc="left", pad=22)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(
            ncols=9, fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.98), frameon=False,
            columnspacing=1.0, handlelength=1.2,
        )  # fmt: skip
    return figure


def ahead(frame: pd.DataFrame, method: str) -> Figure:
    """The gain of TAS over a method in mIoU, with intervals; one colour per encoder.

    Args:
        frame: From ``comparison.intervals``.
    """
    rows = frame[(frame["method"] == method) & (frame["metric"] == "mIoU")]
    columns = list(dict.fromkeys(_names(rows)))
    figure, ax = plt.subplots(figsize=(8, 0.7 + 0.38 * len(columns)), layout="constrained")
    encoders = list(dict.fromkeys(rows["encoder"]))
    for k, encoder in enumerate(encoders):
        mine = rows[rows["encoder"] == encoder]
        where = np.arange(len(mine)) + 0.22 * (k - (len(encoders) - 1) / 2)
        value = mine["gain of TAS"]
        error = reach(value, mine["CI low"], mine["CI high"])
        ax.errorbar(value, where, xerr=error, fmt="o", color=(TAS, CLIP)[k % 2], label=encoder)
    ax.axvline(0, color=INK, lw=1)
    ax.set(yticks=range(len(columns)), yticklabels=columns, ylim=(len(columns) - 0.5, -0.5))
    ax.set_xlabel(f"gain of TAS over {method}, points of mIoU (95 % confidence interval)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def causes(frame: pd.DataFrame) -> Figure:
    """Shares of right answers and of error causes, one stacked bar per column.

    Args:
        frame: From ``breakdown.causes``.
    """
    names = _names(frame)
    figure, ax = plt.subplots(figsize=(9, 0.9 + 0.34 * len(frame)), layout="constrained")
    left = np.zeros(len(frame))
    colours = (TAS, PAPER, CLIP, "#9c36b5", INK, "#f59f00")
    for name, colour in zip(frame.columns[2:], colours, strict=False):
        ax.barh(names, frame[name], left=left, color=colour, label=name)
        for k, (start, share) in enumerate(zip(left, frame[name], strict=True)):
            if share >= 5:
                ink = INK if colour == PAPER else "white"
                ax.text(start + share / 2, k, f"{share:.0f}", ha="center", va="center", color=ink)
        left += frame[name].to_numpy()
    ax.set(xlim=(0, 100), xlabel="% of the sentences")
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    wide = 4 if len(frame.columns) < 7 else 3
    ax.legend(ncols=wide, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0))
    return figure


def stages(frame: pd.DataFrame, needed: Mapping[str, Sequence[str]]) -> Figure:
    """Seconds per image of each method, as stacked bars by stage.

    Args:
        frame: From ``speed.measure``.
        needed: Stage -> methods that need it.
    """
    methods = list(dict.fromkeys(m for some in needed.values() for m in some))
    figure, ax = plt.subplots(figsize=(9, 2.6), layout="constrained")
    left = dict.fromkeys(methods, 0.0)
    colours = plt.get_cmap("tab10").colors
    for k, (stage, seconds) in enumerate(
        frame[["stage", "seconds per image"]].itertuples(index=False)
    ):
        mine = [m for m in methods if m in needed[stage]]
        ax.barh(mine, [seconds] * len(mine), left=[left[m] for m in mine], color=colours[k],
                label=stage)  # fmt: skip
        left |= {m: left[m] + seconds for m in mine}
    ax.invert_yaxis()
    ax.set_xlabel("seconds per image, one expression each")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sensitivity(frame: pd.DataFrame) -> Figure:
    """Table 3 as lines: oIoU and mIoU over alpha and lambda; ours solid, the paper's dashed."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
    for ax, name in zip(axes, ("alpha", "lambda"), strict=True):
        rows = frame[frame["method"].str.startswith(name) & frame["metric"].isin(["oIoU", "mIoU"])]
        rows = rows.assign(x=rows["method"].str.rpartition("= ")[2].astype(float))
        for metric, colour in (("oIoU", CLIP), ("mIoU", TAS)):
            mine = rows[rows["metric"] == metric]
            ax.plot(mine["x"], mine["value"], "o-", color=colour, label=metric)
            ax.plot(
                mine["x"],
                mine["paper"],
                "--",
                color=colour,
                alpha=0.5,
                label=f"{metric}, paper",
            )
        ax.axvline(0.1 if name == "alpha" else 0.7, color=PAPER, lw=6, zorder=0)
        ax.set(xlabel=name)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("% (paper: on its own data)")
    axes[1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def modules(frame: pd.DataFrame) -> Figure:
    """Table 4 or 5 as bars, alongside the paper's results."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained", sharey=True)
    for ax, metric in zip(axes, ("oIoU", "mIoU"), strict=True):
        rows = frame[frame["metric"] == metric].reset_index(drop=True)
        ax.barh(rows.index - 0.19, rows["value"], 0.36, color=TAS, label="this run")
        ax.barh(rows.index + 0.19, rows["paper"], 0.36, color=PAPER, label="paper, on RefCOCO val")
        ax.set(
            yticks=rows.index,
            yticklabels=rows["method"],
            ylim=(len(rows) - 0.5, -0.5),
            xlabel=f"{metric} (%)",
        )
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0.3, 1.0), ncols=2)
    return figure


def swaps(frame: pd.DataFrame) -> Figure:
    """Table 6 or 7 as bars of mIoU, one panel per column, alongside the paper's results."""
    rows = frame[frame["metric"] == "mIoU"]
    panels = list(dict.fromkeys(zip(rows["dataset"], rows["split"], strict=True)))
    several = rows.groupby("method")["encoder"].nunique().max() > 1
    names = rows["method"] + (", " + rows["encoder"] if several else "")
    rows = rows.assign(name=names)
    labels = list(dict.fromkeys(names))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(10, 0.9 + 0.42 * len(labels)), layout="constrained", sharey=True,
        sharex=True, squeeze=False,
    )  # fmt: skip
    for ax, (dataset, split) in zip(axes[0], panels, strict=True):
        mine = rows[(rows["dataset"] == dataset) & (rows["split"] == split)]
        mine = mine.set_index("name").reindex(labels)
        where = np.arange(len(labels))
        ax.barh(where - 0.19, mine["value"], 0.36, color=TAS, label="this run")
        ax.barh(where + 0.19, mine["paper"], 0.36, color=PAPER, label="paper, on its own data")
        ax.set(yticks=where, yticklabels=labels, ylim=(len(labels) - 0.5, -0.5), xlabel="mIoU (%)")
        ax.set_title(f"{profiles.title(dataset)} {split}", loc="left", fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, -1].legend(
        fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1.0), ncols=2
    )
    return figure


def steps(frame: pd.DataFrame) -> Figure:
    """Shares of sentences that each module makes better (right) and worse (left).

    Args:
        frame: From ``analysis.steps``.
    """
    names = list(dict.fromkeys(frame["step"]))
    columns = list(dict.fromkeys(_names(frame)))
    figure, axes = plt.subplots(
        1, len(names), figsize=(11, 0.9 + 0.3 * len(columns)), layout="constrained", sharey=True,
        sharex=True,
    )  # fmt: skip
    for ax, name in zip(axes, names, strict=True):
        rows = frame[frame["step"] == name]
        ax.barh(columns, rows["better (%)"], color=TAS, label="better")
        ax.barh(columns, -rows["worse (%)"], color=CLIP, label="worse")
        ax.axvline(0, color=INK, lw=0.8)
        ax.set(title=name, xlabel="% of the sentences")
        ax.xaxis.set_major_formatter(lambda x, _: f"{abs(x):g}")
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0].invert_yaxis()
    axes[-1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def differences(frame: pd.DataFrame) -> Figure:
    """The gain of each difference of the released code, with intervals.

    Args:
        frame: From ``ablations.recipes``.
    """
    rows = frame.iloc[1:]
    figure, ax = plt.subplots(figsize=(8, 0.7 + 0.38 * len(rows)), layout="constrained")
    colours = [CLIP] * (len(rows) - 1) + [TAS]
    where = range(len(rows))
    ax.barh(where, rows["gain"], color=colours, height=0.55)
    error = reach(rows["gain"], rows["low"], rows["high"])
    ax.errorbar(rows["gain"], where, xerr=error, fmt="none", color=INK, lw=1)
    ax.axvline(0, color=INK, lw=1)
    ax.set(yticks=where, yticklabels=rows["recipe"], ylim=(len(rows) - 0.5, -0.5))
    ax.set_xlabel("gain over the published recipe, points of mIoU (95 % confidence interval)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    return figure


def separation(scored: ScoreTable, alpha: float, lam: float) -> Figure:
    """Histograms of each score for the target's mask and for the other masks of the image.

    Scores are relative to their mean over the masks of the sentence. Targets that no mask covers
    with an IoU of 0.5 are omitted. A soft prior of places has two panels more.
    """
    pairs = scored.pairs
    best = scored.best_possible()
    covered = scored.outcome(best)["iou"].to_numpy() >= 0.5
    target = np.zeros(len(pairs), bool)
    target[best[covered]] = True
    use = covered[pairs["sentence"].to_numpy()]
    if not use.any():
        return nothing()
    total = scored.total(alpha, lam)
    parts = {name: pairs[name] for name in "VPN"}
    if "G" in pairs:
        parts |= {"S without G": total, "G": pairs["G"]}
    parts["S"] = scored.placed(total)
    figure, axes = plt.subplots(1, len(parts), figsize=(11, 2.6), layout="constrained")
    for ax, (name, values) in zip(axes, parts.items(), strict=True):
        values = pd.Series(np.asarray(values, float))
        relative = (values - values.groupby(pairs["sentence"]).transform("mean")).to_numpy()
        bins = np.linspace(*np.percentile(relative[use], [0.5, 99.5]), 30)
        for rows, colour, label in ((~target, PAPER, "other masks"), (target, TAS, "target")):
            ax.hist(relative[use & rows], bins, density=True, color=colour, alpha=0.75, label=label)
        own = pd.Series(relative[target & use], pairs["sentence"][target & use])
        gap = pairs["sentence"][use & ~target].map(own) - relative[use & ~target]
        won = 100 * ((gap > 1e-9).mean() + 0.5 * (gap.abs() <= 1e-9).mean())
        ax.set(yticks=[])
        said = f"target higher in {won:.0f} %"
        wide = len(parts) == 4
        ax.set_title(f"{name}: {said} of pairs" if wide else f"{name}\n{said}", fontsize=10)
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_ylabel("density", fontsize=9)
    named = axes[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside upper left", ncols=2, fontsize=9, frameon=False)
    figure.supxlabel("score minus the mean over the masks of the sentence", fontsize=9)
    return figure


def heat_map(grid: pd.DataFrame, alpha: float, lam: float) -> Figure:
    """oIoU and mIoU over the grid of ``ablations.grid``; the point (alpha, lam) is framed."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    for ax, metric in zip(axes, ("oIoU", "mIoU"), strict=True):
        wide = grid.pivot(index="alpha", columns="lambda", values=metric)
        shown = ax.imshow(wide, cmap="viridis", aspect="auto")
        middle = (wide.to_numpy().min() + wide.to_numpy().max()) / 2
        for (i, k), value in np.ndenumerate(wide.to_numpy()):
            ink = "white" if value < middle else "black"
            ax.text(k, i, f"{value:.1f}", ha="center", va="center", fontsize=8, color=ink)
        ax.set(xticks=range(wide.shape[1]), xticklabels=[f"{x:g}" for x in wide.columns])
        ax.set(yticks=range(wide.shape[0]), yticklabels=[f"{x:g}" for x in wide.index])
        ax.set(xlabel="lambda", ylabel="alpha", title=f"{metric} (%)")
        if alpha in wide.index and lam in wide.columns:
            at = wide.columns.get_loc(lam) - 0.5, wide.index.get_loc(alpha) - 0.5
            ax.add_patch(Rectangle(at, 1, 1, fill=False, edgecolor=CLIP, lw=3))
        figure.colorbar(shown, ax=ax)
    return figure
