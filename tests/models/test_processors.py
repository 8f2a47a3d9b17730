"""The same pixels as with PIL, whatever the size of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasnb.models.processors import load_processor, pixels_of
from tasnb.settings import make_settings

CHECKPOINTS = make_settings().data / "embedded" / "checkpoints"


@pytest.fixture(scope="module", params=["blip2", "git", "blip2-itc", "as GIT's is published"])
def processor(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Any:
    """That of the embedded models, and a public one, which scales the short side and crops."""
    if (CHECKPOINTS / request.param).is_dir():
        return load_processor(str(CHECKPOINTS / request.param))
    from transformers import AutoTokenizer, CLIPImageProcessor, GitProcessor

    folder = tmp_path_factory.mktemp("public")
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "git")
    images = CLIPImageProcessor(size={"shortest_edge": 84}, crop_size={"height": 84, "width": 84})
    GitProcessor(images, tokenizer).save_pretrained(folder)
    return load_processor(str(folder))


def side(processor: Any) -> int:
    """Pixels of a side of what a model sees."""
    whole = processor.image_processor
    crops = getattr(whole, "do_center_crop", False)
    return (whole.crop_size if crops else whole.size)["height"]


def levels(processor: Any, image: np.ndarray) -> np.ndarray:
    """What a model sees of an image before normalisation: (S, S, 3), 0 to 255."""
    whole = processor.image_processor
    pixels = pixels_of(processor, [image])[0].permute(1, 2, 0).double().numpy()
    return (pixels * whole.image_std + whole.image_mean) * 255


@pytest.mark.parametrize("size", [(60, 60), (200, 200), (84, 84), (7, 7)])
def test_pixels_are_those_of_pil(processor: Any, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = Image.fromarray(image).resize((side(processor),) * 2, Image.Resampling.BICUBIC)
    np.testing.assert_allclose(levels(processor, image), np.asarray(expected), atol=1e-3)


def test_an_image_may_be_of_any_height(processor: Any) -> None:
    """Including 1, 3 and 4 rows, which could be mistaken for channels."""
    for n in (1, 2, 3, 4, 5):
        red = np.zeros((n, n, 3), np.uint8)
        red[..., 0] = 255
        seen = levels(processor, red)
        np.testing.assert_allclose(seen, np.broadcast_to([255, 0, 0], seen.shape), atol=1e-3)
        assert seen.shape == (side(processor), side(processor), 3)


@pytest.mark.parametrize("size", [(1, 6), (6, 1), (3, 4), (4, 3), (3, 90)])
def test_rows_are_rows_and_columns_columns(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    processor = load_processor(str(CHECKPOINTS / "blip2"))
    expected = Image.fromarray(image).resize((side(processor),) * 2, Image.Resampling.BICUBIC)
    found = levels(processor, image)
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-3)


def test_a_batch_of_different_sizes(processor: Any) -> None:
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (1, 3, 4, 50)]
    whole = pixels_of(processor, images)
    assert whole.shape == (4, 3, side(processor), side(processor))
    for image, pixels in zip(images, whole, strict=True):
        assert (pixels_of(processor, [image])[0] == pixels).all()


def test_an_image_processor_alone(processor: Any) -> None:
    image = np.random.default_rng(3).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    alone = pixels_of(processor.image_processor, [image])
    assert (alone == pixels_of(processor, [image])).all()


def test_a_processor_in_the_layout_of_older_repositories(tmp_path: Path) -> None:
    """Its two halves in separate files: preprocessor_config.json next to the tokenizer's."""
    from transformers import AutoTokenizer, BlipImageProcessor

    (tmp_path / "config.json").write_text('{"model_type": "blip-2"}')
    AutoTokenizer.from_pretrained(CHECKPOINTS / "blip2").save_pretrained(tmp_path)
    BlipImageProcessor(size={"height": 84, "width": 84}).save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").write_text(
        '{"num_query_tokens": 32, "processor_class": "Blip2Processor"}'
    )
    assert (tmp_path / "preprocessor_config.json").is_file()
    found = load_processor(str(tmp_path))
    assert found.num_query_tokens == 32 and found.image_processor.backend == "pil"
    assert pixels_of(found, [np.zeros((3, 3, 3), np.uint8)]).shape == (1, 3, 84, 84)
