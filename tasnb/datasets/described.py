"""Descriptions of datasets: where the files are, which splits there are, and how large they are."""

from __future__ import annotations

from pathlib import Path

from tasnb.datasets.expressions import check_text
from tasnb.datasets.reading import mend
from tasnb.datasets.refer import read_refs, refs_file, refs_files
from tasnb.profiles import DATASETS, Dataset
from tasnb.settings import InputError, Settings, unknown


def describe(dataset: str) -> Dataset:
    """The description of a dataset; for the user's own, as found in its refs files.

    Raises:
        InputError: It is unknown, or its refs files are missing, empty or unreadable.
    """
    if dataset in DATASETS:
        return DATASETS[dataset]
    folder = Path(dataset)
    if not folder.is_dir():
        raise unknown("dataset", dataset, DATASETS)
    files = refs_files(folder)
    if not files:
        raise InputError(f"{folder} contains no refs(...).json or refs(...).p")
    splits: dict[str, tuple[str, str]] = {}
    for which in files:
        for split in dict.fromkeys(str(ref["split"]) for ref in read_refs(folder, which)):
            check_text(split, f"{refs_file(folder, which)}: the name of a split")
            splits[f"{split}({which})" if split in splits else split] = (which, split)
    if not splits:
        raise InputError(f"{folder} contains no refs: {refs_file(folder, files[0]).name} is empty")
    images = ("images", "train2014", "../images/train2014", "../images", ".")
    return Dataset("", folder.name, str(folder), images, splits)


def image_folder(settings: Settings, described: Dataset) -> Path:
    """The first of a dataset's possible image folders that exists.

    Raises:
        InputError: None exists.
    """
    root = Path(described.folder if not described.paper else "")
    places = [settings.data / root / place for place in described.images]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(
            f"{places[0]}, the folder of {described.title}'s images, is missing; {mend(places[0])}"
        )
    return found


def check_size(
    column: str,
    found: tuple[int, ...],
    published: tuple[int | None, ...] | None,
    folder: Path,
) -> None:
    """Rejects a split whose size differs from the published one, as results would not compare.

    Args:
        column: Name of the split in the message.
        found, published: Numbers of refs, sentences and images; None where unknown.
        folder: The dataset's folder.

    Raises:
        InputError: A number differs.
    """
    for what, ours, theirs in zip(
        ("refs", "sentences", "images"), found, published or (), strict=False
    ):
        if theirs is not None and ours != theirs:
            raise InputError(
                f"{column} in {folder} has {ours} {what} instead of the published {theirs}, so it "
                "is another partition or only part of one; fetch it again, or use the folder as a "
                f"dataset of your own with --datasets {folder}"
            )
