"""Image files of all usual kinds are read as RGB; others are rejected by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from tasnb.datasets.images import load_image, to_rgb
from tasnb.settings import InputError

HEIGHT, WIDTH = 10, 12
PIXELS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
PIXELS[:5, :6], PIXELS[:5, 6:], PIXELS[5:, :6] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
RAMP = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 2  # 0 to 238


def saved(path: Path, image: Image.Image, **options: Any) -> np.ndarray:
    image.save(path, **options)
    found = load_image(path)
    assert found.dtype == np.uint8 and found.shape[2] == 3 and found.flags.c_contiguous
    return found


def test_rgb(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    np.testing.assert_array_equal(saved(path, Image.fromarray(PIXELS)), PIXELS)
    np.testing.assert_array_equal(load_image(str(path)), PIXELS)


def test_grey(tmp_path: Path) -> None:
    grey = np.repeat(RAMP[..., None], 3, 2)
    np.testing.assert_array_equal(saved(tmp_path / "x.png", Image.fromarray(RAMP)), grey)
    bits = saved(tmp_path / "y.png", Image.fromarray(RAMP).convert("1", dither=0))
    np.testing.assert_array_equal(bits, np.where(grey > 127, 255, 0))


def test_16_bits(tmp_path: Path) -> None:
    found = saved(tmp_path / "x.png", Image.fromarray(RAMP.astype(np.uint16) * 257))
    assert abs(found.astype(int) - RAMP[..., None]).max() <= 1
    assert (found[..., :1] == found).all()


def test_shares_of_light_are_not_black(tmp_path: Path) -> None:
    """32-bit floats from 0 to 1, as written by scientific software."""
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert load_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 127, 255]


def test_a_dark_image_of_16_bits_is_dark() -> None:
    assert to_rgb(Image.fromarray(np.full((2, 2), 255, np.uint16))).max() <= 1


SHARES = np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 2.5, 70000.0, -3.0])
def test_one_odd_pixel_leaves_the_others_as_they_are(tmp_path: Path, odd: float) -> None:
    """Missing and negative values are black; a bright spot is white."""
    wanted = saved(tmp_path / "a.tif", Image.fromarray(SHARES))
    assert wanted.max() == 255 and abs(wanted[..., 0].astype(int) - SHARES * 255).max() < 1
    values = SHARES.copy()
    values[2, 3] = odd
    found = saved(tmp_path / "b.tif", Image.fromarray(values))
    bright = np.isfinite(odd) and odd > 0
    assert (found[2, 3] == (255 if bright else 0)).all()
    found[2, 3] = wanted[2, 3]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
@pytest.mark.parametrize(
    ("top", "bright"), [(255, 300), (255, 65535), (65535, 70000), (65535, 2_000_000_000)]
)
def test_a_bright_spot_does_not_change_the_scale(kind: type, top: int, bright: int) -> None:
    values = np.linspace(0, top, 40).reshape(5, 8).astype(kind)
    wanted = to_rgb(Image.fromarray(values))
    assert wanted.max() == 255 and np.median(wanted) in (126, 127, 128)
    values[1, 1] = bright
    found = to_rgb(Image.fromarray(values))
    assert (found[1, 1] == 255).all()
    found[1, 1] = wanted[1, 1]
    np.testing.assert_array_equal(found, wanted)


def test_numbers_beyond_all_scales() -> None:
    values = np.array([[0, 250_000, 1_000_000]])
    for kind in (np.int32, np.float32):
        assert to_rgb(Image.fromarray(values.astype(kind)))[0, :, 0].tolist() == [0, 63, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0])
def test_an_image_without_any_light_is_black(value: float) -> None:
    found = to_rgb(Image.fromarray(np.full((3, 4), value, np.float32)))
    assert found.shape == (3, 4, 3) and not found.any()


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_transparent_parts_are_white(tmp_path: Path, suffix: str) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[0], alpha[1] = 0, 128
    image = Image.fromarray(np.dstack([PIXELS, alpha]))
    found = saved(tmp_path / f"x.{suffix}", image, lossless=True)
    np.testing.assert_array_equal(found[2:], PIXELS[2:])
    np.testing.assert_array_equal(found[0], np.full((WIDTH, 3), 255))
    assert abs(found[1, 0].astype(int) - (255, 127, 127)).max() <= 1
    grey = saved(tmp_path / "y.png", Image.fromarray(np.dstack([RAMP, alpha]), "LA"))
    assert (grey[0] == 255).all() and (grey[2:, :, 1] == RAMP[2:]).all()


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_palette_with_a_transparent_colour(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray((np.arange(HEIGHT * WIDTH) % 3).astype(np.uint8).reshape(HEIGHT, WIDTH))
    image = image.convert("P")
    image.putpalette([255, 0, 0, 0, 0, 255, 9, 9, 9])
    found = saved(tmp_path / f"x.{suffix}", image, transparency=2)
    np.testing.assert_array_equal(found[0, :3], [(255, 0, 0), (0, 0, 255), (255, 255, 255)])
    plain = saved(tmp_path / f"y.{suffix}", image)
    np.testing.assert_array_equal(plain[0, :3], [(255, 0, 0), (0, 0, 255), (9, 9, 9)])


def test_cmyk(tmp_path: Path) -> None:
    found = saved(tmp_path / "x.tif", Image.fromarray(PIXELS).convert("CMYK"))
    np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_cameras_rotation_is_obeyed(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees clockwise
    big = PIXELS.repeat(8, 0).repeat(8, 1)  # the colours fill whole JPEG blocks
    options = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    found = saved(tmp_path / f"x.{suffix}", Image.fromarray(big), exif=exif, **options)
    assert found.shape == (8 * WIDTH, 8 * HEIGHT, 3)
    assert abs(found.astype(int) - np.rot90(big, -1)).max() < 8


def test_a_pillow_image_is_what_its_file_is(tmp_path: Path) -> None:
    """Opened but not loaded, converted, or already rotated by the caller."""
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(PIXELS).save(tmp_path / "x.png", exif=exif)
    wanted = load_image(tmp_path / "x.png")
    assert wanted.shape == (WIDTH, HEIGHT, 3)
    with Image.open(tmp_path / "x.png") as image:
        turned = ImageOps.exif_transpose(image)
        for same in (image, image.convert("RGB"), image.convert("RGBA"), turned):
            np.testing.assert_array_equal(to_rgb(same), wanted)
        assert image.size == (WIDTH, HEIGHT)  # the caller's image is unchanged


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_colours_that_were_multiplied_by_their_alpha(mode: str) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[0], alpha[1] = 0, 128
    straight = Image.fromarray(np.dstack([PIXELS, alpha]))
    if mode == "La":
        straight = straight.convert("LA")
    found = to_rgb(straight.convert(mode))
    assert abs(found.astype(int) - to_rgb(straight)).max() <= 1
    assert (found[0] == 255).all() and not (found[2:] == 255).all()


MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
MODES += ["LAB", "I", "F", "I;16", "I;16B"]


@pytest.mark.parametrize("mode", MODES)
def test_every_usual_mode(mode: str) -> None:
    found = to_rgb(Image.new(mode, (4, 3)))
    assert found.shape == (3, 4, 3) and found.dtype == np.uint8


def test_files_that_are_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no image\n" * 100)
    for name, message in [
        ("none.png", "no image file at "),
        (".", "no image file at "),
        ("empty.png", "is empty"),
        ("text.jpg", "is not an image that Pillow can read"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            load_image(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's warning about truncated EXIF data
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
def test_a_truncated_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"truncated or damaged|not an image") as error:
            load_image(path)
        assert "\n" not in str(error.value)
    path.write_bytes(content)
    assert load_image(path).shape == noise.shape


def damaged(path: Path) -> Path:
    """An image whose decoder raises its own class of error."""
    if path.suffix == ".avif":
        Image.fromarray(PIXELS).save(path)
        content = bytearray(path.read_bytes())
        place = content.find(b"iloc")
        content[place : place + 4] = b"free"
    else:
        Image.fromarray(PIXELS).save(path)
        content = bytearray(path.read_bytes())
        content[84:88] = b"NONE"  # the pixel type
        content[80] = 4
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "suffix",
    [pytest.param("avif", marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF")),
     "dds"],
)  # fmt: skip
def test_whatever_a_decoder_raises(tmp_path: Path, suffix: str) -> None:
    path = damaged(tmp_path / f"x.{suffix}")
    with pytest.raises((RuntimeError, NotImplementedError)), Image.open(path) as image:
        image.load()
    with pytest.raises(InputError, match=r"x\.\w+ is truncated or damaged: .") as error:
        load_image(path)
    assert "\n" not in str(error.value)


def test_pillow_images_that_cannot_be_loaded(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as closed:
        pass
    content = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(content[:2000])
    with Image.open(tmp_path / "x.png") as cut:
        for image in (closed, cut):
            with pytest.raises(InputError, match=r"^the image is truncated or damaged: ") as error:
                to_rgb(image)
            assert "\n" not in str(error.value)


def test_an_image_that_does_not_fit_into_memory() -> None:
    class Huge(Image.Image):
        """Opened but not loaded; loading it needs more memory than any machine has."""

        size, width, height = (1 << 30, 1 << 31), 1 << 30, 1 << 31

        def load(self) -> None:
            np.zeros(self.width * self.height * 3, np.uint8)

    with pytest.raises(
        InputError, match=r"not enough memory to read the image \(1073741824 x 2147"
    ):
        to_rgb(Huge())
