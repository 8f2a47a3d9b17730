"""The REFER layout: ``refs(...)`` and COCO's ``instances.json``.

It is used by RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO. The refs of gRefCOCO (``grefs(...)``) have
lists of annotations and categories, which may be empty.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from tasnb.datasets.expressions import check_expression, check_text
from tasnb.datasets.layout import Picture, field_of, id_of
from tasnb.datasets.reading import mend, read
from tasnb.datasets.segmentations import Rle, read_mask
from tasnb.settings import InputError, shown
from tasnb.store.files import size_and_time

Rows = dict[Any, dict[str, Any]]
"""The entries of one of COCO's lists, by id."""


class Refer:
    """``refs(<which>).json`` or ``.p`` next to COCO's ``instances.json``.

    The target of a ref is the union of its annotations: ``ann_ids``, or else ``ann_id``, a number
    or a list. An empty list, or gRefCOCO's [-1], means that its sentences have no target in the
    image. A ref_id must be unique in a split; a sent_id need not, since it is never looked up.

    Args:
        split: Its name in the refs; None: all of them.
    """

    def __init__(self, folder: Path, which: str, split: str | None) -> None:
        self.folder = folder
        refs = read_refs(folder, which)
        self.refs = [ref for ref in refs if split is None or str(ref["split"]) == split]
        self._check(str(refs_file(folder, which)))

    def _check(self, file: str) -> None:
        """Raises an InputError for refs that share an id or whose sentences are not text."""
        ids = [id_of(field_of(ref, "ref_id", f"{file}: a ref"), file) for ref in self.refs]
        if len(set(ids)) < len(ids):
            twice = next(i for i, count in Counter(ids).items() if count > 1)
            raise InputError(f"{file}: two refs in one split have ref_id {twice}")
        sent_ids = []
        for ref, ref_id in zip(self.refs, ids, strict=True):
            user = f"{file}: ref {ref_id}"
            id_of(field_of(ref, "image_id", user), file)
            sentences = field_of(ref, "sentences", user)
            if not isinstance(sentences, list):
                raise InputError(f"{user} has sentences that are not a list: {shown(sentences)}")
            for sentence in sentences:
                sent_id = id_of(field_of(sentence, "sent_id", f"{user}: a sentence"), file)
                owner = f"{user}: the sentence with sent_id {sent_id}"
                check_expression(field_of(sentence, "sent", owner), owner)
                sent_ids.append(sent_id)
        for name, some in (("ref_id", ids), ("sent_id", sent_ids)):
            if len(set(map(type, some))) > 1:
                raise InputError(
                    f"{file}: {name} is a number in some places and a string in others"
                )

    @cached_property
    def _tables(self) -> dict[str, Rows]:
        path = self.folder / "instances.json"
        content = read(path)
        names = ("images", "annotations", "categories")
        for name in names:
            rows = content.get(name) if isinstance(content, dict) else None
            whole = isinstance(rows, list) and all(isinstance(r, dict) and "id" in r for r in rows)
            if not whole:
                raise InputError(
                    f"{path} has no list {name!r} of objects with an id; it should contain images, "
                    f"annotations and categories, in COCO's format; {mend(path)}"
                )
        return {name: _by_id(content[name], f"{path}: {name}") for name in names}

    def _row(self, table: str, key: Any, user: str) -> dict[str, Any]:
        try:
            return self._tables[table][key]
        except (KeyError, TypeError):  # TypeError: a list or an object instead of a number
            raise InputError(
                f"{self.folder}: {user} refers to {shown(key)}, which is not among the {table} in "
                "instances.json"
            ) from None

    def picture(self, image_id: int) -> Picture:
        row = self._row("images", image_id, "a ref")
        user = f"{self.folder}: image {image_id}"
        name = field_of(row, "file_name", user)
        if not isinstance(name, str) or not name:
            raise InputError(f"{user} has an unusable file_name: {shown(name)}")
        return Picture(name, row.get("height"), row.get("width"))

    @cached_property
    def _by_image(self) -> dict[Any, list[dict[str, Any]]]:
        path = self.folder / "instances.json"
        return _by_image(path, size_and_time(path))

    def things(self, image_id: int) -> list[tuple[str, ...]]:
        found, categories = [], self._tables["categories"]
        for row in self._by_image.get(image_id, ()):
            key = row.get("category_id")
            name = categories.get(key, {}).get("name") if isinstance(key, (int, str)) else None
            found.append(_names([name] if isinstance(name, str) else [], [row]))
        return [names for names in found if names]

    def count(self, ref: Mapping[str, Any]) -> int:
        return len(self._meant(ref))

    def names(self, ref: Mapping[str, Any]) -> tuple[str, ...]:
        user = f"ref {ref['ref_id']}"
        rows = [self._row("annotations", key, user) for key in self._meant(ref)]
        return _names(self._categories(ref), rows)

    def target(self, ref: Mapping[str, Any]) -> str:
        return " and ".join(self._categories(ref))

    def _categories(self, ref: Mapping[str, Any]) -> list[str]:
        """The categories of a ref's annotations, without duplicates."""
        user = f"ref {ref['ref_id']}"
        if not self._meant(ref):
            return []
        found = []
        for key in _as_list(field_of(ref, "category_id", f"{self.folder}: {user}")):
            row = self._row("categories", key, user)
            owner = f"{self.folder}: the name of category {key}"
            found.append(check_text(field_of(row, "name", owner), owner))
        return list(dict.fromkeys(found))

    def truth(self, ref: Mapping[str, Any], height: int, width: int) -> Rle | None:
        rles = [self._mask(key, ref, height, width) for key in self._meant(ref)]
        return coco_mask.merge(rles) if rles else None

    def _meant(self, ref: Mapping[str, Any]) -> list[Any]:
        """Ids of a ref's annotations; empty for a ref without a target."""
        user = f"{self.folder}: ref {ref['ref_id']}"
        keys = _as_list(ref["ann_ids"] if "ann_ids" in ref else field_of(ref, "ann_id", user))
        if keys == [-1] and -1 not in self._tables["annotations"]:
            keys = []
        said = ref.get("no_target")
        if said is not None and bool(said) == bool(keys):
            raise InputError(
                f"{user} has no_target {shown(said)} but the annotations {shown(keys)}; one of the "
                "two is wrong"
            )
        return keys

    def _mask(self, key: Any, ref: Mapping[str, Any], height: int, width: int) -> Rle:
        user = f"ref {ref['ref_id']}"
        row = self._row("annotations", key, user)
        if row.get("image_id", ref["image_id"]) != ref["image_id"]:
            raise InputError(
                f"{self.folder}: {user} belongs to image {shown(ref['image_id'])}, but its "
                f"annotation {key} to image {shown(row['image_id'])}"
            )
        owner = f"{self.folder}: the segmentation of annotation {key}"
        return read_mask(row.get("segmentation"), height, width, owner)


@lru_cache(maxsize=8)
def _by_image(path: Path, _changed: tuple[int, int]) -> dict[Any, list[dict[str, Any]]]:
    """The annotations of each image, for all splits of a dataset."""
    found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in read(path)["annotations"]:
        image_id = row.get("image_id")
        if isinstance(image_id, (int, str)):
            found[image_id].append(row)
    return found


OTHER_NAMES = ("names", "maybe")
"""Lists in an annotation's ``attributes``: what people call the object, and what they may call it.

COCO's files have no such lists, so their objects are known by their categories only.
"""


def _names(categories: list[str], rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    found = dict.fromkeys(categories)
    for row in rows:
        attributes = row.get("attributes")
        if not isinstance(attributes, dict):
            continue
        for field in OTHER_NAMES:
            said = attributes.get(field)
            said = said if isinstance(said, list) else []  # another program's field of that name
            found.update(dict.fromkeys(name for name in said if isinstance(name, str) and name))
    return tuple(found)


def refs_file(folder: Path, which: str) -> Path:
    """``refs(<which>).json``, or the pickle with that name (as RefCOCO has) if only that exists.

    Args:
        which: Such as "unc"; or "grefs(unc)", the whole stem of gRefCOCO's file.
    """
    path = folder / f"{which if which.startswith('grefs(') else f'refs({which})'}.json"
    pickled = path.with_suffix(".p")
    return pickled if pickled.is_file() and not path.is_file() else path


def refs_files(folder: Path) -> list[str]:
    """The refs files in a folder, each as the ``which`` of ``refs_file``."""
    patterns = [f"{start}(*){end}" for start in ("refs", "grefs") for end in (".p", ".json")]
    stems = dict.fromkeys(path.stem for some in patterns for path in sorted(folder.glob(some)))
    return [stem[len("refs(") : -1] if stem.startswith("refs(") else stem for stem in stems]


def read_refs(folder: Path, which: str) -> list[dict[str, Any]]:
    """The content of ``refs_file``.

    Raises:
        InputError: It is missing, or is not a list of refs that each have a split.
    """
    path = refs_file(folder, which)
    refs = read(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise InputError(f"{path} is not a list of refs; {mend(path)}")
    for ref in refs:
        if not isinstance(ref.get("split"), str | int):
            raise InputError(f"{path} contains a ref without a valid split: {shown(ref)}")
    return refs


def _by_id(rows: Iterable[dict[str, Any]], owner: str) -> Rows:
    """Rows by id; a row may be repeated, but different rows must not share an id."""
    found: Rows = {}
    for row in rows:
        try:
            first = found.setdefault(row["id"], row)
        except TypeError:
            raise InputError(f"{owner} has an unusable id: {shown(row['id'])}") from None
        if first is not row and first != row:
            raise InputError(f"{owner} has two different rows with id {shown(row['id'])}")
    return found


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
