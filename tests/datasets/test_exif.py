"""Images with an EXIF orientation are read the way in which they were annotated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from own_dataset import HEIGHT, WIDTH, change
from PIL import Image

from tasnb.datasets.images import image_key, load_image, read_header, turned_back
from tasnb.datasets.splits import load_split
from tasnb.method.stages import Stages
from tasnb.settings import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def oriented(path: Path, orientation: int, pixels: np.ndarray = PIXELS) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg"])
def test_a_header_knows_both_sizes(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    oriented(path, orientation)
    header, upright = read_header(path), load_image(path)
    assert header.orientation == orientation
    assert header.upright == upright.shape[:2] and header.stored == (HEIGHT, WIDTH)
    if suffix in ("png", "tif"):  # the others are not identical pixel by pixel
        np.testing.assert_array_equal(turned_back(upright, orientation), PIXELS)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_there_is_not(tmp_path: Path, orientation: int) -> None:
    oriented(tmp_path / "x.png", orientation)
    assert read_header(tmp_path / "x.png").orientation == 1
    assert load_image(tmp_path / "x.png").shape == PIXELS.shape


def turn(own: Path, **orientations: int) -> None:
    for name, orientation in orientations.items():
        oriented(own / "images" / f"{name}.png", orientation)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_annotations_of_the_stored_pixels(own: Path, orientation: int) -> None:
    """From tools that ignore EXIF: pixels as stored in the file, with a separate key."""
    turn(own, a=orientation)
    settings = change(own, lambda refs, tables: None)  # sizes are those of the files
    split = load_split(settings, str(own), "val")
    (key,) = {key for key in split.images if key.startswith("a-")}
    assert key == image_key(own / "images" / "a.png", as_stored=True)
    assert key != image_key(own / "images" / "a.png")
    np.testing.assert_array_equal(Stages(settings).pixels(split.images, key), PIXELS)
    assert split.ground_truth(0).shape == PIXELS.shape[:2]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_annotations_of_the_upright_picture(own: Path, orientation: int) -> None:
    turn(own, a=orientation)

    def damage(refs: list, tables: dict) -> None:
        next(row for row in tables["images"] if row["id"] == 5).update(height=WIDTH, width=HEIGHT)
        refs[3]["ann_id"] = 11  # run lengths would have the other size

    settings = change(own, damage)
    split = load_split(settings, str(own), "val")
    (key,) = {key for key in split.images if key.startswith("a-")}
    assert key == image_key(own / "images" / "a.png")
    pixels = Stages(settings).pixels(split.images, key)
    assert pixels.shape[:2] == split.ground_truth(0).shape == (WIDTH, HEIGHT)


def test_a_size_that_is_nowhere_written(own: Path) -> None:
    """Then EXIF is applied, as everywhere else."""
    turn(own, a=6)

    def damage(refs: list, tables: dict) -> None:
        for row in tables["images"]:
            del row["height"], row["width"]
        refs[3]["ann_id"] = 11

    split = load_split(change(own, damage), str(own), "val")
    assert split.ground_truth(0).shape == (WIDTH, HEIGHT)


def test_a_size_that_fits_neither(own: Path) -> None:
    turn(own, a=6)

    def double(_: list, tables: dict) -> None:
        for row in tables["images"]:
            row.update(height=2 * row["height"], width=2 * row["width"])

    with pytest.raises(InputError) as error:
        load_split(change(own, double), str(own), "val")
    assert (
        f"{own}/images/a.png is 10 x 12 pixels (12 x 10 as stored), but its annotations are for "
        "24 x 20 (width x height)" in str(error.value)
    )


def test_a_plain_picture_of_another_size(own: Path) -> None:
    """Including one rotated by 90 degrees for which the file gives no reason."""
    settings = change(own, lambda _, tables: tables["images"][0].update(height=WIDTH, width=HEIGHT))
    with pytest.raises(
        InputError, match=r"c\.png is 12 x 10 pixels, but its annotations are for 10 x"
    ):
        load_split(settings, str(own), "val")
    assert load_split(settings.model_copy(update={"limit": 1}), str(own), "val").images


@pytest.mark.parametrize(
    ("others", "how"),
    [({"b": 6}, "as stored (like the others)"),
     ({}, "rotated according to EXIF (the annotations do not settle it)")],
)  # fmt: skip
@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_where_the_size_does_not_tell(own: Path, others: dict, how: str, orientation: int) -> None:
    """Upside down or mirrored: treated like the other images of the dataset, with a warning."""
    turn(own, a=orientation, **others)
    settings = change(own, lambda refs, tables: None)
    with pytest.warns(UserWarning, match=r"\(1, for example .*a\.png\)") as caught:
        split = load_split(settings, str(own), "val")
    assert how in str(caught[0].message)
    pixels = next(file.load() for key, file in split.images.items() if key.startswith("a-"))
    assert (pixels == PIXELS).all() == bool(others)


def test_a_square_picture_among_pictures_turned_by_exif(own: Path) -> None:
    """In a dataset whose tool applies EXIF; a square image itself gives no clue."""
    turn(own, b=6)
    oriented(own / "images" / "a.png", 6, PIXELS[:, :HEIGHT])

    def damage(refs: list, tables: dict) -> None:
        for row in tables["images"]:
            if row["id"] in (5, 6):
                row.update(height=WIDTH if row["id"] == 6 else HEIGHT, width=HEIGHT)
        refs[3]["ann_id"], refs[4]["ann_ids"] = 11, [11]

    with pytest.warns(UserWarning, match=r"rotated according to EXIF \(like the others\)"):
        split = load_split(change(own, damage), str(own), "val")
    square = next(file for key, file in split.images.items() if key.startswith("a-"))
    np.testing.assert_array_equal(square.load(), np.rot90(PIXELS[:, :HEIGHT], 3))


# --- images that change, and files that are no images


def test_a_replaced_picture_is_another_image(own: Path) -> None:
    """In one process: the new image has a new key, and the old one does not get the new pixels."""
    settings = change(own, lambda refs, tables: None)
    before = load_split(settings, str(own), "val")
    oriented(own / "images" / "a.png", 1)
    after = load_split(settings, str(own), "val")
    old, new = (next(k for k in split.images if k[0] == "a") for split in (before, after))
    assert old != new
    np.testing.assert_array_equal(Stages(settings).pixels(after.images, new), PIXELS)
    with pytest.raises(InputError, match=r"a\.png was replaced while this run was using it"):
        Stages(settings).pixels(before.images, old)
    same = [k for k in before.images if k != old]
    assert [k for k in after.images if k != new] == same


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "a.png is empty"), (b"no picture", "a.png is not an image that Pillow can read"),
     (None, "cannot read .*a.png'?: No such file"), ("folder", "cannot read .*: Is a directory")],
)  # fmt: skip
def test_a_file_that_is_no_picture(own: Path, content: bytes | str | None, message: str) -> None:
    path = own / "images" / "a.png"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    with pytest.raises(InputError, match=message) as error:
        load_split(change(own, lambda refs, tables: None), str(own), "val")
    assert "\n" not in str(error.value) and "BytesIO" not in str(error.value)


def test_names_of_files(own: Path) -> None:
    """Absolute, in another folder, twice the same: any path to a file; all else is rejected."""
    names = json.loads((own / "instances.json").read_text())["images"]
    expected = load_split(change(own, lambda refs, tables: None), str(own), "val").sentences
    path = own / "images" / names[0]["file_name"]
    for name in (str(path), f"../images/{path.name}"):
        settings = change(own, lambda _, tables, n=name: tables["images"][0].update(file_name=n))
        assert load_split(settings, str(own), "val").sentences.equals(expected)
    for name in ("a\0b.png", "\ud83d.png", "x" * 300):
        settings = change(own, lambda _, tables, n=name: tables["images"][0].update(file_name=n))
        with pytest.raises(InputError, match="cannot read") as error:
            load_split(settings, str(own), "val")
        assert str(error.value).isascii()
    for name in (None, 7, "", ["c.png"]):
        settings = change(own, lambda _, tables, n=name: tables["images"][0].update(file_name=n))
        with pytest.raises(InputError, match="image 4 has an unusable file_name"):
            load_split(settings, str(own), "val")
