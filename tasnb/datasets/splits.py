"""Images, expressions and ground truth: RefCOCO and its kin in the REFER layout, and PhraseCut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.datasets.images import image_key, image_size
from tasnb.datasets.refer import Layout, PhraseCut, Refer, mend, read_refs, refs_file
from tasnb.profiles import DATASETS, PROFILES, REFER, Dataset, counterpart
from tasnb.settings import InputError, Settings, unknown


@dataclass(frozen=True)
class Split:
    """One column of the tables.

    Attributes:
        dataset, split: Such as "refscenes" and "testA".
        sentences: A row a sentence: sent_id, sentence, ref_id, image (key), target (its category's
            name), ground_truth (compressed COCO RLE, bytes), truth_area (pixels), share (of the
            image that it covers).
        images: Image key -> path of the file.
    """

    dataset: str
    split: str
    sentences: pd.DataFrame
    images: dict[str, Path]

    def ground_truth(self, row: int) -> npt.NDArray[np.bool_]:
        """The mask (H, W) that the row-th sentence means."""
        truth = self.sentences.iloc[row]
        size = [int(truth["height"]), int(truth["width"])]
        return coco_mask.decode({"size": size, "counts": truth["ground_truth"]}).astype(bool)


def columns(settings: Settings) -> list[tuple[str, str]]:
    """The (dataset, split) pairs of a run, in the order of the paper's tables.

    Raises:
        InputError: A user's own dataset cannot be read, or has none of the splits asked for.
    """
    found = []
    for dataset in settings.datasets:
        there = list(_described(dataset).splits)
        if dataset not in DATASETS and not settings.splits and len(there) > 1:
            there = [split for split in there if split != "train"]
        found += [(dataset, s) for s in there if not settings.splits or s in settings.splits]
    if not found:
        known = dict.fromkeys(s for d in settings.datasets for s in _described(d).splits)
        raise unknown("split", settings.splits[0], known)
    return found


def stand_in(settings: Settings, paper: str, split: str) -> tuple[str, str]:
    """The column that is, or stands for, one of the paper's: of the run, or else of its profile.

    A run on nothing but datasets of one's own has no such column; its first one is taken.
    """
    if not any(dataset in DATASETS for dataset in settings.datasets):
        return columns(settings)[0]
    known = (*settings.datasets, *PROFILES[settings.profile]["datasets"])
    return next(dataset for dataset in known if counterpart(dataset) == paper), split


def ablated(settings: Settings) -> tuple[str, str]:
    """The column of the paper's ablations, RefCOCO val."""
    return stand_in(settings, "RefCOCO", "val")


def load_split(settings: Settings, dataset: str, split: str) -> Split:
    """Reads one split, the first ``settings.limit`` images of it.

    Args:
        dataset: One of ``DATASETS``, or the path of a folder in the REFER layout.
        split: As the tables call it.

    Raises:
        InputError: The dataset or split is unknown, a file is missing or is not what it should, or
            a split is not of the size that it was published with.
    """
    described = _described(dataset)
    if split not in described.splits:
        raise unknown(f"split of {described.title}", split, described.splits)
    folder = settings.data / described.folder
    try:
        return _load_split(settings, dataset, described, split)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{folder} is not in the REFER layout ({error!r}); {mend(folder)}"
        ) from None


def _described(dataset: str) -> Dataset:
    """What is known of a dataset; of a user's own, what its files of refs say."""
    if dataset in DATASETS:
        return DATASETS[dataset]
    folder = Path(dataset)
    if not folder.is_dir():
        raise unknown("dataset", dataset, DATASETS)
    files = sorted([*folder.glob("refs(*).p"), *folder.glob("refs(*).json")])
    if not files:
        raise InputError(f"{folder} has no refs(...).json or refs(...).p in it")
    splits: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys(file.stem[len("refs(") : -1] for file in files):
        try:
            inside = dict.fromkeys(str(ref["split"]) for ref in read_refs(folder, name))
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder}/refs({name}) is no list of refs ({error!r})") from None
        for split in inside:
            splits[f"{split}({name})" if split in splits else split] = (name, split)
    if not splits:
        raise InputError(f"{folder} holds no refs: {files[0].name} is empty")
    images = ("images", "train2014", "../images/train2014", "../images", ".")
    return Dataset("", folder.name, str(folder), images, splits)


def _load_split(settings: Settings, dataset: str, described: Dataset, split: str) -> Split:
    layout = _layout(settings, described, split)
    refs, order = layout.refs, dict.fromkeys(ref["image_id"] for ref in layout.refs)
    counts = (len(refs), sum(len(ref["sentences"]) for ref in refs), len(order))
    folder = settings.data / described.folder
    _check_size(f"{described.title} {split}", counts, described.sizes.get(split), folder)
    pictures = _image_folder(settings, described)
    paths, keys, sizes = {}, {}, {}
    for i in list(order)[: settings.limit]:
        name, height, width = layout.picture(i)
        paths[i] = pictures / name
        keys[i] = image_key(paths[i])
        sizes[i] = (height, width) if height and width else image_size(paths[i])
    rows = []
    for ref in refs:
        if ref["image_id"] not in keys:
            continue
        height, width = sizes[ref["image_id"]]
        target, truth = layout.target(ref), layout.truth(ref, height, width)
        for sentence in ref["sentences"]:
            rows.append(
                {
                    "sent_id": sentence["sent_id"],
                    "sentence": sentence["sent"],
                    "ref_id": ref["ref_id"],
                    "image": keys[ref["image_id"]],
                    "height": height,
                    "width": width,
                    "target": target,
                    "ground_truth": truth["counts"],
                    "truth_area": int(coco_mask.area(truth)),
                    "share": coco_mask.area(truth) / (height * width),
                }
            )
    if not rows:
        raise InputError(f"{described.title} {split} holds no sentences; {mend(folder)}")
    frame = pd.DataFrame(rows).sort_values("image", kind="stable", ignore_index=True)
    return Split(dataset, split, frame, {keys[i]: paths[i] for i in sorted(keys, key=keys.get)})


def _layout(settings: Settings, described: Dataset, split: str) -> Layout:
    folder = settings.data / described.folder
    which, inside = described.splits[split]
    return PhraseCut(folder, inside) if which == REFER else Refer(folder, which, inside)


def check_complete(settings: Settings, dataset: str, split: str) -> None:
    """Whether a split can be loaded and all of its images are there, without reading the images.

    Raises:
        InputError: Something is missing or is not what it should be.
    """
    load_split(settings.model_copy(update={"limit": 1}), dataset, split)
    described = _described(dataset)
    layout, folder = _layout(settings, described, split), _image_folder(settings, described)
    names = dict.fromkeys(layout.picture(ref["image_id"]).file_name for ref in layout.refs)
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking:
        raise InputError(
            f"{len(lacking)} of {len(names)} images of {described.title} {split} are missing, as "
            f"{folder / lacking[0]}; {mend(folder)}"
        )


def check_there(settings: Settings) -> None:
    """Whether the datasets' files and folders are there at all, before anything is read.

    Raises:
        InputError: One is missing.
    """
    for dataset in settings.datasets:
        described = _described(dataset)
        folder = settings.data / described.folder
        for which, inside in dict.fromkeys(described.splits.values()):
            phrases = folder / f"refer_{inside}.json"
            path = phrases if which == REFER else refs_file(folder, which)
            if not path.is_file():
                raise InputError(f"{path} is missing; {mend(path)}")
        _image_folder(settings, described)


def _check_size(
    column: str,
    found: tuple[int, ...],
    published: tuple[int | None, ...] | None,
    folder: Path,
) -> None:
    """Numbers on another partition cannot be held against the paper's."""
    for what, ours, theirs in zip(
        ("refs", "sentences", "images"), found, published or (), strict=False
    ):
        if theirs is not None and ours != theirs:
            raise InputError(
                f"{column} in {folder} has {ours} {what}, as published it has {theirs}: this is "
                "another partition or a part of it; fetch it anew, or name the folder as a "
                f"dataset of your own, --datasets {folder}"
            )


def _image_folder(settings: Settings, described: Dataset) -> Path:
    root = Path(described.folder if not described.paper else "")
    places = [settings.data / root / place for place in described.images]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(
            f"{places[0]} is missing, the images of {described.title}; {mend(places[0])}"
        )
    return found
