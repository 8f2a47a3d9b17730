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
    """An image file of any usual kind as RGB.

    Grey, palette, CMYK, 16-bit and transparent images are converted (transparent parts on white),
    and a camera's rotation note (EXIF) is obeyed.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: The file is missing, empty, truncated or no image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no image file at {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    try:
        with Image.open(path) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that Pillow can read") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path} has too many pixels; scale it down first") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on broken files
        raise InputError(f"{path} is truncated or damaged: {error}") from None


def to_rgb(image: Any) -> npt.NDArray[np.uint8]:
    """A Pillow image of any mode as RGB uint8 (H, W, 3)."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel: Pillow's own conversion clips
        values = np.asarray(image, dtype=np.float64)
        most = values.max()
        wide = image.mode.startswith("I;16") or most > 255
        shares = image.mode == "F" and 0 < most <= 1
        top = 1.0 if shares else 65535.0 if wide else 255.0
        grey = np.clip(values / top * 255, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return np.array(image.convert("RGB"))
