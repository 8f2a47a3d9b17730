"""Which reading of its pictures a dataset is about: as they lie in their files, or turned by EXIF.

A camera held upright notes how its picture is to be turned. Some annotation tools obey the note and
some do not, so the size that they write down is what tells.
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
    """Each picture in the reading that its annotations are about, and its size in it.

    Where both readings are of the annotated size (turned by 180 degrees, mirrored, or square) it is
    that of the dataset's other pictures; EXIF is obeyed if there are none, or if they disagree.

    Args:
        pictures: By any name, the file and the size that the annotations give, if they do.
        dataset: What to call the dataset in a warning.

    Raises:
        InputError: A file cannot be read, or neither of its readings is of that size.
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
        how = "rotated as EXIF says" if obeyed else "as stored"
        why = "like the others" if len(others) == 1 else "the annotations do not tell"
        warnings.warn(
            f"{dataset}: the EXIF orientation of some pictures does not change their size "
            f"({len(unclear)}, such as {pictures[unclear[0]][0]}); they are read {how} ({why})",
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
        f"{path} is {found}, but its annotations are for {text(annotated)} (width x height); scale "
        "one to the other"
    )
