"""Reads lists of pictures and expressions, and writes their masks to a folder."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasnb.segmentation.answer import Segmentation
from tasnb.segmentation.many import segment_many
from tasnb.settings import InputError, make_settings
from tasnb.store.files import atomic_write

RESULTS = "results.csv"
MASKS = "masks.json"
COLUMNS = [
    "mask", "overlay", "height", "width", "area", "share", "score", "mask_id", "caption", "masks",
    "error",
]  # fmt: skip
"""Columns of results.csv besides those of the list; `share` is the mask's share of the picture, and
`masks` the number of proposals that the answer consists of: 0 if there are none, or none fits.
Where answers may have any number of masks, `evidence` is what decided whether any fits."""

LISTS = (".csv", ".tsv")
_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".dds", ".jp2", ".tga", ".ico", ".ppm", ".pgm"),
)


@dataclass(frozen=True)
class Row:
    """A picture and what to find in it.

    Attributes:
        image: The name of the picture in the list.
        expression: A referring expression, such as "the left cat".
        path: The file of the picture.
        extra: The other columns of the list.
        error: Why the row is invalid; "" if it is valid.
    """

    image: str
    expression: str
    path: Path
    extra: dict[str, str] = field(default_factory=dict)
    error: str = ""


def rows_of(source: Path, expressions: Sequence[str]) -> tuple[list[Row], int]:
    """The rows of a list, a folder of pictures or a picture.

    Returns:
        The rows, and the number of files in a folder that are not pictures and were skipped.

    Raises:
        InputError: As from ``read_list`` and ``read_folder``.
    """
    if source.is_dir():
        return read_folder(source, expressions)
    if source.suffix.lower() in LISTS:
        return read_list(source), 0
    return [Row(str(source), text, source) for text in expressions], 0


def read_list(path: str | Path) -> list[Row]:
    """The rows of a CSV file whose header has the columns `image` and `expression`.

    Cells are separated by commas, semicolons or tabs, and spaces after these are ignored. Paths of
    pictures are relative to the folder of the file.

    Raises:
        InputError: The file is missing, is not UTF-8, lacks a column or has no rows.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8; save it as CSV in UTF-8") from None
    head = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        strict=True,
        skipinitialspace=True,  # else quotes are literal in `a.jpg, "the cat, left"`
    )
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not valid CSV: {error}") from None
    names = [name.strip() for name in lines[0][1]] if lines else []
    for name in ("image", "expression"):
        if names.count(name) != 1:
            raise InputError(
                f"{path} should have one column {name!r}; its first line should name the columns, "
                "such as image,expression"
            )
    if len(lines) == 1:
        raise InputError(f"{path} has no rows below its header; add a picture and an expression")
    return [_row(path, names, number, cells) for number, cells in lines[1:]]


def _row(path: Path, names: list[str], number: int, cells: list[str]) -> Row:
    error = ""
    if len(cells) > len(names):
        error = f"line {number} has more cells than the header; quote cells that contain commas"
    cells = cells + [""] * (len(names) - len(cells))
    named = dict(zip(names, cells, strict=False))
    image, expression = named.pop("image").strip(), named.pop("expression")
    blank = "" if image else "the image is blank; name a picture file"
    named.pop("", None)  # an unnamed column, from a comma at the end of each line
    return Row(image, expression, path.parent / image, named, error or blank)


def read_folder(folder: str | Path, expressions: Sequence[str]) -> tuple[list[Row], int]:
    """Every expression for every picture in a folder but not its subfolders, sorted by name.

    Returns:
        The rows, and the number of files that are not pictures and were skipped.

    Raises:
        InputError: The folder cannot be read or has no pictures.
    """
    folder = Path(folder)
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror or error}") from None
    pictures = [path for path in files if _is_picture(path)]
    if not pictures:
        raise InputError(f"{folder} contains no pictures; its subfolders are not searched")
    rows = [Row(path.name, text, path) for path in pictures for text in expressions]
    return rows, len(files) - len(pictures)


def _is_picture(path: Path) -> bool:
    """Decides by the name or the first bytes; damaged files with the name of a picture count."""
    from PIL import Image

    if path.name.startswith("."):  # files of the system with similar names
        return False
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        with Image.open(path):
            return True
    except OSError:  # unknown to Pillow, or unreadable
        return False
    except Exception:  # a picture that cannot be decoded: its row will say why
        return True


def segment_list(
    rows: Sequence[Row], folder: str | Path, profile: str = "embedded", **overrides: Any
) -> tuple[int, int]:
    """Answers all rows with ``segment_many`` and writes the results to a folder.

    For row number NNNN these are ``NNNN_<name>.png``, the mask (0 and 255, in the size of the
    picture), and ``NNNN_<name>_overlay.jpg``; for all rows, ``masks.json``, in COCO's results
    format with one record per answered row, and ``results.csv``, with one line per row, which has
    an ``error`` if there is no answer. The last two appear when all rows are done. Other files in
    the folder are kept.

    Returns:
        The number of rows with an error, and of those whose expression fits nothing.

    Raises:
        InputError: A setting is invalid, or the folder is not writable.
    """
    from tqdm import tqdm

    folder = Path(folder)
    able = ((row.path, row.expression) for row in rows if not row.error)
    answers: Iterator[Any] = segment_many(able, profile, errors="return", **overrides)
    own = list(COLUMNS)
    if make_settings(profile, **overrides).answers == "any":
        own.insert(-1, "evidence")
    names = _names(list(dict.fromkeys(name for row in rows for name in row.extra)), own)
    failed = nothing = 0
    digits = max(4, len(str(len(rows))))
    with ExitStack() as stack:  # both files are written row by row, not kept in memory
        table, masks = (
            stack.enter_context(
                stack.enter_context(atomic_write(folder / name)).open(
                    "w", encoding="utf-8", errors="backslashreplace", newline=""
                )
            )
            for name in (RESULTS, MASKS)
        )
        lines = csv.DictWriter(
            table, ["image", "expression", *names.values(), *own], lineterminator="\n"
        )
        lines.writeheader()
        masks.write("[")
        before = "\n"
        for number, row in enumerate(tqdm(rows, desc="segment (rows)", unit=""), start=1):
            answer = InputError(row.error) if row.error else next(answers)
            line = {"image": row.image, "expression": row.expression}
            line |= {names[name]: cell for name, cell in row.extra.items()}
            if isinstance(answer, InputError):
                failed += 1
                lines.writerow({**line, "error": str(answer)})
                continue
            name = f"{number:0{digits}}_{_short(row.path.stem)}"
            record = {"row": number, "image": row.image, **answer.record()}
            nothing += record["no_target"]
            lines.writerow({**line, **_written(answer, record, folder, name)})
            masks.write(before + json.dumps(record))
            before = ",\n"
        masks.write("\n]\n")
    return failed, nothing


def _names(columns: Sequence[str], own: Sequence[str]) -> dict[str, str]:
    """New names for the other columns of the list: those that clash with ours get "given_"."""
    names: dict[str, str] = {}
    taken = {*own, *columns}
    for column in columns:
        names[column] = column
        while column in own and names[column] in taken:
            names[column] = f"given_{names[column]}"
        taken.add(names[column])
    return names


def _written(
    answer: Segmentation, record: dict[str, Any], folder: Path, name: str
) -> dict[str, Any]:
    """Writes the pictures of an answer and returns its cells in results.csv."""
    cells = {"mask": f"{name}.png", "overlay": f"{name}_overlay.jpg"}
    with atomic_write(folder / cells["mask"]) as temporary:
        answer.mask_image().save(temporary)
    with atomic_write(folder / cells["overlay"]) as temporary:
        answer.overlay().save(temporary, quality=90)
    if record.get("evidence") is not None:
        cells["evidence"] = f"{record['evidence']:.6f}"
    height, width = record["size"]
    score = "" if record["score"] is None else f"{record['score']:.6f}"
    return {
        **cells,
        "height": height,
        "width": width,
        "area": record["area"],
        "share": f"{record['area'] / (height * width):.6f}",
        "score": score,
        "mask_id": record["mask_id"],
        "caption": record["caption"],
        "masks": len(record["mask_ids"]),
    }


def _short(stem: str) -> str:
    """A file's stem, shortened so that names made from it are not too long for file systems."""
    return os.fsencode(stem)[:180].decode("utf-8", errors="ignore")
