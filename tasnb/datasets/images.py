"""Image files: read as RGB, whatever their format, and identified by their content."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasnb.settings import InputError
from tasnb.store.files import size_and_time


class Header(NamedTuple):
    """What is known about an image file without decoding it.

    Attributes:
        digest: SHA-256 (64 hex digits) of the file.
        height, width: Size in pixels of the upright image, as ``load_image`` returns it.
        orientation: EXIF orientation, from 1 (no rotation) to 8.
    """

    digest: str
    height: int
    width: int
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width after applying the EXIF orientation."""
        return self.height, self.width

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width of the pixels as stored in the file."""
        return (self.width, self.height) if self.orientation >= 5 else self.upright

    def key(self, stem: str, as_stored: bool) -> str:
        """``image_key`` of a file with this stem."""
        digest = self.digest
        if as_stored:
            digest = hashlib.sha256(f"{digest}, as stored".encode()).hexdigest()
        return f"{stem}-{digest[:12]}"


@dataclass(frozen=True)
class ImageFile:
    """A dataset's image: its file, and the orientation that its annotations are for.

    Attributes:
        path: The file.
        key: Its name in stored results, from ``image_key``.
        as_stored: Whether the EXIF orientation is ignored.
    """

    path: Path
    key: str
    as_stored: bool = False

    def __fspath__(self) -> str:
        return str(self.path)

    __str__ = __fspath__

    def load(self) -> npt.NDArray[np.uint8]:
        """The pixels, RGB uint8 (H, W, 3).

        Raises:
            InputError: The file cannot be read, or has changed since the key was computed.
        """
        if image_key(self.path, self.as_stored) != self.key:
            raise InputError(
                f"{self.path} was replaced while this run was using it; start the run (or the "
                "notebook, from its first cell) again"
            )
        pixels = load_image(self.path)
        return turned_back(pixels, read_header(self.path).orientation) if self.as_stored else pixels


def image_key(path: Path, as_stored: bool = False) -> str:
    """The name of an image in stored results: its stem and a digest of its bytes.

    The stem keeps keys in the dataset's order; the digest gives a changed image a new key.

    Args:
        path: The file.
        as_stored: Whether the EXIF orientation is ignored, which changes the pixels.
    """
    return read_header(path).key(path.stem, as_stored)


def read_header(path: Path) -> Header:
    """Digest, size and orientation of an image file; read again only if the file changes.

    Raises:
        InputError: It cannot be read or is not an image.
    """
    try:
        return _header(path, size_and_time(path))
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: impossible file names
        raise InputError(f"cannot read {str(path)!a}: {_reason(error)}") from None


@lru_cache(maxsize=100_000)
def _header(path: Path, _changed: tuple[int, int]) -> Header:
    from PIL import Image

    content = path.read_bytes()
    if not content:
        raise InputError(f"{path} is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            orientation = _orientation(image, content)
            width, height = image.size
            swapped = orientation >= 5 and image.format != "TIFF"  # Pillow gives its upright size
    except Exception as error:  # on broken files Pillow may raise anything
        raise InputError(f"{path} is not an image that Pillow can read: {_reason(error)}") from None
    if swapped:
        height, width = width, height
    return Header(hashlib.sha256(content).hexdigest(), height, width, orientation)


def _orientation(image: Any, content: bytes) -> int:
    """The EXIF orientation of an opened image, 1 to 8."""
    marks = (b"eXIf", b"exif", b"XML:com.adobe.xmp")
    if image.format == "PNG" and not any(mark in content for mark in marks):
        return 1  # Pillow would decode the whole image to look for EXIF behind it
    orientation = image.getexif().get(0x0112, 1)
    return orientation if orientation in range(1, 9) else 1


def _reason(error: Exception) -> str:
    """Why a file could not be read, in one line and without the repr of the stream."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(reason.partition(" <_io.")[0].split()) or type(error).__name__


def turned_back(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Undoes the EXIF rotation of an upright image: the pixels as stored, (H, W, 3).

    Args:
        pixels: The upright image.
        orientation: Its EXIF orientation, 1 to 8.
    """
    transposed = pixels.swapaxes(0, 1)
    found = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: transposed,
        6: np.rot90(pixels),
        7: transposed[::-1, ::-1],
        8: np.rot90(pixels, 3),
    }.get(orientation, pixels)
    return np.ascontiguousarray(found)


def load_image(path: str | Path | ImageFile) -> npt.NDArray[np.uint8]:
    """Reads an image file of any common format as RGB; see ``to_rgb``.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: The file is missing, empty, truncated or not an image, or memory runs out.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(path, ImageFile):
        return path.load()
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no image file at {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that Pillow can read") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path} has too many pixels; scale it down first") from None
    except OSError as error:
        if error.errno is None:
            raise _damaged(str(path), error) from None
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:
        raise _damaged(str(path), error) from None
    with image:
        return to_rgb(image, str(path))


def to_rgb(image: Any, name: str = "the image") -> npt.NDArray[np.uint8]:
    """Converts a Pillow image to RGB and loads it if necessary.

    The EXIF orientation is applied. Grey, palette, CMYK and transparent images are converted
    (transparent parts become white); ``_grey`` converts images with 16 or 32 bits per pixel.

    Args:
        image: Of any mode.
        name: What to call it in an error message.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: Its file is truncated or damaged, or it is too large for the memory.
    """
    from PIL import ImageOps

    try:
        image.load()
        return _converted(ImageOps.exif_transpose(image))
    except MemoryError:
        raise InputError(
            f"there is not enough memory to read {name} ({image.width} x {image.height} pixels); "
            "scale it down"
        ) from None
    except Exception as error:
        raise _damaged(name, error) from None


def _damaged(name: str, error: Exception) -> InputError:
    """For whatever a decoder raises; each has habits of its own, and any error is the file's."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{name} is truncated or damaged: {said}")


def _converted(image: Any) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        top = 65535.0 if image.mode.startswith("I;16") else None
        return np.repeat(_grey(np.array(image, np.float64), top)[..., None], 3, axis=2)
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)  # colours were multiplied by alpha
    image = image.convert(straight) if straight else image
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return np.array(image.convert("RGB"))


def _grey(values: npt.NDArray[np.float64], top: float | None) -> npt.NDArray[np.uint8]:
    """Levels of grey of an image whose numbers do not say what white is.

    White is the first of 1, 255 and 65,535 that at least half of the lit pixels do not exceed: a
    few bright spots are cut off instead of turning all else black, and no scale is taken on which
    half of the picture would be black. If half of them exceed all three, the largest is white. NaN
    and infinities (pixels without data) count for nothing and become black, as do negative values.

    Args:
        values: (H, W); overwritten.
        top: White, where the kind of the file says it.

    Returns:
        uint8 (H, W).
    """
    values[~np.isfinite(values)] = 0
    lit = values[values > 0]
    if top is None and len(lit):
        half = np.median(lit)
        top = next((scale for scale in (1.0, 255.0, 65535.0) if half <= scale), lit.max())
    values /= top or 1.0
    values *= 255
    return np.clip(values, 0, 255, out=values).astype(np.uint8)
