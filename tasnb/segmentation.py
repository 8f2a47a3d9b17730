"""The whole of TAS in one call, for pictures and expressions of one's own."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.datasets.expressions import check_expression
from tasnb.datasets.images import ImageFile, image_key, load_image, to_rgb
from tasnb.datasets.splits import Split
from tasnb.method import proposals
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.models.devices import free, is_out_of_memory
from tasnb.models.encoders import load_encoder
from tasnb.settings import InputError, Settings, make_settings
from tasnb.store.files import size_and_time

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | Path | ImageFile | npt.NDArray[np.uint8] | Image

COLUMNS = [
    "mask_id", "V", "P", "N", "S", "center_x", "center_y", "kept", "chosen", "caption",
]  # fmt: skip

# Pictures that are processed together: 64 of 640 x 480, or fewer larger ones, since those that are
# not files are kept in memory until they are answered.
_PIXELS = 20_000_000
_PAIRS = 1024

THIN = 100  # beyond this, nothing may be left of a picture that is scaled down for a model


@dataclass(frozen=True, repr=False)
class Segmentation:
    """The object that an expression refers to in an image.

    Attributes:
        image: RGB uint8 (H, W, 3).
        expression: The expression as given.
        mask: bool (H, W); empty if there are no proposals.
        frame: One row per proposal: mask_id, V, P, N, S, center_x, center_y (pixels), kept (by the
            rectifier), chosen, caption.
    """

    image: npt.NDArray[np.uint8]
    expression: str
    mask: npt.NDArray[np.bool_]
    frame: pd.DataFrame

    def __repr__(self) -> str:
        height, width = self.mask.shape
        masks = f"{len(self.frame)} mask{'' if len(self.frame) == 1 else 's'}"
        return (
            f"Segmentation({self.expression!r}: {100 * self.mask.mean():.1f} % of {width} x "
            f"{height} pixels, chosen from {masks})"
        )

    def _repr_html_(self) -> str:
        """Shown in notebooks: the expression, the picture with the mask, and the table."""
        file, overlay = io.BytesIO(), self.overlay()
        overlay.thumbnail((960, 960))  # only for display
        overlay.save(file, "PNG")
        picture = base64.b64encode(file.getvalue()).decode("ascii")
        words = html.escape(self.expression)
        table = self.frame.round(3).to_html(index=False, border=0)  # escapes captions
        return (
            f'<div class="tex2jax_ignore mathjax_ignore"><p>“{words}”</p>'
            f'<img alt="{words}" style="max-width: min(100%, 640px)" '
            f'src="data:image/png;base64,{picture}">{table}</div>'
        )

    def overlay(self) -> Image:
        """The image with the mask in colour."""
        from PIL import Image

        from tasnb.drawing.figures import TAS, paint_mask

        return Image.fromarray(paint_mask(self.image, self.mask, TAS))

    def mask_image(self) -> Image:
        """The mask as a greyscale picture of the size of the image, 255 inside and 0 outside."""
        from PIL import Image

        return Image.fromarray(self.mask.astype(np.uint8) * 255)

    def record(self) -> dict[str, Any]:
        """The answer as a JSON-serializable row in COCO's results format.

        Returns:
            expression, size [h, w], segmentation (size and counts, for ``pycocotools.mask``), area
            (pixels), bbox [x, y, w, h], and the score S, mask_id and caption of the chosen
            proposal, which are None, -1 and "" if there are no proposals.
        """
        rle = coco_mask.encode(np.asfortranarray(self.mask, np.uint8))
        chosen = self.frame[self.frame["chosen"].astype(bool)]
        best = chosen.iloc[0] if len(chosen) else {"S": None, "mask_id": -1, "caption": ""}
        size = [int(side) for side in rle["size"]]
        return {
            "expression": self.expression,
            "size": size,
            "segmentation": {"size": size, "counts": rle["counts"].decode("ascii")},
            "area": int(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
            "score": None if best["S"] is None else float(best["S"]),
            "mask_id": int(best["mask_id"]),
            "caption": str(best["caption"]),
        }


@dataclass(frozen=True)
class _Asked:
    """A valid pair: the expression, and the key, size and source of the image."""

    expression: str
    key: str
    height: int
    width: int
    source: ImageFile | npt.NDArray[np.uint8]


def segment(
    image: Picture, expression: str, profile: str = "embedded", **overrides: Any
) -> Segmentation:
    """Segments the object that an expression refers to (sections 3.2 to 3.4).

    Results for the image are stored, so that further expressions are answered quickly. The function
    may be called from several threads, which take turns in using the models.

    Args:
        image: A file, pixels (uint8, (H, W), (H, W, 3) or (H, W, 4)) or a Pillow image. The EXIF
            orientation of files and Pillow images is applied.
        expression: A referring expression, such as "the left cat".
        profile: Selects the models.
        **overrides: Other settings; the last of ``encoders`` is used.

    Raises:
        InputError: The image is unreadable or does not fit into memory, the expression is blank, or
            a setting is invalid.
    """
    return next(segment_many([(image, expression)], profile, **overrides))


def segment_many(
    pairs: Iterable[tuple[Picture, str]],
    profile: str = "embedded",
    errors: Literal["raise", "return"] = "raise",
    **overrides: Any,
) -> Iterator[Segmentation]:
    """Segments many images by many expressions.

    About sixty images are processed at a time (fewer large ones), and their answers are returned
    before the next ones are processed. Image files are read when needed and not kept, so memory
    does not grow with the number of pairs unless the caller keeps the answers. Results are stored:
    repeated pairs are fast, and an interrupted run can be resumed.

    Args:
        pairs: Any iterable of pairs of an image and an expression, as in ``segment``.
        profile: Selects the models.
        errors: What to do with a pair whose image is unreadable or does not fit into memory, or
            whose expression is blank: "raise" an InputError, or "return" it in place of the answer
            and continue.
        **overrides: Other settings; the last of ``encoders`` is used.

    Returns:
        An iterator over the answers, one per pair and in order.

    Raises:
        InputError: A setting is invalid (raised immediately), or a pair cannot be answered (raised
            by the iterator).
    """
    if errors not in ("raise", "return"):
        raise InputError(f"errors = {errors!r}: should be 'raise' or 'return'")
    settings = make_settings(profile, **overrides)
    return _answers(pairs, settings, errors == "return")


def _answers(
    pairs: Iterable[tuple[Picture, str]], settings: Settings, keep_errors: bool
) -> Iterator[Any]:
    pipeline = Pipeline(settings)
    for chunk in _chunks(pairs, settings):
        answers = _answer([asked for asked in chunk if isinstance(asked, _Asked)], pipeline)
        for asked in chunk:
            answer = next(answers) if isinstance(asked, _Asked) else asked
            if isinstance(answer, InputError) and not keep_errors:
                raise answer
            yield answer


def _chunks(
    pairs: Iterable[tuple[Picture, str]], settings: Settings
) -> Iterator[list[_Asked | InputError]]:
    """Groups of pairs whose images fit into memory together."""
    most = 4 * settings.shard_size  # whole shards
    chunk: list[_Asked | InputError] = []
    sizes: dict[str, int] = {}
    last: Any = None
    asked: _Asked | None = None
    for image, expression in pairs:
        try:
            check_expression(expression)
            if asked is None or image is not last or not _is_unchanged(asked):
                asked = _asked(image, settings)
            last = image
            sizes[asked.key] = asked.height * asked.width
            chunk.append(replace(asked, expression=expression))
        except InputError as error:
            chunk.append(error)
        if len(sizes) >= most or len(chunk) >= _PAIRS or sum(sizes.values()) >= _PIXELS:
            yield chunk
            chunk, sizes, last, asked = [], {}, None, None
    if chunk:
        yield chunk


def _asked(image: Picture, settings: Settings) -> _Asked:
    """Reads an image; the expression is filled in later."""
    path = Path(image) if isinstance(image, (str, Path, ImageFile)) else None
    stamp = _stamp(path)
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    if max(height, width) > THIN * min(height, width):
        raise InputError(
            f"{path or 'the image'} is too thin, {width} x {height} pixels: the longer side may be "
            f"at most {THIN} times the shorter one"
        )
    hashed = hashlib.sha256(np.ascontiguousarray(pixels))
    hashed.update(bytes(str(pixels.shape), "ascii"))
    digest = hashed.hexdigest()
    key = f"picture-{digest[:16]}"
    if settings.proposal_network.startswith("file:"):  # which needs a number at the end
        number = re.search(r"\d+$", path.stem) if path else None
        key = f"picture-{number[0]}-{digest[:12]}" if number else f"{key}-unnumbered"
    source: ImageFile | npt.NDArray[np.uint8] = pixels
    if path is not None:
        # Stages open the file again later; it must still be the one whose pixels gave the key.
        source = image if isinstance(image, ImageFile) else ImageFile(path, image_key(path))
        if _stamp(path) != stamp:
            raise InputError(f"{path} was replaced while it was being read; try again")
    return _Asked("", key, height, width, source)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        return size_and_time(path) if path is not None else None
    except (OSError, ValueError):  # reading it will say what is wrong
        return None


def _is_unchanged(asked: _Asked) -> bool:
    """Whether an image need not be read again for the next expression: arrays may be refilled."""
    source = asked.source
    if not isinstance(source, ImageFile):
        return False
    try:
        return image_key(source.path, source.as_stored) == source.key
    except InputError:
        return False


def _answer(chunk: list[_Asked], pipeline: Pipeline) -> Iterator[Segmentation | InputError]:
    """The answers to some pairs, which go through each stage together.

    If memory runs out, each image is processed on its own, and the answer for images that are still
    too large is an error. So is the answer for files that were replaced or removed meanwhile.
    """
    if not chunk:
        return
    images = {asked.key: asked.source for asked in chunk}
    split = Split("", "", _sentences(chunk), images)
    try:
        scored = _score(split, pipeline)
    except InputError:
        gone = {a.key for a in chunk if isinstance(a.source, ImageFile) and not _is_unchanged(a)}
        if not gone:
            raise
        answers = _answer([asked for asked in chunk if asked.key not in gone], pipeline)
        for asked in chunk:
            yield _gone(asked) if asked.key in gone else next(answers)
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        refused = next(iter(str(error).splitlines()), "") or type(error).__name__
        scored = None
    if scored is not None:
        yield from _chosen(chunk, split, scored, pipeline)
        return
    free()  # outside the handler, whose traceback keeps memory in use
    if len(images) == 1:
        yield from (_too_large(asked, refused) for asked in chunk)
        return
    alone = {key: _answer([a for a in chunk if a.key == key], pipeline) for key in images}
    for asked in chunk:
        yield next(alone[asked.key])


def _gone(asked: _Asked) -> InputError:
    return InputError(
        f"{asked.source} was replaced or removed before its turn; keep a file until its answer is "
        "there"
    )


def _too_large(asked: _Asked, refused: str) -> InputError:
    name = "the image" if isinstance(asked.source, np.ndarray) else asked.source
    return InputError(
        f"there is not enough memory for {name} ({asked.width} x {asked.height} pixels; "
        f"{refused[:120]}); scale it down"
    )


def _score(split: Split, pipeline: Pipeline) -> ScoreTable:
    """Computes the scores of some pairs; most intermediate results are stored."""
    settings = pipeline.settings
    # warns here, since texts whose embeddings are stored are not encoded again
    encoder = load_encoder(settings.encoders[-1], settings)
    encoder.warn_of_cuts(list(dict.fromkeys(split.sentences["sentence"])))
    return pipeline.score(split, settings.encoders[-1])


def _chosen(
    chunk: list[_Asked], split: Split, scored: ScoreTable, pipeline: Pipeline
) -> Iterator[Segmentation]:
    """The answers to pairs whose masks have been scored."""
    settings = pipeline.settings
    pairs = scored.pairs.assign(S=scored.total(settings.alpha, settings.lam))
    chosen = scored.choose(pairs["S"].to_numpy(), rectify=True)
    pairs["chosen"] = np.isin(np.arange(len(pairs)), chosen)
    some = pairs.groupby("sentence")["in_region"].transform("any").astype(bool)
    pairs["kept"] = pairs["in_region"].astype(bool) | ~some  # an empty region keeps all
    ends = np.searchsorted(pairs["sentence"], np.arange(len(chunk) + 1))
    masks = pipeline.refined(split.images).set_index(["image", "mask_id"])
    pixels, held = np.zeros((0, 0, 3), np.uint8), ""
    for i, asked in enumerate(chunk):
        frame = pairs.iloc[ends[i] : ends[i + 1]].reset_index(drop=True)
        mask = np.zeros((asked.height, asked.width), bool)
        if len(frame):
            best = (asked.key, pairs["mask_id"].iloc[chosen[i]])
            mask = proposals.decode(masks.loc[[best]])[0]
        else:
            frame = pd.DataFrame(columns=COLUMNS)
        if asked.key != held:
            pixels, held = pipeline.pixels(split.images, asked.key), asked.key
        yield Segmentation(pixels, asked.expression, mask, frame[COLUMNS])


def _sentences(chunk: list[_Asked]) -> pd.DataFrame:
    """The sentences of a ``Split``, with an empty ground truth."""

    @cache
    def nothing(height: int, width: int) -> bytes:
        return coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))["counts"]

    rows = [
        {
            "sent_id": i, "sentence": asked.expression.strip(), "ref_id": i, "image": asked.key,
            "height": asked.height, "width": asked.width, "target": "",
            "names": (), "ground_truth": nothing(asked.height, asked.width), "truth_area": 0,
            "share": 0.0,
        }
        for i, asked in enumerate(chunk)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _pixels(image: Any) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if isinstance(image, (str, Path, ImageFile)):
        try:
            return load_image(image)
        except OSError as error:  # about the name itself, such as one that is too long
            raise InputError(f"cannot read {image}: {error.strerror or error}") from None
    if isinstance(image, Image.Image):
        return to_rgb(image)
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(
            f"an image should be uint8 of shape (H, W), (H, W, 3) or (H, W, 4), not {array.dtype} "
            f"{array.shape}"
        )
    if array.ndim == 3 and array.shape[2] not in (3, 4):
        raise InputError(f"an image should have 3 or 4 channels last, not shape {array.shape}")
    return to_rgb(Image.fromarray(array))
