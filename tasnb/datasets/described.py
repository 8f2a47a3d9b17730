"""Descriptions of datasets: where the files are, which splits there are, and how large they are."""

from __future__ import annotations

from pathlib import Path

from tasnb.datasets import arefcoco, mask_files
from tasnb.datasets.expressions import check_text
from tasnb.datasets.layout import Layout
from tasnb.datasets.phrasecut import PhraseCut
from tasnb.datasets.reading import mend
from tasnb.datasets.refer import Refer, read_refs, refs_file, refs_files
from tasnb.profiles import AREFCOCO, DATASETS, MASKS, REFER, Dataset, mask_folder
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
    return Dataset("", folder.name, str(folder), _IMAGES, _splits(folder))


_IMAGES = (
    *("images", "train2014", "../images/train2014", "../train2014", "../images"),
    *("../../images/train2014", "."),  # the first of these as in CRIS's layout
)
"""Where the images of a user's own dataset may be, from its folder."""


def _splits(folder: Path) -> dict[str, tuple[str, str]]:
    """The splits of a user's own dataset, each with the name of its refs, and its name in them."""
    splits: dict[str, tuple[str, str]] = {}

    def add(split: str, which: str, path: Path) -> None:
        check_text(split, f"{path}: the name of a split")
        splits[f"{split}({which})" if split in splits else split] = (which, split)

    files = refs_files(folder)
    for which in files:
        for split in dict.fromkeys(str(ref["split"]) for ref in read_refs(folder, which)):
            add(split, which, refs_file(folder, which))
    if (folder / arefcoco.FILE).is_file():
        for split in dict.fromkeys(row["split"] for row in arefcoco.read_annotations(folder)):
            add(split, AREFCOCO, folder / arefcoco.FILE)
    elif not files and mask_folder(folder).is_dir():
        for split in mask_files.splits_in(folder):
            add(split, MASKS, annotations(folder, MASKS, split))
    if splits:
        return splits
    if files:
        raise InputError(f"{folder} contains no refs: {refs_file(folder, files[0]).name} is empty")
    raise InputError(
        f"{folder} contains no refs(...).json or refs(...).p, nor any other layout that "
        "data/README.md describes"
    )


def annotations(folder: Path, which: str, inside: str) -> Path:
    """The file with the refs of a split, one of ``Dataset.splits``."""
    names = {REFER: f"refer_{inside}.json", AREFCOCO: arefcoco.FILE, MASKS: f"{inside}.json"}
    return folder / names[which] if which in names else refs_file(folder, which)


def layout(folder: Path, which: str, inside: str) -> Layout:
    """Reads the refs of a split, one of ``Dataset.splits``."""
    kinds = {REFER: PhraseCut, AREFCOCO: arefcoco.ARefCoco, MASKS: mask_files.MaskFiles}
    return kinds[which](folder, inside) if which in kinds else Refer(folder, which, inside)


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
