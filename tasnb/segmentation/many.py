"""The whole of TAS in one call, for pictures and expressions of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from tasnb.datasets.expressions import check_expression
from tasnb.datasets.images import ImageFile
from tasnb.datasets.splits import Split
from tasnb.method import answers, proposals
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.models.devices import free, is_out_of_memory
from tasnb.models.encoders import load_encoder
from tasnb.segmentation import pictures
from tasnb.segmentation.answer import Segmentation, columns_of
from tasnb.segmentation.pictures import Asked, is_unchanged, split_of
from tasnb.settings import InputError, Settings, make_settings

if TYPE_CHECKING:
    from tasnb.segmentation.pictures import Picture

# Pictures that are processed together: 64 of 640 x 480, or fewer larger ones, since those that are
# not files are kept in memory until they are answered.
_PIXELS = 20_000_000
_PAIRS = 1024


def segment(
    image: Picture, expression: str, profile: str = "embedded", **overrides: Any
) -> Segmentation:
    """Segments the object that an expression refers to (sections 3.2 to 3.4).

    With ``answers="any"``, several objects or none may be the answer: ``masks`` of the result has
    each of them, ``mask`` their union, and ``fits_nothing`` says whether there are none.

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
        answers = _answer([asked for asked in chunk if isinstance(asked, Asked)], pipeline)
        for asked in chunk:
            answer = next(answers) if isinstance(asked, Asked) else asked
            if isinstance(answer, InputError) and not keep_errors:
                raise answer
            yield answer


def _chunks(
    pairs: Iterable[tuple[Picture, str]], settings: Settings
) -> Iterator[list[Asked | InputError]]:
    """Groups of pairs whose images fit into memory together."""
    most = 4 * settings.shard_size  # whole shards
    chunk: list[Asked | InputError] = []
    sizes: dict[str, int] = {}
    last: Any = None
    asked: Asked | None = None
    for image, expression in pairs:
        try:
            check_expression(expression)
            if asked is None or image is not last or not is_unchanged(asked):
                asked = pictures.asked(image, settings)
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


def _answer(chunk: list[Asked], pipeline: Pipeline) -> Iterator[Segmentation | InputError]:
    """The answers to some pairs, which go through each stage together.

    If memory runs out, each image is processed on its own, and the answer for images that are still
    too large is an error. So is the answer for files that were replaced or removed meanwhile.
    """
    if not chunk:
        return
    split = split_of(chunk)
    try:
        scored = _score(split, pipeline)
    except InputError:
        gone = {a.key for a in chunk if isinstance(a.source, ImageFile) and not is_unchanged(a)}
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
    if len(split.images) == 1:
        yield from (_too_large(asked, refused) for asked in chunk)
        return
    alone = {key: _answer([a for a in chunk if a.key == key], pipeline) for key in split.images}
    for asked in chunk:
        yield next(alone[asked.key])


def _gone(asked: Asked) -> InputError:
    return InputError(
        f"{asked.source} was replaced or removed before its turn; keep a file until its answer is "
        "there"
    )


def _too_large(asked: Asked, refused: str) -> InputError:
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
    chunk: list[Asked], split: Split, scored: ScoreTable, pipeline: Pipeline
) -> Iterator[Segmentation]:
    """The answers to pairs whose masks have been scored."""
    settings = pipeline.settings
    total = scored.total(settings.alpha, settings.lam)
    found = answers.answers(scored, total, settings)
    pairs = scored.pairs.assign(S=scored.placed(total), chosen=found.members)
    some = pairs.groupby("sentence")["in_region"].transform("any").astype(bool)
    pairs["kept"] = pairs["in_region"].astype(bool) | ~some  # an empty region keeps all
    ends = np.searchsorted(pairs["sentence"], np.arange(len(chunk) + 1))
    masks = pipeline.refined(split.images).set_index(["image", "mask_id"])
    names = columns_of(pairs)
    least = settings.least_evidence if settings.answers == "any" else None
    pixels, held = np.zeros((0, 0, 3), np.uint8), ""
    for i, asked in enumerate(chunk):
        frame = pairs.iloc[ends[i] : ends[i + 1]].reset_index(drop=True)
        chosen = np.zeros((0, asked.height, asked.width), bool)
        if len(frame):
            best_first = frame[frame["chosen"]].sort_values("S", ascending=False, kind="stable")
            members = [(asked.key, mask_id) for mask_id in best_first["mask_id"]]
            if members:
                chosen = proposals.decode(masks.loc[members])
        else:
            frame = pd.DataFrame(columns=names)
        if asked.key != held:
            pixels, held = pipeline.pixels(split.images, asked.key), asked.key
        yield Segmentation(pixels, asked.expression, chosen, frame[names], least)
