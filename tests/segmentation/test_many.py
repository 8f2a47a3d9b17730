"""Many images and expressions through the embedded models: the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from painted import PICTURES, QUICK
from PIL import Image
from pycocotools import mask as coco_mask

import tasnb
from tasnb.datasets.images import load_image
from tasnb.method import proposals
from tasnb.segmentation import many as segmentation
from tasnb.segmentation.answer import COLUMNS
from tasnb.settings import InputError
from tasnb.store import shards


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Settings with a separate store, filled by the first test that needs it."""
    return {**QUICK, "store": str(tmp_path_factory.mktemp("store"))}


def test_many_are_as_one_by_one(quick: dict, tmp_path: Path) -> None:
    """Different images and expressions, one image twice, and one without proposals."""
    plain = np.full((40, 50), 128, np.uint8)
    texts = ["the left one", " the dog ", "the red one on the right", "the left one"]
    pairs = [*zip(PICTURES[:3], texts, strict=False), (plain, "the cat"), (PICTURES[0], texts[1])]
    many = list(tasnb.segment_many(pairs, **quick))
    assert len(many) == len(pairs)
    own = {**quick, "store": str(tmp_path)}
    for (image, text), found in zip(pairs, many, strict=True):
        one = tasnb.segment(image, text, **own)
        assert found.expression == text
        np.testing.assert_array_equal(found.image, one.image)
        np.testing.assert_array_equal(found.mask, one.mask)
        assert list(found.frame.columns) == COLUMNS
        assert found.frame["chosen"].sum() == min(1, len(found.frame))
        numbers = ["V", "P", "N", "S", "center_x", "center_y"]
        np.testing.assert_allclose(
            found.frame[numbers].astype(float), one.frame[numbers].astype(float), atol=1e-5
        )
        same = ["mask_id", "kept", "chosen", "caption"]
        assert found.frame[same].astype(object).equals(one.frame[same].astype(object))
    assert many[0].mask.any() and len(many[0].frame) >= 2
    assert many[3].frame.empty and not many[3].mask.any()


def test_pairs_are_taken_as_they_are_needed(quick: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two images at a time, the first answers are returned before the third image is read."""
    monkeypatch.setattr(segmentation, "_PIXELS", 2 * load_image(PICTURES[0])[..., 0].size)
    taken = []

    def pairs() -> Iterator[tuple[Path, str]]:
        for path in PICTURES[:4]:
            taken.append(path)
            yield path, "the left one"

    answers = tasnb.segment_many(pairs(), **quick)
    assert taken == []
    for count in (2, 2, 4, 4):
        next(answers)
        assert len(taken) == count
    assert next(answers, None) is None


@pytest.mark.parametrize("limit", [{"_PAIRS": 3}, {"_PIXELS": 1}])
def test_chunks_do_not_show(quick: dict, monkeypatch: pytest.MonkeyPatch, limit: dict) -> None:
    pairs = [(path, text) for path in PICTURES[:3] for text in ("the left one", "the dog")]
    wanted = [answer.mask for answer in tasnb.segment_many(pairs, **quick)]
    for name, value in limit.items():
        monkeypatch.setattr(segmentation, name, value)
    found = [answer.mask for answer in tasnb.segment_many(pairs, **quick)]
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_second_run_computes_nothing(quick: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(path, "the left one") for path in PICTURES[:2]]
    wanted = [answer.frame for answer in tasnb.segment_many(pairs, **quick)]

    def never(*_: object) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(shards.Stage, "_write", never)
    again = [answer.frame for answer in tasnb.segment_many(reversed(pairs), **quick)]
    assert all(a.equals(b) for a, b in zip(again, reversed(wanted), strict=True))


def test_errors_are_raised_or_returned(quick: dict) -> None:
    pairs = [(PICTURES[0], "the dog"), ("none.png", "the dog"), (PICTURES[1], " ")]
    answers = tasnb.segment_many(pairs, **quick)
    assert next(answers).mask.any()
    with pytest.raises(InputError, match=r"no image file at none\.png"):
        next(answers)
    _, missing, blank = tasnb.segment_many(pairs, errors="return", **quick)
    assert isinstance(missing, InputError) and "the expression is blank" in str(blank)
    assert list(tasnb.segment_many([], **quick)) == []


def test_a_picture_that_cannot_be_read_is_its_own_error(quick: dict, tmp_path: Path) -> None:
    content = PICTURES[0].read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "cut.jpg") as cut:
        pictures = [PICTURES[0], cut, tmp_path / "cut.jpg", PICTURES[1]]
        pairs = [(picture, "the dog") for picture in pictures]
        first, opened, named, last = tasnb.segment_many(pairs, errors="return", **quick)
    assert first.mask.any() and last.mask.any()
    assert str(opened).startswith("the image is truncated or damaged: ")
    assert str(named).startswith(f"{tmp_path / 'cut.jpg'} is truncated or damaged: ")


def test_a_photo_is_the_same_by_its_path_and_opened(quick: dict, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "phone.png"
    Image.open(PICTURES[0]).save(path, exif=exif)
    with Image.open(path) as picture:
        named, opened = (tasnb.segment(p, "the dog", **quick) for p in (path, picture))
    assert named.mask.shape == load_image(PICTURES[0]).shape[1::-1]
    np.testing.assert_array_equal(named.image, opened.image)
    assert named.record() == opened.record()


@pytest.mark.parametrize("text", ["left \udcff cat", "half an emoji \ud83d"])
def test_an_expression_that_is_no_unicode(quick: dict, text: str) -> None:
    with pytest.raises(InputError, match=r"Unicode.* UTF-8$") as error:
        tasnb.segment(PICTURES[0], text, **quick)
    assert str(error.value).isascii() and "\n" not in str(error.value)


@pytest.mark.slow
def test_pictures_that_memory_does_not_suffice_for(
    quick: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real error for one of three images; the other rows are answered in order."""
    small, large, other = (np.array(Image.open(path).convert("RGB")) for path in PICTURES[4:7])
    large = np.concatenate([large, large])
    asked = [(large, "a"), (small, "a"), (large, "b"), (other, "a"), (small, "b")]
    whole = proposals.propose

    def refused(image: np.ndarray, *more: object) -> pd.DataFrame:
        if image.shape == large.shape:
            np.zeros(1 << 60, np.uint8)
        return whole(image, *more)

    monkeypatch.setattr(proposals, "propose", refused)
    found = list(tasnb.segment_many(asked, errors="return", **quick))
    for place in (0, 2):
        height, width = large.shape[:2]
        said = f"there is not enough memory for the image ({width} x {height} pixels; Unable to "
        assert str(found[place]).startswith(said) and "\n" not in str(found[place])
    assert [one.expression for one in (found[1], *found[3:])] == ["a", "a", "b"]
    np.testing.assert_array_equal(found[4].image, small)
    with pytest.raises(InputError, match="not enough memory"):
        tasnb.segment(large, "a", **quick)


def test_wrong_settings_are_said_at_once() -> None:
    for options in ({"alpah": 1}, {"profile": "papre"}, {"errors": "ignore"}):
        with pytest.raises(InputError):
            tasnb.segment_many([], **options)


def test_masks_from_a_file_are_found_by_number(tmp_path: Path) -> None:
    """Masks are found by the number in the file name, never by digits of the digest."""
    pixels = load_image(PICTURES[0])
    Image.fromarray(pixels).save(tmp_path / "photo_17.png")
    mask = np.zeros(pixels.shape[:2], np.uint8, order="F")
    mask[10:60, 20:90] = 1
    rle = coco_mask.encode(mask)
    rle["counts"] = rle["counts"].decode()
    (tmp_path / "m.json").write_text(json.dumps([{"image_id": 17, "segmentation": rle}]))
    own = {**QUICK, "store": str(tmp_path / "s"), "proposal_network": f"file:{tmp_path}/m.json"}
    pairs = [(tmp_path / "photo_17.png", "the dog"), (pixels, "the dog")]
    found, none = tasnb.segment_many(pairs, **own)
    np.testing.assert_array_equal(found.mask, mask.astype(bool))
    assert not none.mask.any()


def test_an_array_that_is_refilled_and_a_file_that_is_replaced_are_new_images(
    quick: dict, tmp_path: Path
) -> None:
    """As a loop over the frames of a film may have it: one buffer, or one file name."""
    first, second = (load_image(picture)[:180, :240] for picture in PICTURES[:2])
    wanted = [tasnb.segment(image, "the left one", **quick) for image in (first, second)]

    def refilled() -> Iterator[tuple[np.ndarray, str]]:
        buffer = np.empty_like(first)
        for image in (first, second):
            buffer[:] = image
            yield buffer, "the left one"

    for found, one in zip(tasnb.segment_many(refilled(), **quick), wanted, strict=True):
        np.testing.assert_array_equal(found.image, one.image)
        np.testing.assert_array_equal(found.mask, one.mask)

    frame = tmp_path / "frame.png"

    def replaced() -> Iterator[tuple[Path, str]]:
        for image in (first, second):
            Image.fromarray(image).save(frame)
            yield frame, "the left one"

    # By their turn the first is gone: an error, not the second image under the key of the first.
    store = {**quick, "store": str(tmp_path / "store")}
    with pytest.raises(InputError, match=r"frame\.png was replaced or removed before its turn"):
        list(tasnb.segment_many(replaced(), **store))
    gone, found = tasnb.segment_many(replaced(), errors="return", **store)
    assert isinstance(gone, InputError)
    np.testing.assert_array_equal(found.mask, wanted[1].mask)
