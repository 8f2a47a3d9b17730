"""What is known of a dataset: where its files lie, which splits it has, and how large they are."""

from __future__ import annotations

from pathlib import Path

from tasnb.datasets.expressions import check_text
from tasnb.datasets.reading import mend
from tasnb.datasets.refer import read_refs, refs_file, refs_files
from tasnb.profiles import DATASETS, Dataset
from tasnb.settings import InputError, Settings, unknown


def describe(dataset: str) -> Dataset:
    """What is known of a dataset; of a user's own, what its files of refs say."""
    if dataset in DATASETS:
        return DATASETS[dataset]
    folder = Path(dataset)
    if not folder.is_dir():
        raise unknown("dataset", dataset, DATASETS)
    files = refs_files(folder)
    if not files:
        raise InputError(f"{folder} has no refs(...).json or refs(...).p in it")
    splits: dict[str, tuple[str, str]] = {}
    for which in files:
        for split in dict.fromkeys(str(ref["split"]) for ref in read_refs(folder, which)):
            check_text(split, f"{refs_file(folder, which)}: the name of a split")
            splits[f"{split}({which})" if split in splits else split] = (which, split)
    if not splits:
        raise InputError(f"{folder} holds no refs: {refs_file(folder, files[0]).name} is empty")
    images = ("images", "train2014", "../images/train2014", "../images", ".")
    return Dataset("", folder.name, str(folder), images, splits)


def image_folder(settings: Settings, described: Dataset) -> Path:
    """The first of a dataset's folders of images that is there.

    Raises:
        InputError: None is.
    """
    root = Path(described.folder if not described.paper else "")
    places = [settings.data / root / place for place in described.images]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(
            f"{places[0]} is missing, the images of {described.title}; {mend(places[0])}"
        )
    return found


def check_size(
    column: str,
    found: tuple[int, ...],
    published: tuple[int | None, ...] | None,
    folder: Path,
) -> None:
    """Refuses a split that is not as large as published: its numbers could not be compared.

    Args:
        column: What to call the split.
        found, published: Numbers of refs, sentences and images; None where nobody knows.
        folder: Of the dataset.
    """
    for what, ours, theirs in zip(
        ("refs", "sentences", "images"), found, published or (), strict=False
    ):
        if theirs is not None and ours != theirs:
            raise InputError(
                f"{column} in {folder} has {ours} {what}, as published it has {theirs}: this is "
                "another partition or a part of it; fetch it anew, or name the folder as a "
                f"dataset of your own, --datasets {folder}"
            )
