"""Masked images worked out by hand: visible pixels, black pixels and padding (Eq. 1)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasnb.method.masked_images import blur_background, masked_image, masked_images

HEIGHT, WIDTH = 9, 11
IMAGE = np.random.default_rng(0).integers(1, 256, (HEIGHT, WIDTH, 3), np.uint8)  # nothing black


def mask_of(*pixels: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[tuple(np.transpose(pixels))] = True
    return mask


def test_black_outside_the_mask() -> None:
    crop = masked_image(IMAGE, mask_of((2, 3), (2, 4), (3, 3)))
    assert crop.shape == (2, 2, 3) and crop.dtype == np.uint8
    np.testing.assert_array_equal(crop[0], IMAGE[2, 3:5])
    np.testing.assert_array_equal(crop[1], [IMAGE[3, 3], (0, 0, 0)])


def test_the_last_row_and_column_are_kept() -> None:
    crop = masked_image(IMAGE, np.ones((HEIGHT, WIDTH), bool))
    assert crop.shape == (WIDTH, WIDTH, 3)
    np.testing.assert_array_equal(crop[1 : 1 + HEIGHT], IMAGE)
    corner = masked_image(IMAGE, mask_of((HEIGHT - 2, WIDTH - 2), (HEIGHT - 1, WIDTH - 1)))
    np.testing.assert_array_equal(corner[1, 1], IMAGE[-1, -1])


@pytest.mark.parametrize("pixel", [(0, 0), (4, 7), (HEIGHT - 1, WIDTH - 1)])
def test_a_mask_of_one_pixel(pixel: tuple[int, int]) -> None:
    for form in ("crop", "blur"):
        (crop,) = masked_images(IMAGE, mask_of(pixel)[None], form, 5)
        np.testing.assert_array_equal(crop, IMAGE[pixel][None, None])


@pytest.mark.parametrize(
    ("height", "width", "top", "left"),
    [(1, 4, 1, 0), (2, 4, 1, 0), (4, 1, 0, 1), (2, 5, 1, 0), (5, 2, 0, 1), (1, 2, 0, 0)],
)
def test_the_odd_pixel_of_the_padding_is_on_the_far_side(
    height: int, width: int, top: int, left: int
) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3 : 3 + height, 5 : 5 + width] = True
    side = max(height, width)
    expected = np.zeros((side, side, 3), np.uint8)
    expected[top : top + height, left : left + width] = IMAGE[3 : 3 + height, 5 : 5 + width]
    np.testing.assert_array_equal(masked_image(IMAGE, mask), expected)
    # the padding is black even if the background is blurred
    np.testing.assert_array_equal(masked_image(IMAGE, mask, 255 - IMAGE), expected)


def test_blur_keeps_the_masks_own_pixels_sharp() -> None:
    mask = mask_of((1, 2), (4, 2), (2, 6))  # the box has rows 1 to 4 and columns 2 to 6
    blurred = cv2.GaussianBlur(IMAGE, (5, 5), 0)
    assert (blurred != IMAGE).any()
    (crop,) = masked_images(IMAGE, mask[None], "blur", 5)
    inside = mask[1:5, 2:7]
    np.testing.assert_array_equal(crop[:4][inside], IMAGE[1:5, 2:7][inside])
    np.testing.assert_array_equal(crop[:4][~inside], blurred[1:5, 2:7][~inside])
    assert crop.shape == (5, 5, 3) and not crop[4].any()


def test_the_width_of_the_blur_is_opencvs_own() -> None:
    """0.3 ((75 - 1) / 2 - 1) + 0.8 = 11.6 pixels, measured on a single white pixel."""
    image = np.zeros((151, 151, 3), np.uint8)
    image[70:81, 75] = 255
    np.testing.assert_array_equal(
        blur_background(image, 75), cv2.GaussianBlur(image, (75, 75), 11.6)
    )


@pytest.mark.parametrize("form", ["crop", "blur"])
def test_one_image_a_mask_and_none_for_none(form: str) -> None:
    masks = np.stack([mask_of((0, 0), (1, 3)), mask_of((5, 5)), mask_of((2, 2), (8, 2))])
    assert [len(image) for image in masked_images(IMAGE, masks, form, 3)] == [4, 1, 7]
    assert masked_images(IMAGE, masks[:0], form, 3) == []


@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_every_pixel_of_the_mask_is_there_once(mask: np.ndarray) -> None:
    if not mask.any():
        return
    image = np.arange(1, mask.size + 1, dtype=np.uint8).reshape(mask.shape)
    crop = masked_image(np.repeat(image[..., None], 3, 2), mask)
    assert crop.shape[0] == crop.shape[1]
    np.testing.assert_array_equal(crop[..., 0][crop[..., 0] > 0], image[mask])
