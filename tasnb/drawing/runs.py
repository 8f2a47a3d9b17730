"""Charts that compare runs; each function returns a matplotlib Figure."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasnb.drawing.charts import reach
from tasnb.drawing.figures import INK


def differences(frame: pd.DataFrame, first: str) -> Figure:
    """Differences of runs from the first one, by column, with intervals; one colour per series.

    Args:
        frame: run, encoder, column, difference, CI low, CI high (points of mIoU).
        first: The name of the run that the others are compared with.
    """
    columns = list(dict.fromkeys(frame["column"]))
    series = list(dict.fromkeys(zip(frame["run"], frame["encoder"], strict=True)))
    step = 0.8 / len(series)
    height = 1.2 + len(columns) * max(0.36, 0.16 * len(series))
    figure, ax = plt.subplots(figsize=(7.5, height), layout="constrained")
    for k, (run, encoder) in enumerate(series):
        mine = frame[(frame["run"] == run) & (frame["encoder"] == encoder)]
        where = mine["column"].map(columns.index) + step * (k - (len(series) - 1) / 2)
        label = f"{run}, {encoder}"
        _dots(ax, mine.rename(columns={"difference": "value"}), where, k, label, sideways=True)
    ax.axvline(0, color=INK, lw=1)
    for place in range(1, len(columns)):
        ax.axhline(place - 0.5, color="#e9ecef", lw=0.8, zorder=0)
    ax.set(yticks=range(len(columns)), yticklabels=columns, ylim=(len(columns) - 0.5, -0.5))
    ax.set_xlabel(f"TAS minus TAS of {first}, points of mIoU (95 % confidence interval)")
    _finish(ax)
    return figure


def variants(frame: pd.DataFrame, setting: str = "") -> Figure:
    """mIoU of TAS for every variant of a sweep, with intervals; one colour per encoder.

    Args:
        frame: variant, encoder, value, CI low, CI high (%), and the column ``setting`` if given.
        setting: A numeric setting for the horizontal axis; "": variants are listed by name.
    """
    encoders = list(dict.fromkeys(frame["encoder"]))
    if setting:
        figure, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
        spread = np.ptp(frame[setting].to_numpy(float)) or 1
        for k, encoder in enumerate(encoders):
            mine = frame[frame["encoder"] == encoder].sort_values(setting)
            # Moved apart a little, so that intervals do not hide each other.
            where = mine[setting] + 0.008 * spread * (k - (len(encoders) - 1) / 2)
            _dots(ax, mine, where, k, encoder, sideways=False)
            ax.plot(where, mine["value"], color=f"C{k}", lw=1)
        ax.set(xlabel=setting, xticks=sorted(set(frame[setting])), ylabel="mIoU of TAS (%)")
        ax.xaxis.set_major_formatter("{x:g}")
    else:
        names = list(dict.fromkeys(frame["variant"]))
        height = 1.2 + len(names) * max(0.36, 0.16 * len(encoders))
        figure, ax = plt.subplots(figsize=(7.5, height), layout="constrained")
        groups = frame.groupby("variant")["encoder"]
        rank, count = groups.cumcount(), groups.transform("size")  # encoders of the same variant
        where = frame["variant"].map(names.index) + 0.8 / count * (rank - (count - 1) / 2)
        for k, encoder in enumerate(encoders):
            mine = frame["encoder"] == encoder
            _dots(ax, frame[mine], where[mine], k, encoder, sideways=True)
        ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        ax.set_xlabel("mIoU of TAS (%, 95 % confidence interval)")
    _finish(ax)
    return figure


def _dots(
    ax: Axes, rows: pd.DataFrame, where: pd.Series, k: int, label: str, sideways: bool
) -> None:
    """Values with their intervals at some places, in the k-th colour."""
    error = reach(rows["value"], rows["CI low"], rows["CI high"])
    style = {"fmt": "o", "ms": 4.5, "lw": 1.4, "color": f"C{k}", "label": label}
    if sideways:
        ax.errorbar(rows["value"], where, xerr=error, **style)
    else:
        ax.errorbar(where, rows["value"], yerr=error, **style)


def _finish(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    # Above the axes, so that these stay wide; as many entries in a line as fit.
    longest = max(len(label) for label in ax.get_legend_handles_labels()[1])
    ax.legend(
        fontsize=9,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=max(1, 70 // (longest + 6)),
    )
