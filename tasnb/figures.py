"""Every picture of the workbook; each function returns a matplotlib Figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tasnb.scores import ScoreTable
from tasnb.store import atomic_write

Image = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]

TRUTH, CLIP, TAS = "#2f9e44", "#e8590c", "#1971c2"
INK, PAPER = "#343a40", "#ced4da"  # lines and words; what is only there to compare with
COLOURS = np.array(plt.get_cmap("tab20").colors)


def save(figure: Figure, name: str, out: Path) -> Figure:
    """Writes ``figures/<name>.png`` and hands the figure back to be shown."""
    with atomic_write(out / "figures" / f"{name}.png") as path:
        figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return figure


def paint_mask(
    image: Image, mask: npt.NDArray[np.bool_], colour: Sequence[float] | str, strength: float = 0.55
) -> Image:
    """The image (H, W, 3) with a mask tinted and outlined in a colour."""
    rgb = np.array(plt.matplotlib.colors.to_rgb(colour)) * 255
    out = image.astype(float)
    out[mask] = (1 - strength) * out[mask] + strength * rgb
    out = out.astype(np.uint8)
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(out, lines, -1, [int(c) for c in rgb], max(1, image.shape[1] // 250))
    return out


def paint_masks(image: Image, masks: Masks) -> Image:
    """The image with every mask (M, H, W) in a colour of its own, small ones on top."""
    out = image
    for i in np.argsort(-masks.sum((1, 2))) if len(masks) else []:
        out = paint_mask(out, masks[i], COLOURS[i % len(COLOURS)], 0.5)
    return out


def _show(axes: Axes, image: Image, title: str = "", colour: str = INK, width: int = 34) -> None:
    axes.imshow(image)
    axes.set_title("\n".join(textwrap.wrap(title, width)), fontsize=9, color=colour)
    axes.axis("off")


def _grid(
    rows: int, columns: int, width: float = 3.0, height: float = 2.4
) -> tuple[Figure, npt.NDArray]:
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    return figure, axes


def proposals(rows: Sequence[tuple[Image, Masks, npt.NDArray[np.bool_]]]) -> Figure:
    """Images, all their masks and the refined ones, a row an image.

    Args:
        rows: Image (H, W, 3), masks (M, H, W) and which of them are kept (M,).
    """
    figure, axes = _grid(len(rows), 3)
    for line, (image, masks, kept) in zip(axes, rows, strict=True):
        _show(line[0], image, "image")
        _show(line[1], paint_masks(image, masks), f"{len(masks)} proposals")
        _show(line[2], paint_masks(image, masks[kept]), f"{int(kept.sum())} after refinement")
    return figure


def best_iou(frame: pd.DataFrame) -> Figure:
    """How good the best proposal is, by the size of what it should cover.

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


def captions(
    crops: Sequence[Image], blurs: Sequence[Image], crop_texts: Sequence[str],
    blur_texts: Sequence[str],
) -> Figure:  # fmt: skip
    """Masked crops above, blurred ones below, each with its caption underneath."""
    figure, axes = _grid(2, max(1, len(crops)), 1.8, 2.3)
    for line, pictures, texts in ((axes[0], crops, crop_texts), (axes[1], blurs, blur_texts)):
        for ax, picture, text in zip(line, pictures, texts, strict=True):
            ax.imshow(picture)
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel("\n".join(textwrap.wrap(text, 20)), fontsize=9)
    axes[0, 0].set_ylabel("crop", fontsize=10)
    axes[1, 0].set_ylabel("blur", fontsize=10)
    return figure


def scores(
    image: Image, masks: Masks, pairs: pd.DataFrame, expression: str, alpha: float, lam: float,
    truth: npt.NDArray[np.bool_] | None = None,
) -> Figure:  # fmt: skip
    """V, alpha P, lambda N and S of every mask of one expression, beside the masks.

    Args:
        pairs: Rows of ``ScoreTable.pairs`` of one sentence, one a mask.
        truth: Marks the mask that overlaps it most.
    """
    count = len(pairs)
    v, p, n = pairs["V"].to_numpy(), pairs["P"].to_numpy(), pairs["N"].to_numpy()
    parts = [v, alpha * p, lam * n, v + alpha * p + lam * n]
    names = ["V", f"{alpha:g} P", f"{lam:g} N", "S"]
    figure = plt.figure(figsize=(11, 0.8 + 0.62 * count), layout="constrained")
    rows = figure.add_gridspec(count, 6, width_ratios=[1.1, 2.0, 1.6, 1.6, 1.6, 1.6])
    right = (
        int(np.argmax([(m & truth).sum() / (m | truth).sum() for m in masks]))
        if truth is not None
        else -1
    )
    for i in range(count):
        ax = figure.add_subplot(rows[i, 0])
        ax.imshow(paint_mask(image, masks[i], COLOURS[i % len(COLOURS)]))
        ax.axis("off")
        ax = figure.add_subplot(rows[i, 1])
        ax.axis("off")
        mark = "  [the target]" if i == right else ""
        text = "\n".join(textwrap.wrap(str(pairs["caption"].iloc[i]) + mark, 26))
        ax.text(0, 0.5, text, va="center", fontsize=9, weight="bold" if mark else "normal")
    for k, (values, name) in enumerate(zip(parts, names, strict=True)):
        ax = figure.add_subplot(rows[:, 2 + k])
        best = int(values.argmax())
        ax.barh(
            range(count),
            values,
            height=0.6,
            color=[TAS if i == best else PAPER for i in range(count)],
        )
        ax.set(ylim=(count - 0.5, -0.5), yticks=[], title=name)
        ax.axvline(0, color=INK, lw=0.8)
        ax.locator_params(axis="x", nbins=4)
        ax.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(f"“{expression}”   (blue: the best of each column)", fontsize=11)
    return figure


@dataclass(frozen=True)
class Rectified:
    """One sentence before and after the rectifier; masks by position in ``masks``."""

    image: Image
    masks: Masks
    expression: str
    orientation: str
    center_x: npt.NDArray[np.float64]
    center_y: npt.NDArray[np.float64]
    in_region: npt.NDArray[np.bool_]
    before: int
    after: int
    truth: npt.NDArray[np.bool_]


def rectifier(examples: Sequence[Rectified]) -> Figure:
    """The median cross of the centres, the half that is kept, the choice before and after."""
    figure, axes = _grid(len(examples), 3)
    for line, one in zip(axes, examples, strict=True):
        height, width = one.image.shape[:2]
        _show(line[0], one.image, f"“{one.expression}”  →  {one.orientation}")
        x, y = np.median(one.center_x), np.median(one.center_y)
        left, top, right, bottom = 0.0, 0.0, float(width), float(height)
        words = one.orientation.split()
        left, right = (x if "right" in words else left), (x if "left" in words else right)
        top, bottom = (y if "bottom" in words else top), (y if "top" in words else bottom)
        line[0].add_patch(
            Rectangle((left, top), right - left, bottom - top, color="white", alpha=0.35, lw=0)
        )
        line[0].axvline(x, color=INK, ls="--", lw=1)
        line[0].axhline(y, color=INK, ls="--", lw=1)
        colours = [TAS if inside else "#868e96" for inside in one.in_region]
        line[0].scatter(one.center_x, one.center_y, s=36, c=colours, edgecolor="white", zorder=3)
        line[0].set(xlim=(0, width), ylim=(height, 0))
        for ax, pick, name, colour in (
            (line[1], one.before, "before", CLIP),
            (line[2], one.after, "after", TAS),
        ):
            mask = one.masks[pick]
            iou = (mask & one.truth).sum() / (mask | one.truth).sum()
            _show(ax, paint_mask(one.image, mask, colour), f"{name}: IoU {iou:.2f}", colour)
    return figure


@dataclass(frozen=True)
class Example:
    """One sentence with its ground truth and what two methods chose (H, W)."""

    image: Image
    expression: str
    truth: npt.NDArray[np.bool_]
    clip_only: npt.NDArray[np.bool_]
    tas: npt.NDArray[np.bool_]


def examples(found: Sequence[Example]) -> Figure:
    """Ground truth, CLIP-only and TAS side by side, a row a sentence (in the manner of Fig. 4)."""
    figure, axes = _grid(len(found), 3)
    for line, one in zip(axes, found, strict=True):
        _show(line[0], paint_mask(one.image, one.truth, TRUTH), f"“{one.expression}”", TRUTH)
        for ax, mask, name, colour in (
            (line[1], one.clip_only, "CLIP-only", CLIP),
            (line[2], one.tas, "TAS", TAS),
        ):
            iou = (mask & one.truth).sum() / max(1, (mask | one.truth).sum())
            _show(ax, paint_mask(one.image, mask, colour), f"{name}: IoU {iou:.2f}", colour)
    return figure


def columns(frame: pd.DataFrame, metric: str) -> Figure:
    """Table 1 as bars: a panel an encoder, a group a split, a bar a method; the paper's as ticks.

    Args:
        frame: A tidy table.
    """
    frame = frame[frame["metric"] == metric]
    encoders = sorted(set(frame["encoder"]) - {""})
    frame = frame.assign(column=frame["dataset"] + "\n" + frame["split"])
    groups = list(dict.fromkeys(frame["column"]))
    figure, axes = plt.subplots(
        len(encoders),
        1,
        figsize=(11, 2.6 * len(encoders)),
        squeeze=False,
        layout="constrained",
        sharex=True,
    )
    bars = (("Text-only", "#adb5bd"), ("CLIP-only", CLIP), ("TAS", TAS))
    for ax, encoder in zip(axes[:, 0], encoders, strict=True):
        for k, (method, colour) in enumerate(bars):
            mine = frame[(frame["method"] == method) & frame["encoder"].isin([encoder, ""])]
            mine = mine.set_index("column").reindex(groups)
            where = np.arange(len(groups)) + 0.27 * (k - 1)
            ax.bar(where, mine["value"], 0.25, color=colour, label=method)
            ticks = "the paper, on its own data" if k == 2 else None
            ax.hlines(mine["paper"], where - 0.12, where + 0.12, color=INK, lw=1.6, label=ticks)
        ax.set(xticks=range(len(groups)), xticklabels=groups, ylabel=f"{metric} (%)", title=encoder)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(
        ncols=4, fontsize=8, loc="upper left", bbox_to_anchor=(0, 1.32), frameon=False
    )
    return figure


def sensitivity(frame: pd.DataFrame) -> Figure:
    """Table 3 as lines: ours solid, the paper's dashed, oIoU and mIoU over alpha and lambda."""
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
                label=f"{metric}, the paper",
            )
        ax.axvline(0.1 if name == "alpha" else 0.7, color=PAPER, lw=6, zorder=0)
        ax.set(xlabel=name)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("% (the paper's on its own data)")
    axes[1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def modules(frame: pd.DataFrame) -> Figure:
    """Table 4 or 5 as bars: ours beside the paper's."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained", sharey=True)
    for ax, metric in zip(axes, ("oIoU", "mIoU"), strict=True):
        rows = frame[frame["metric"] == metric].reset_index(drop=True)
        ax.barh(rows.index - 0.19, rows["value"], 0.36, color=TAS, label="here")
        ax.barh(
            rows.index + 0.19, rows["paper"], 0.36, color=PAPER, label="the paper, on RefCOCO val"
        )
        ax.set(
            yticks=rows.index,
            yticklabels=rows["method"],
            ylim=(len(rows) - 0.5, -0.5),
            xlabel=f"{metric} (%)",
        )
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0.3, 1.0), ncols=2)
    return figure


def whole_captions(images: Sequence[Image], texts: Sequence[str]) -> Figure:
    """Images side by side, each with the caption of the whole."""
    figure, axes = _grid(1, len(images), 2.9, 2.9)
    for ax, image, text in zip(axes[0], images, texts, strict=True):
        _show(ax, image, text)
    return figure


def separation(scored: ScoreTable, alpha: float, lam: float) -> Figure:
    """How far each score lifts the mask of the target above the image's other masks.

    Scores are taken relative to their mean over the masks of the sentence, and targets that no
    mask covers with an IoU of 0.5 are left out.
    """
    pairs = scored.pairs
    best = scored.best_possible()
    covered = scored.outcome(best)["iou"].to_numpy() >= 0.5
    target = np.zeros(len(pairs), bool)
    target[best[covered]] = True
    use = covered[pairs["sentence"].to_numpy()]
    parts = {"V": pairs["V"], "P": pairs["P"], "N": pairs["N"], "S": scored.total(alpha, lam)}
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.6), layout="constrained")
    for ax, (name, values) in zip(axes, parts.items(), strict=True):
        values = pd.Series(np.asarray(values, float))
        relative = (values - values.groupby(pairs["sentence"]).transform("mean")).to_numpy()
        bins = np.linspace(*np.percentile(relative[use], [0.5, 99.5]), 30)
        for rows, colour, label in ((~target, PAPER, "other masks"), (target, TAS, "target")):
            ax.hist(relative[use & rows], bins, density=True, color=colour, alpha=0.75, label=label)
        ax.set(title=name, yticks=[])
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0].legend(fontsize=8, frameon=False)
    figure.supxlabel("score less the mean over the sentence's masks", fontsize=9)
    return figure


def heat_map(grid: pd.DataFrame, alpha: float, lam: float) -> Figure:
    """oIoU and mIoU over the grid of ``tables.grid``; the paper's point is framed."""
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
