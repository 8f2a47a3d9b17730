"""Finds out whether a dataset's annotations are for its images as stored or as rotated by EXIF.

Cameras record in EXIF how an image is to be rotated for display. Some annotation tools apply this
and some do not; the image size in the annotations shows which.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasnb.datasets.images import Header, ImageFile, read_header
from tasnb.settings import InputError

Size = tuple[int, int]
"""Height and width."""


def readings(
    pictures: Mapping[Any, tuple[Path, Size | None]], dataset: str
) -> dict[Any, tuple[ImageFile, Size]]:
    """Each image in the orientation of its annotations, with its size in that orientation.

    Where both orientations have the annotated size (rotated by 180 degrees, mirrored, or square),
    the one of the dataset's other images is used; EXIF is applied if there are none or they
    disagree.

    Args:
        pictures: Name -> file and size as annotated, or None if the annotations give no size.
        dataset: Name of the dataset in a warning.

    Raises:
        InputError: A file cannot be read, or has the annotated size in neither orientation.
    """
    turned: dict[Any, bool] = {}
    unclear, headers = [], {}
    for name, (path, annotated) in pictures.items():
        headers[name] = header = read_header(path)
        if header.orientation == 1 and annotated in (None, header.upright):
            continue
        if annotated is not None and annotated not in (header.upright, header.stored):
            raise InputError(_mismatch(path, annotated, header))
        if annotated is not None and header.upright == header.stored:
            unclear.append(name)
        else:
            turned[name] = annotated in (None, header.upright)
    others = set(turned.values())
    obeyed = others != {False}
    turned |= dict.fromkeys(unclear, obeyed)
    if unclear:
        how = "rotated according to EXIF" if obeyed else "as stored"
        why = "like the others" if len(others) == 1 else "the annotations do not settle it"
        warnings.warn(
            f"{dataset}: EXIF rotation does not change the size of some images ({len(unclear)}, "
            f"for example {pictures[unclear[0]][0]}), which are read {how} ({why})",
            stacklevel=2,
        )
    found = {}
    for name, (path, _) in pictures.items():
        header, as_stored = headers[name], not turned.get(name, True)
        image = ImageFile(path, header.key(path.stem, as_stored), as_stored)
        found[name] = (image, header.stored if as_stored else header.upright)
    return found


def _mismatch(path: Path, annotated: Size, header: Header) -> str:
    def text(size: Size) -> str:
        return f"{size[1]} x {size[0]}"

    found = f"{text(header.upright)} pixels"
    if header.stored != header.upright:
        found += f" ({text(header.stored)} as stored)"
    return (
        f"{path} is {found}, but its annotations are for {text(annotated)} (width x height); "
        "rescale the image or the annotations"
    )
