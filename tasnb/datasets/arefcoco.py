"""aRefCOCO's layout: new descriptions of objects that RefCOCO and RefCOCOg refer to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasnb.datasets.expressions import check_expression
from tasnb.datasets.layout import Picture, field_of, id_of
from tasnb.datasets.reading import read
from tasnb.datasets.refer import Refer
from tasnb.datasets.segmentations import Rle
from tasnb.settings import InputError, shown

FILE = "arefcoco.json"
ORIGINALS = {"refcoco": "unc", "refcocog": "umd"}
"""``original_dataset`` -> the refs that ``ref_id`` is looked up in."""


def read_annotations(folder: Path) -> list[dict[str, Any]]:
    """The ``annotations`` of ``arefcoco.json``, of all splits.

    Raises:
        InputError: It is missing, or is not such a list of objects that each have a split.
    """
    path = folder / FILE
    content = read(path)
    rows = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} has no list 'annotations' of objects, as aRefCOCO has")
    for row in rows:
        if not isinstance(row.get("split"), str):
            raise InputError(f"{path} contains an annotation without a valid split: {shown(row)}")
    return rows


class ARefCoco:
    """``arefcoco.json``, in whose folder or next to it are RefCOCO and RefCOCOg, where needed.

    Each annotation has an entity_id, a split, the ref_id of its object in original_dataset
    ("refcoco" or "refcocog"), and descriptions, which are the sentences.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._file = folder / FILE
        rows = [row for row in read_annotations(folder) if row["split"] == split]
        names = dict.fromkeys(self._original(row) for row in rows)
        self._originals = {name: self._found(folder, name) for name in names}
        by_id = {
            name: {ref["ref_id"]: ref for ref in original.refs}
            for name, original in self._originals.items()
        }
        self.refs: list[dict[str, Any]] = []
        seen: set[Any] = set()
        for row in rows:
            self.refs.append(self._ref(row, by_id[row["original_dataset"]]))
            if self.refs[-1]["ref_id"] in seen:
                raise InputError(
                    f"{self._file}: two annotations have entity_id {self.refs[-1]['ref_id']}"
                )
            seen.add(self.refs[-1]["ref_id"])
        self._of_image = {ref["image_id"]: self._originals[ref["original"]] for ref in self.refs}

    def _original(self, row: Mapping[str, Any]) -> str:
        name = field_of(row, "original_dataset", self._owner(row))
        if not isinstance(name, str) or name not in ORIGINALS:
            raise InputError(
                f"{self._owner(row)} has original_dataset {shown(name)}, which should be one of "
                f"{', '.join(ORIGINALS)}"
            )
        return name

    def _owner(self, row: Mapping[str, Any]) -> str:
        return f"{self._file}: annotation {shown(row.get('entity_id'))}"

    def _found(self, folder: Path, name: str) -> Refer:
        places = [folder / name, folder.parent / name]
        there = next((place for place in places if (place / "instances.json").is_file()), None)
        if there is None:
            raise InputError(
                f"{self._file} refers to {name}, which is neither in {places[0]} nor in "
                f"{places[1]}; `python -m tasnb fetch {name}` fetches it"
            )
        return Refer(there, ORIGINALS[name], None)

    def _ref(self, row: Mapping[str, Any], by_id: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
        owner = self._owner(row)
        key, name = field_of(row, "ref_id", owner), row["original_dataset"]
        meant = by_id.get(key) if isinstance(key, (int, str)) else None
        if meant is None:
            raise InputError(
                f"{owner} refers to ref {shown(key)}, which is not among the refs of {name} "
                f"({ORIGINALS[name]})"
            )
        entity = id_of(field_of(row, "entity_id", owner), str(self._file))
        texts = field_of(row, "descriptions", owner)
        if not isinstance(texts, list):
            raise InputError(f"{owner} has descriptions that are not a list: {shown(texts)}")
        sentences = [
            {"sent_id": f"{entity}-{number}", "sent": check_expression(text, f"{owner}: {number}")}
            for number, text in enumerate(texts, start=1)
        ]
        return {**meant, "ref_id": entity, "original": name, "sentences": sentences}

    def picture(self, image_id: int) -> Picture:
        return self._of_image[image_id].picture(image_id)

    def target(self, ref: Mapping[str, Any]) -> str:
        return self._originals[ref["original"]].target(ref)

    def count(self, ref: Mapping[str, Any]) -> int:
        return self._originals[ref["original"]].count(ref)

    def names(self, ref: Mapping[str, Any]) -> tuple[str, ...]:
        return self._originals[ref["original"]].names(ref)

    def things(self, image_id: int) -> list[tuple[str, ...]]:
        return self._of_image[image_id].things(image_id)

    def truth(self, ref: Mapping[str, Any], height: int, width: int) -> Rle | None:
        return self._originals[ref["original"]].truth(ref, height, width)
