"""FGVP's views and the red circle, from pixels to scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tasnb import Pipeline
from tasnb.baselines import scoring, views
from tasnb.method.proposals import decode
from tasnb.models.encoders import load_encoder
from tasnb.settings import make_settings

RN, VIT = "open_clip:embedded/clip-rn", "open_clip:embedded/clip-vit"
SIDE = {RN: 64, VIT: 84}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (96, 128, 3), dtype=np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((96, 128), bool)
    mask[20:51, 30:91] = True
    mask[20:30, 30:40] = False
    return mask


def test_outside_the_mask_the_full_picture_is_blurred(image: np.ndarray, mask: np.ndarray) -> None:
    """The standard deviation is 100 pixels on a short side of 384, and so 25 on one of 96."""
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(25.0)))
    found = views.blur_outside(image, mask, views.blur_all(image))
    assert found.shape == image.shape and (found[mask] == image[mask]).all()
    assert (found[~mask] == blurred[~mask]).all()
    assert found[~mask].std() < 0.2 * image[~mask].std()


@pytest.mark.parametrize(("size", "thickness"), [(224, 1), (24, 4)])
def test_the_circle_fits_the_box(
    size: int, thickness: int, image: np.ndarray, mask: np.ndarray
) -> None:
    found = views.red_circle(image, mask, size)
    drawn = (found != image).any(-1)
    assert (found[drawn] == (255, 0, 0)).all() and drawn.any()
    rows, columns = np.nonzero(drawn)
    edges = [rows.min(), rows.max(), columns.min(), columns.max()]
    np.testing.assert_allclose(edges, [20, 50, 30, 90], atol=1 + thickness // 2)
    across = drawn[35]  # the middle row crosses the line twice
    assert across[:60].sum() == pytest.approx(thickness, abs=1)
    assert not drawn[33:38, 40:80].any()  # nothing is drawn inside


def test_the_crop_keeps_the_corners_of_the_box(image: np.ndarray, mask: np.ndarray) -> None:
    assert (views.box_crop(image, mask) == image[20:51, 30:91]).all()


@pytest.mark.parametrize("encoder", [RN, VIT])
@pytest.mark.parametrize("method", ["Red circle", "Blur", "Crop + blur"])
def test_scores_one_view_at_a_time(
    method: str, encoder: str, shared_store: Path, tmp_path: Path
) -> None:
    """The cosine similarities of squashed views to "a photo of ...", summed over the views."""
    pipeline = Pipeline(make_settings(limit=1, store=str(shared_store), out=str(tmp_path)))
    split, size = pipeline.split("refscenes", "val"), SIDE[encoder]
    table = pipeline.choices("refscenes", "val")
    scores = scoring.scores(pipeline, method, split, encoder, table)
    ((key, _),) = split.images.items()
    whole = pipeline.pixels(split.images, key)
    loaded = load_encoder(encoder, pipeline.settings)
    prompts = ["a photo of " + text.lower() for text in table.sentences["sentence"]]
    texts = loaded.encode_texts(prompts)
    expected = []
    for mask in decode(pipeline.refined(split.images)):
        shown = {
            "circle": views.red_circle(whole, mask, size),
            "blur": views.blur_outside(whole, mask, views.blur_all(whole)),
            "box": views.box_crop(whole, mask),
        }
        names = {"Red circle": ["circle"], "Blur": ["blur"], "Crop + blur": ["box", "blur"]}[method]
        total = 0
        for name in names:
            square = Image.fromarray(shown[name]).resize((size, size), Image.Resampling.BICUBIC)
            total = total + loaded.encode_images([np.asarray(square)])[0] @ texts.T
        expected.append(total)
    np.testing.assert_allclose(scores.reshape(len(prompts), -1), np.stack(expected, 1), atol=1e-4)
