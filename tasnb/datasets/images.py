"""Image files: read as RGB, whatever their kind, and known by their content."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasnb.settings import InputError


@lru_cache(maxsize=100_000)
def image_key(path: Path) -> str:
    """The name by which stored results know an image: its stem and a digest of its bytes.

    The stem keeps keys in the dataset's order, the digest makes a changed image a new one.
    """
    try:
        return f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file, read off its header.

    Raises:
        InputError: It cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def load_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """An image file of any usual kind as RGB: see ``to_rgb``.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: The file is missing, empty, truncated or no image, or too large for the memory.
    """
    from PIL import Image, UnidentifiedImageError

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
    """A Pillow image as RGB, loaded if it is not yet.

    A camera's rotation note (EXIF) is obeyed. Grey, palette, CMYK and transparent images are
    converted (transparent parts on white), those of 16 or 32 bits a pixel as ``_grey`` says.

    Args:
        image: Of any mode.
        name: What an error calls it.

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
