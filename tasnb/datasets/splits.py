"""Loads splits (images, expressions and ground truth) in the REFER layout or PhraseCut's."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.datasets.described import annotations, check_size, describe, image_folder, layout
from tasnb.datasets.exif import readings
from tasnb.datasets.images import ImageFile
from tasnb.datasets.layout import Layout
from tasnb.datasets.reading import mend
from tasnb.profiles import (
    DATASETS,
    PROFILES,
    Dataset,
    counterpart,
    file_part,
    short_digest,
    stem,
    title,
)
from tasnb.settings import InputError, Settings, unknown

COLUMNS = [
    "sent_id", "sentence", "ref_id", "image", "height", "width", "target", "names", "objects",
    "ground_truth", "truth_area", "share",
]  # fmt: skip


@dataclass(frozen=True)
class Split:
    """One column of the tables.

    Attributes:
        dataset, split: Such as "refscenes" and "testA".
        sentences: One row per sentence: sent_id, sentence, ref_id, image (key), target (name of
            its category), names (tuple: the category, then what else people would call the target,
            if the dataset says so), objects (of which the target consists), ground_truth
            (compressed COCO RLE, bytes), truth_area (pixels), share (fraction of the image covered
            by the target).
        images: Image key -> image file.
        no_target: Sentences without a target in their image, as in gRefCOCO, with an empty ground
            truth; they are not part of ``sentences`` or its metrics.
        things: Image key -> the ``names`` of everything that is annotated in the image, including
            what no sentence refers to.
    """

    dataset: str
    split: str
    sentences: pd.DataFrame
    images: dict[str, ImageFile]
    no_target: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    things: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)

    def ground_truth(self, row: int) -> npt.NDArray[np.bool_]:
        """The ground-truth mask (H, W) of the row-th sentence."""
        truth = self.sentences.iloc[row]
        size = [int(truth["height"]), int(truth["width"])]
        return coco_mask.decode({"size": size, "counts": truth["ground_truth"]}).astype(bool)


def columns(settings: Settings) -> list[tuple[str, str]]:
    """The (dataset, split) pairs of a run, in the order of the paper's tables.

    Raises:
        InputError: A user's own dataset cannot be read, or no dataset has the requested splits.
    """
    found = []
    for dataset in settings.datasets:
        there = list(describe(dataset).splits)
        if dataset not in DATASETS and not settings.splits and len(there) > 1:
            there = [split for split in there if split != "train"]
        found += [(dataset, s) for s in there if not settings.splits or s in settings.splits]
    if not found:
        known = dict.fromkeys(s for d in settings.datasets for s in describe(d).splits)
        raise unknown("split", settings.splits[0], known)
    return found


def stand_in(settings: Settings, paper: str, split: str) -> tuple[str, str]:
    """The run's column that corresponds to one of the paper's, or else the profile's.

    A run on the user's own datasets only has no such column; its first one is returned.
    """
    if not any(dataset in DATASETS for dataset in settings.datasets):
        return columns(settings)[0]
    known = (*settings.datasets, *PROFILES[settings.profile]["datasets"])
    return next(dataset for dataset in known if counterpart(dataset) == paper), split


def ablated(settings: Settings) -> tuple[str, str]:
    """The column of the paper's ablations: RefCOCO val, or what stands in for it."""
    return stand_in(settings, "RefCOCO", "val")


def column_name(settings: Settings, dataset: str, split: str) -> str:
    """A column's name for use in file names, such as "refscenes-val".

    It is unique within a run, whatever the folders and splits are called.
    """
    names = settings.datasets
    name = f"{stem(dataset, names)}-{file_part(split)}"
    if dataset in DATASETS:
        return name
    same = [
        other
        for other in dict.fromkeys([*columns(settings), (dataset, split)])
        if f"{stem(other[0], names)}-{file_part(other[1])}".casefold() == name.casefold()
    ]
    return name if same[0] == (dataset, split) else f"{name}-{short_digest(dataset, split)}"


def load_split(settings: Settings, dataset: str, split: str) -> Split:
    """Reads a split, or ``settings.limit`` of its images.

    A ref whose target does not cover any pixel of its image is left out, with a warning.

    Args:
        dataset: One of ``DATASETS``, or the path of a folder in the REFER layout.
        split: Its name in the tables.

    Raises:
        InputError: The dataset or split is unknown, a file is missing or invalid, annotations do
            not fit their image, or the size of the split differs from the published one.
    """
    found = _read_split(settings, dataset, split)
    if found.sentences.empty:
        some = f"{settings.images_used.partition(' of ')[0]} of " if settings.limit else ""
        raise InputError(
            f"{some}{title(dataset, settings.datasets)} {split}: no sentence has a target in its "
            f"image{'; raise the limit' if settings.limit else ', so nothing can be measured'}"
        )
    return found


def _read_split(settings: Settings, dataset: str, split: str) -> Split:
    """``load_split``, but possibly without any sentence that has a target."""
    described = describe(dataset)
    if split not in described.splits:
        raise unknown(f"split of {described.title}", split, described.splits)
    folder = settings.data / described.folder
    try:
        return _gathered(settings, dataset, described, split)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{folder} is not in the REFER layout ({error!r}); {mend(folder)}"
        ) from None


def _gathered(settings: Settings, dataset: str, described: Dataset, split: str) -> Split:
    kind = _layout(settings, described, split)
    refs, order = kind.refs, dict.fromkeys(ref["image_id"] for ref in kind.refs)
    counts = (len(refs), sum(len(ref["sentences"]) for ref in refs), len(order))
    folder = settings.data / described.folder
    column = f"{title(dataset, settings.datasets)} {split}"
    check_size(column, counts, described.sizes.get(split), folder)
    if not counts[1]:
        raise InputError(f"{column} contains no sentences; {mend(folder)}")
    root, pictures = image_folder(settings, described), {}
    for i in _sample(settings, order):
        name, *size = kind.picture(i)
        pictures[i] = (root / name, tuple(size) if all(size) else None)
    images = readings(pictures, column)
    rows: tuple[list[dict[str, Any]], ...] = ([], [])  # with a target, and without
    outside = []
    things: dict[str, dict[tuple[str, ...], None]] = {}  # in order, without duplicates
    for i, (image, _) in images.items():
        things.setdefault(image.key, {}).update(dict.fromkeys(kind.things(i)))
    for ref in refs:
        if ref["image_id"] not in images:
            continue
        image, (height, width) = images[ref["image_id"]]
        target, names = kind.target(ref), kind.names(ref)
        truth = kind.truth(ref, height, width)
        things[image.key].update(dict.fromkeys([names] if names else []))
        area = int(coco_mask.area(truth)) if truth else 0
        if truth and not area:
            outside.append(ref)
            continue
        for sentence in ref["sentences"]:
            rows[not truth].append(
                {
                    "sent_id": sentence["sent_id"],
                    "sentence": sentence["sent"],
                    "ref_id": ref["ref_id"],
                    "image": image.key,
                    "height": height,
                    "width": width,
                    "target": target,
                    "names": names,
                    "objects": kind.count(ref),
                    "ground_truth": truth["counts"] if truth else _nothing(height, width),
                    "truth_area": area,
                    "share": area / (height * width),
                }
            )
    if outside:
        some = ", ".join(f"{r['ref_id']} (image {r['image_id']})" for r in outside[:5])
        warnings.warn(
            f"{column}: {len(outside)} of {len(refs)} refs are left out because their targets do "
            f"not cover any pixel of the image: ref {some}{', ...' if len(outside) > 5 else ''}",
            stacklevel=4,
        )
    frames = [
        pd.DataFrame(some, columns=COLUMNS).sort_values("image", kind="stable", ignore_index=True)
        for some in rows
    ]
    files = {image.key: image for image, _ in images.values()}
    sorted_files = {key: files[key] for key in sorted(files)}
    named = {key: list(things[key]) for key in sorted_files}
    return Split(dataset, split, frames[0], sorted_files, frames[1], named)


def _sample(settings: Settings, images: Iterable[Any]) -> list[Any]:
    """The ids of ``settings.limit`` images, in their order.

    A random sample depends on the ids and the seed only: RefCOCO and RefCOCO+ keep the same images,
    which are then processed once, and a larger sample contains every smaller one.
    """
    every = list(images)
    if not settings.limit or settings.sample == "first":
        return every[: settings.limit]
    drawn = sorted(every, key=lambda i: hashlib.sha256(f"{settings.seed} {i}".encode()).digest())
    kept = set(drawn[: settings.limit])
    return [i for i in every if i in kept]


@lru_cache(maxsize=4096)
def _nothing(height: int, width: int) -> bytes:
    """The counts of an empty mask."""
    return coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))["counts"]


def _layout(settings: Settings, described: Dataset, split: str) -> Layout:
    folder = settings.data / described.folder
    return layout(folder, *described.splits[split])


def check_complete(settings: Settings, dataset: str, split: str) -> None:
    """Checks that a split can be loaded and that all of its images exist, without reading them all.

    Raises:
        InputError: Something is missing or invalid.
    """
    _read_split(settings.model_copy(update={"limit": 1}), dataset, split)
    described = describe(dataset)
    kind, folder = _layout(settings, described, split), image_folder(settings, described)
    names = dict.fromkeys(kind.picture(ref["image_id"]).file_name for ref in kind.refs)
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking:
        raise InputError(
            f"{len(lacking)} of {len(names)} images of {described.title} {split} are missing, for "
            f"example {folder / lacking[0]}; {mend(folder)}"
        )


def check_there(settings: Settings) -> None:
    """Checks that the files and folders of the datasets exist, without reading the annotations.

    Raises:
        InputError: One is missing.
    """
    for dataset in settings.datasets:
        described = describe(dataset)
        folder = settings.data / described.folder
        for which, inside in dict.fromkeys(described.splits.values()):
            path = annotations(folder, which, inside)
            if not path.is_file():
                raise InputError(f"{path} is missing; {mend(path)}")
        image_folder(settings, described)
