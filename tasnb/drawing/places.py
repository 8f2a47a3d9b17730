"""Charts and figures of places, and of what goes beyond the paper (notebook 08)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from tasnb.drawing.charts import reach
from tasnb.drawing.figures import panels
from tasnb.drawing.painting import (
    CLIP,
    INK,
    PAPER,
    TAS,
    Image,
    Masks,
    about_answer,
    paint_answer,
    show,
)
from tasnb.drawing.words import words


@dataclass(frozen=True)
class Placed:
    """One expression with what its words of place add to S; masks by position in ``masks``.

    Attributes:
        reading: What was read, in words; "" for nothing.
        centers: Of the masks' boxes, (M, 2) pixels.
        likely: How likely each mask shows the subject by V, from 0 to 1, (M,).
        prior: What would be added to a mask at each point of a grid over the image, (h, w).
        before, after: The answers without and with the prior.
    """

    image: Image
    masks: Masks
    expression: str
    reading: str
    centers: npt.NDArray[np.floating]
    likely: npt.NDArray[np.floating]
    prior: npt.NDArray[np.floating]
    before: Sequence[int]
    after: Sequence[int]


def priors(found: Sequence[Placed]) -> Figure:
    """The prior as a heat map over the image, and the choices without and with it, row by row."""
    figure, axes = panels(len(found), 3)
    for line, one in zip(axes, found, strict=True):
        height, width = one.image.shape[:2]
        grey = cv2.cvtColor(cv2.cvtColor(one.image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        show(line[0], grey, f"“{one.expression}”  →  {one.reading or 'no word of place'}")
        extent = (0, width, height, 0)
        shown = line[0].imshow(
            one.prior, cmap="viridis", alpha=0.7, extent=extent, interpolation="bilinear"
        )
        line[0].scatter(
            *one.centers.T, s=12 + 110 * one.likely, c="white", edgecolor=INK, lw=1, zorder=3
        )
        line[0].set(xlim=(0, width), ylim=(height, 0))
        bar = figure.colorbar(shown, ax=line[0], shrink=0.85, pad=0.02)
        bar.ax.tick_params(labelsize=7)
        bar.locator = plt.MaxNLocator(4)
        bar.update_ticks()
        for ax, picks, name, colour in (
            (line[1], one.before, "without the prior", CLIP),
            (line[2], one.after, "with it", TAS),
        ):
            masks = one.masks[list(picks)]
            said = ": ".join(filter(None, (name, about_answer(masks))))
            show(ax, paint_answer(one.image, masks, colour), said, colour)
    return figure


def spoken(frame: pd.DataFrame) -> Figure:
    """Share of sentences with each kind of words, and what the paper's rule reads of them.

    Args:
        frame: From ``beyond.spoken``.
    """
    share = frame["share (%)"].to_numpy()
    seen = share * frame["read by the paper's rule (%)"].fillna(0).to_numpy() / 100
    figure, ax = plt.subplots(figsize=(8, 0.8 + 0.36 * len(frame)), layout="constrained")
    where = np.arange(len(frame))
    ax.barh(where, seen, color=TAS, label="the paper's rule reads a side")
    ax.barh(where, share - seen, left=seen, color=PAPER, label="it reads none")
    for y, (total, text) in enumerate(zip(share, frame["example"], strict=True)):
        said = f"{total:.1f} %" + (f"   “{text}”" if text else "")
        ax.text(total, y, f"  {words(said)}", va="center", fontsize=8, color=INK)
    ax.set(yticks=where, yticklabels=frame["words of place"], ylim=(len(frame) - 0.5, -0.5))
    ax.set(xlabel="% of the sentences (a sentence may have several)", xlim=(0, 1.6 * share.max()))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(ncols=2, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0))
    return figure


def choices(frame: pd.DataFrame) -> Figure:
    """The gain of each choice beyond the paper, added to ``published`` and to all the others.

    Args:
        frame: From ``ablations.extended``.
    """
    figure, ax = plt.subplots(figsize=(9, 0.9 + 0.5 * len(frame)), layout="constrained")
    for k, (name, colour, label) in enumerate(
        (("first", CLIP, "added to published"), ("last", TAS, "added to all the others"))
    ):
        where = np.arange(len(frame)) + 0.3 * (k - 0.5)
        error = reach(frame[name], frame[f"{name} low"], frame[f"{name} high"])
        ax.errorbar(frame[name], where, xerr=error, fmt="o", color=colour, label=label)
    ax.axvline(0, color=INK, lw=1)
    for place in range(1, len(frame)):
        ax.axhline(place - 0.5, color="#e9ecef", lw=0.8, zorder=0)
    labels = [words(name, 34) for name in frame["choice"]]
    ax.set(yticks=range(len(frame)), yticklabels=labels, ylim=(len(frame) - 0.5, -0.5))
    ax.set_xlabel("gain, points of mIoU (95 % confidence interval)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.legend(ncols=2, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0))
    return figure
