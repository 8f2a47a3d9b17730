"""Labels on pictures that are saved as they are, without matplotlib."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

DARK, LIGHT = (28, 28, 30), (255, 255, 255)


def dimmed(image: Image.Image, label: str) -> Image.Image:
    """A picture of the same size in dark grey, with a label in a band at the bottom.

    Args:
        image: RGB.
        label: One line; it is drawn as large as fits, up to a fourteenth of the height.
    """
    grey = image.convert("L").convert("RGB")
    out = Image.blend(grey, Image.new("RGB", image.size, DARK), 0.45)
    draw = ImageDraw.Draw(out)
    largest = max(8, image.height // 14)
    length = draw.textlength(label, ImageFont.load_default(largest))
    size = largest * min(1.0, 0.92 * image.width / length)
    font = ImageFont.load_default(max(1.0, size))
    _, top, right, bottom = draw.textbbox((0, 0), label, font)
    band = min(image.height, 2 * (bottom - top))
    draw.rectangle((0, image.height - band, image.width, image.height), DARK)
    place = (image.width - right) / 2, image.height - band / 2 - (top + bottom) / 2
    draw.text(place, label, LIGHT, font)
    return out
