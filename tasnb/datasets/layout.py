"""What is read from every layout of a dataset, and how its fields are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from tasnb.datasets.expressions import check_text
from tasnb.datasets.segmentations import Rle
from tasnb.settings import InputError, shown


class Picture(NamedTuple):
    """An image's file name in the image folder, and its size if the annotations give it."""

    file_name: str
    height: int | None = None
    width: int | None = None


class Layout(Protocol):
    """The refs of one split, and the objects that they refer to.

    Attributes:
        refs: Each has at least ref_id, image_id and sentences (with sent_id and sent).
    """

    refs: list[dict[str, Any]]

    def picture(self, image_id: int) -> Picture:
        """File name and size of an image."""

    def target(self, ref: Mapping[str, Any]) -> str:
        """The category name of a ref's target; "" if it has none."""

    def count(self, ref: Mapping[str, Any]) -> int:
        """The number of objects that a ref refers to."""

    def names(self, ref: Mapping[str, Any]) -> tuple[str, ...]:
        """What people would call a ref's target: its category, then any other names of it."""

    def things(self, image_id: int) -> list[tuple[str, ...]]:
        """The ``names`` of what is annotated in an image, whether or not a ref is about it."""

    def truth(self, ref: Mapping[str, Any], height: int, width: int) -> Rle | None:
        """The ground-truth mask of a ref in an image of this size; None if it has no target."""


def field_of(row: Any, name: str, owner: str) -> Any:
    """A field of a JSON object."""
    if not isinstance(row, Mapping):
        raise InputError(f"{owner} is not an object: {shown(row)}")
    if name not in row:
        raise InputError(f"{owner} has no {name}")
    return row[name]


def id_of(value: Any, file: str) -> int | str:
    """Returns an id if tables can store it: a string or a 64-bit integer."""
    if isinstance(value, str):
        return check_text(value, f"{file}: an id")
    if type(value) is not int or abs(value) >= 2**63:
        raise InputError(
            f"{file}: {shown(value)} is not an id; it should be a whole number or a string"
        )
    return value
