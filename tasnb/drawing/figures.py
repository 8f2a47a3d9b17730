"""Figures of images, masks and maps; each function returns a matplotlib Figure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from IPython.display import Image as Picture
from matplotlib.figure import Figure

from tasnb.drawing.painting import (
    CLIP,
    COLOURS,
    INK,
    PAPER,
    TAS,
    TRUTH,
    Image,
    Masks,
    about_answer,
    paint_answer,
    paint_mask,
    paint_masks,
    show,
)
from tasnb.drawing.titles import title as title_of
from tasnb.drawing.words import words
from tasnb.store.files import atomic_write

DPI = 130  # of saved figures


def save(figure: Figure, name: str, out: Path) -> Picture:
    """Writes ``figures/<name>.png`` and returns the same picture, which a notebook shows.

    A figure itself would be drawn again to be shown. The picture is shown in the figure's size, and
    its title in the report is its alternative text.
    """
    drawn = io.BytesIO()
    figure.savefig(
        drawn,
        format="png",
        dpi=DPI,
        bbox_inches="tight",
        facecolor="white",
        # Half the time of the usual level 6, and files 6 % larger.
        pil_kwargs={"compress_level": 4},
    )
    content = drawn.getvalue()
    file = out / "figures" / f"{name}.png"
    with atomic_write(file) as path:
        path.write_bytes(content)
    plt.close(figure)
    wide = int.from_bytes(content[16:20])  # in pixels, in the header of every PNG file
    shown = round(wide * figure.dpi / DPI)
    return Picture(content, format="png", width=shown, alt=title_of(file))


def nothing() -> Figure:
    """A placeholder for an empty figure, as on a dataset of a few sentences."""
    figure, axes = plt.subplots(figsize=(3, 0.8))
    axes.text(0.5, 0.5, "nothing to show", ha="center", color=INK)
    axes.axis("off")
    return figure


def panels(
    rows: int, columns: int, width: float = 3.0, height: float = 2.4
) -> tuple[Figure, npt.NDArray]:
    """A figure of some panels, each ``width`` by ``height`` inches; a placeholder for none."""
    if not rows * columns:
        return nothing(), np.empty((rows, columns), object)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    return figure, axes


def proposals(rows: Sequence[tuple[Image, Masks, npt.NDArray[np.bool_]]]) -> Figure:
    """One row per image: the image, all its masks, and the refined ones.

    Args:
        rows: Image (H, W, 3), masks (M, H, W) and which of them are kept (M,).
    """
    figure, axes = panels(len(rows), 3)
    for line, (image, masks, kept) in zip(axes, rows, strict=True):
        show(line[0], image, "image")
        show(line[1], paint_masks(image, masks), f"{len(masks)} proposals")
        show(line[2], paint_masks(image, masks, kept), f"{int(kept.sum())} after refinement")
    return figure


@dataclass(frozen=True)
class Bested:
    """One expression, its ground truth (H, W), and the best proposal of each network by name."""

    image: Image
    expression: str
    truth: npt.NDArray[np.bool_]
    best: Mapping[str, npt.NDArray[np.bool_]]


def networks(found: Sequence[Bested]) -> Figure:
    """The best proposal of each network, one row per expression (similar to Figure 3)."""
    figure, axes = panels(len(found), 1 + len(found[0].best))
    for line, one in zip(axes, found, strict=True):
        show(line[0], paint_mask(one.image, one.truth, TRUTH), f"“{one.expression}”", TRUTH)
        for ax, (name, mask) in zip(line[1:], one.best.items(), strict=True):
            iou = (mask & one.truth).sum() / max(1, (mask | one.truth).sum())
            show(ax, paint_mask(one.image, mask, TAS), f"{name}: IoU {iou:.2f}", TAS)
    return figure


def captions(
    crops: Sequence[Image], blurs: Sequence[Image], crop_texts: Sequence[str],
    blur_texts: Sequence[str],
) -> Figure:  # fmt: skip
    """Masked crops in the first row, blurred ones in the second, with their captions below."""
    figure, axes = panels(2, max(1, len(crops)), 1.8, 2.3)
    for line, pictures, texts in ((axes[0], crops, crop_texts), (axes[1], blurs, blur_texts)):
        for ax, picture, text in zip(line, pictures, texts, strict=True):
            ax.imshow(picture)
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(words(text, 20), fontsize=9)
    axes[0, 0].set_ylabel("crop", fontsize=10)
    axes[1, 0].set_ylabel("blur", fontsize=10)
    return figure


def scores(
    image: Image, masks: Masks, pairs: pd.DataFrame, expression: str, alpha: float, lam: float,
    truth: npt.NDArray[np.bool_] | None = None,
) -> Figure:  # fmt: skip
    """V, alpha P, lambda N and S of every mask of one expression, alongside the masks.

    Args:
        pairs: Rows of ``ScoreTable.pairs`` of one sentence, one per mask.
        truth: Ground truth; the mask that overlaps it most is marked.
    """
    count = len(pairs)
    if not count:
        return nothing()
    v, p, n = pairs["V"].to_numpy(), pairs["P"].to_numpy(), pairs["N"].to_numpy()
    parts = [v, alpha * p, lam * n, v + alpha * p + lam * n]
    names = ["V", f"{alpha:g} P", f"{lam:g} N", "S"]
    figure = plt.figure(figsize=(12, 0.8 + 0.95 * count), layout="constrained")
    rows = figure.add_gridspec(count, 6, width_ratios=[1.7, 1.9, 1.6, 1.6, 1.6, 1.6])
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
        text = words(str(pairs["caption"].iloc[i]) + mark, 26)
        ax.text(0, 0.5, text, va="center", fontsize=9, weight="bold" if mark else "normal")
    ends = [(min(0.0, values.min()), max(0.0, values.max())) for values in parts]
    span = 1.03 * max(high - low for low, high in ends)  # one scale for all, to compare them
    for k, (values, name, (low, high)) in enumerate(zip(parts, names, ends, strict=True)):
        ax = figure.add_subplot(rows[:, 2 + k])
        best = values > values.max() - 1e-6  # several in case of a tie
        ax.barh(range(count), values, height=0.6, color=np.where(best, TAS, PAPER))
        ax.set(ylim=(count - 0.5, -0.5), yticks=[], title=name)
        ax.set_xlim(*((low, low + span) if high > -low else (high - span, high)))
        ax.axvline(0, color=INK, lw=0.8)
        ax.locator_params(axis="x", nbins=4)
        ax.spines[["top", "right", "left"]].set_visible(False)
    title = f"“{expression}” (blue: the best of each column; all columns have the same scale)"
    figure.suptitle(words(title), fontsize=11)
    return figure


@dataclass(frozen=True)
class Rectified:
    """One sentence before and after the rectifier; the answers by positions in ``masks``."""

    image: Image
    masks: Masks
    expression: str
    orientation: str
    center_x: npt.NDArray[np.float64]
    center_y: npt.NDArray[np.float64]
    in_region: npt.NDArray[np.bool_]
    before: Sequence[int]
    after: Sequence[int]
    truth: npt.NDArray[np.bool_]


def rectifier(examples: Sequence[Rectified]) -> Figure:
    """The medians of the centres, the part that is kept, and the choices before and after."""
    figure, axes = panels(len(examples), 3)
    for line, one in zip(axes, examples, strict=True):
        height, width = one.image.shape[:2]
        x, y = np.median(one.center_x), np.median(one.center_y)
        left, top, right, bottom = 0.0, 0.0, float(width), float(height)
        sides = one.orientation.split()
        left, right = (x if "right" in sides else left), (x if "left" in sides else right)
        top, bottom = (y if "bottom" in sides else top), (y if "top" in sides else bottom)
        faded = (0.3 * one.image + 0.7 * 255).astype(np.uint8)
        kept = np.s_[round(top) : round(bottom), round(left) : round(right)]
        faded[kept] = one.image[kept]
        show(line[0], faded, f"“{one.expression}”  →  {one.orientation}")
        line[0].axvline(x, color=INK, ls="--", lw=1)
        line[0].axhline(y, color=INK, ls="--", lw=1)
        colours = [TAS if inside else "#868e96" for inside in one.in_region]
        line[0].scatter(one.center_x, one.center_y, s=36, c=colours, edgecolor="white", zorder=3)
        line[0].set(xlim=(0, width), ylim=(height, 0))
        for ax, picks, name, colour in (
            (line[1], one.before, "before", CLIP),
            (line[2], one.after, "after", TAS),
        ):
            masks = one.masks[list(picks)]
            said = f"{name}: {about_answer(masks, one.truth)}"
            show(ax, paint_answer(one.image, masks, colour), said, colour)
    return figure


@dataclass(frozen=True)
class Example:
    """One sentence with its ground truth (H, W) and the masks that two methods choose, by name."""

    image: Image
    expression: str
    truth: npt.NDArray[np.bool_]
    chosen: Mapping[str, Masks]


def examples(found: Sequence[Example]) -> Figure:
    """Ground truth and two choices side by side, one row per sentence (similar to Figure 4)."""
    figure, axes = panels(len(found), 3)
    for line, one in zip(axes, found, strict=True):
        show(line[0], paint_mask(one.image, one.truth, TRUTH), f"“{one.expression}”", TRUTH)
        pairs = zip(line[1:], (CLIP, TAS), one.chosen.items(), strict=True)
        for ax, colour, (name, masks) in pairs:
            said = f"{name}: {about_answer(masks, one.truth)}"
            show(ax, paint_answer(one.image, masks, colour), said, colour)
    return figure


def whole_captions(images: Sequence[Image], texts: Sequence[str]) -> Figure:
    """Images side by side, each with the caption of the whole image."""
    figure, axes = panels(1, len(images), 2.9, 2.9)
    for ax, image, text in zip(axes[0], images, texts, strict=True):
        show(ax, image, text)
    return figure


def activation_maps(
    image: Image,
    expression: str,
    truth: npt.NDArray[np.bool_],
    maps: Mapping[str, Mapping[str, npt.NDArray[np.floating]]],
) -> Figure:
    """Activation maps of one expression over its image: one row per encoder, one column per method.

    The ground truth is outlined.

    Args:
        maps: Encoder -> method -> map (h, w). Each is scaled to its own range of values, and
            enlarged in the same way as for the scores. Encoders without maps are left out.
    """
    maps = {encoder: found for encoder, found in maps.items() if found}
    if not maps:
        return nothing()
    columns = max(map(len, maps.values()))
    figure, axes = panels(len(maps), columns + 1)
    height, width = image.shape[:2]
    for line, (encoder, found) in zip(axes, maps.items(), strict=True):
        show(line[0], paint_mask(image, truth, TRUTH), f"“{expression}”, {encoder}", TRUTH)
        for ax, (method, values) in zip(line[1:], found.items(), strict=False):
            show(ax, image, method)
            large = cv2.resize(values.astype(np.float32), (width, height))
            ax.imshow(large, cmap="inferno", alpha=0.65)
            for colour, thick in (("white", 3.2), (TRUTH, 1.6)):
                ax.contour(truth, [0.5], colors=colour, linewidths=thick)
    return figure


@dataclass(frozen=True)
class Overview:
    """All intermediate results of TAS for one expression.

    Attributes:
        sentence: Its number in the split.
        pairs: One row per mask: caption, V, P, N, S, in_region, chosen.
        crops, blurs: The masked images, in the same order.
    """

    sentence: int
    image: Image
    expression: str
    orientation: str
    caption: str
    negatives: Sequence[str]
    truth: npt.NDArray[np.bool_]
    masks: Masks
    crops: Sequence[Image]
    blurs: Sequence[Image]
    pairs: pd.DataFrame


def overview(one: Overview) -> Figure:
    """The pipeline on one example (similar to Figure 2): one column per mask, one row per step."""
    count = len(one.masks)
    figure = plt.figure(figsize=(2.6 + 1.55 * count + 2.6, 6.2), layout="constrained")
    grid = figure.add_gridspec(
        4, count + 2, width_ratios=[2.2, *[1.3] * count, 2.2], height_ratios=[1, 1, 1, 1.05]
    )
    left = [(one.image, f"“{one.expression}”"), (paint_masks(one.image, one.masks), "proposals")]
    for k, (image, title) in enumerate(left):
        show(figure.add_subplot(grid[2 * k : 2 * k + 2, 0]), image, title, width=30)
    steps = ("crop, input to CLIP", "blur, input to the captioner", "scores", "rectifier")
    for i in range(count):
        row, ink = one.pairs.iloc[i], TAS if one.pairs["chosen"].iloc[i] else INK
        cells = [figure.add_subplot(grid[k, 1 + i]) for k in range(4)]
        for ax in cells:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(color=ink, linewidth=2.2 if row["chosen"] else 0.6)
        cells[0].imshow(one.crops[i])
        cells[1].imshow(one.blurs[i])
        cells[1].set_xlabel(words(row["caption"], 18), fontsize=8)
        lines = [f"{name} {row[name]:+.2f}" for name in "VPN"] + [f"S {row['S']:+.2f}"]
        cells[2].text(0.5, 0.5, "\n".join(lines), ha="center", va="center", family="monospace",
                      fontsize=9, color=ink)  # fmt: skip
        kept = bool(row["in_region"]) or not one.orientation
        shown = paint_mask(one.image, one.masks[i], ink if kept else PAPER)
        cells[3].imshow(shown, alpha=1.0 if kept else 0.35)
        said = "chosen" if row["chosen"] else "" if kept else f"outside the {one.orientation} part"
        cells[3].set_xlabel(said, fontsize=8, color=ink)
        for ax, step in zip(cells, steps, strict=True) if i == 0 else ():
            ax.set_ylabel(words(step, 14), fontsize=8)
    answer = figure.add_subplot(grid[2:, -1])
    chosen = one.masks[one.pairs["chosen"].to_numpy(bool)]
    said = f"answer, {about_answer(chosen, one.truth)}"
    show(answer, paint_answer(one.image, chosen, TAS), said, TAS)
    note = figure.add_subplot(grid[:2, -1])
    note.axis("off")
    notes = [f"caption of the image: {one.caption}", f"negatives: {', '.join(one.negatives)}"]
    text = "\n\n".join(words(line, 32) for line in notes)
    note.text(0.02, 0.5, text, va="center", fontsize=8, color=INK)
    return figure
