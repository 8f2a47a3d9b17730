"""Figures: masks that show on anything, and what is drawn when there is nothing to draw."""

from __future__ import annotations

import base64
import io
import itertools

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tasnb.drawing import figures, places
from tasnb.drawing.titles import FIGURES


@pytest.mark.parametrize(
    "draw", [figures.examples, figures.proposals, figures.rectifier, places.priors]
)
def test_nothing_to_show(draw, tmp_path) -> None:
    figure = draw([])
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["nothing to show"]
    figure.savefig(tmp_path / "a.png")
    plt.close(figure)


def test_a_saved_figure_is_shown_as_it_was_saved(tmp_path, monkeypatch) -> None:
    """Drawn once: what a notebook shows are the bytes of the file, in the figure's own size."""
    figure, axes = plt.subplots(figsize=(4, 3), dpi=100)
    axes.plot([0, 1])
    shown = figures.save(figure, "a", tmp_path)
    monkeypatch.setattr(Figure, "savefig", None)  # nothing is drawn any more
    monkeypatch.setattr(Figure, "draw", None)
    content = (tmp_path / "figures/a.png").read_bytes()
    with PIL.Image.open(io.BytesIO(content)) as picture:
        wide, high = picture.size
    assert shown.data == content and not plt.fignum_exists(figure.number)
    bundle, about = DisplayFormatter().format(shown)
    assert about["image/png"] == {"width": shown.width, "alt": "A"}
    assert base64.b64decode(bundle["image/png"]) == content
    assert wide > high > 300 and abs(shown.width - wide / 1.3) < 1


def test_a_shown_figure_says_what_it_is(tmp_path) -> None:
    """To those who cannot see it, by its title in the report."""
    figure, _ = plt.subplots(figsize=(2, 2))
    assert figures.save(figure, "03_scores", tmp_path).alt == FIGURES["03_scores"]


def luminance(colour) -> float:
    """Relative luminance (WCAG 2), of sRGB from 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other) -> float:
    """From 1 to 21; 3 is what WCAG asks of graphics."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


GRASS, SNOW, NIGHT, SKY = (
    (0.36, 0.55, 0.20),
    (0.95, 0.96, 0.97),
    (0.05, 0.05, 0.08),
    (0.6, 0.8, 0.95),
)


@pytest.mark.parametrize("ground", [GRASS, SNOW, NIGHT, SKY, to_rgb(figures.TRUTH)])
@pytest.mark.parametrize("colour", [figures.TRUTH, figures.CLIP, figures.TAS])
def test_outlines_show_on_any_ground(ground, colour) -> None:
    """Somewhere along every line across the outline the contrast to the ground is 3 or more."""
    image = np.broadcast_to(np.array(ground) * 255, (60, 80, 3)).astype(np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:50] = True
    painted = figures.paint_mask(image, mask, colour)
    for y in range(22, 38):
        assert max(contrast(ground, painted[y, x] / 255) for x in range(26, 34)) >= 3
    assert (painted[:15] == image[:15]).all() and (image[20:40, 30:50] == image[0, 0]).all()


def test_holes_are_outlined_and_not_tinted() -> None:
    image = np.full((60, 80, 3), 120, np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[10:50, 10:70] = True
    mask[20:40, 30:50] = False
    painted = figures.paint_mask(image, mask, figures.TAS)
    assert (painted[30, 40] == 120).all()
    assert (painted[15, 20] != 120).any()
    assert (painted[30, 24:36] == 255).all(-1).any()


def test_masks_side_by_side_have_colours_apart() -> None:
    colours = [np.array(to_rgb(colour)) for colour in figures.COLOURS]
    for one, other in itertools.pairwise(colours):
        assert np.linalg.norm(one - other) > 0.6
    for one, other in itertools.combinations(colours, 2):
        assert np.linalg.norm(one - other) > 0.25


def test_a_mask_keeps_its_colour_without_the_others() -> None:
    image, masks = np.full((60, 80, 3), 120, np.uint8), np.zeros((3, 60, 80), bool)
    for k, mask in enumerate(masks):
        mask[20:40, 25 * k : 25 * k + 20] = True
    every = figures.paint_masks(image, masks)
    some = figures.paint_masks(image, masks, np.array([False, True, True]))
    assert (some[:, 22:] == every[:, 22:]).all() and (some[:, :22] == 120).all()


def test_every_map_is_enlarged_to_the_image() -> None:
    """Several methods and encoders; an image that is not square."""
    image, truth = np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40), bool)
    truth[10:20, 10:30] = True
    maps = {"rn": {"A": np.eye(7), "B": np.eye(7), "C": np.eye(5)}, "vit": {"A": np.eye(4)}}
    figure = figures.activation_maps(image, "a cat", truth, maps)
    overlays = [ax.images[1].get_array().shape for ax in figure.axes if len(ax.images) > 1]
    assert overlays == [(30, 40)] * 4
    plt.close(figure)


def test_encoders_without_maps_are_left_out() -> None:
    image, truth = np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40), bool)
    figure = figures.activation_maps(image, "a cat", truth, {"rn": {"A": np.eye(7)}, "albef": {}})
    assert len([ax for ax in figure.axes if ax.images]) == 2
    plt.close(figure)
    figure = figures.activation_maps(image, "a cat", truth, {"albef": {}})
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing to show"]
    plt.close(figure)
