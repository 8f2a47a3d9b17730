"""Lists of pictures and expressions, and the folder that their masks go to."""

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

from tasnb.segmentation import Segmentation, segment_many
from tasnb.settings import InputError
from tasnb.store.files import atomic_write

RESULTS = "results.csv"
MASKS = "masks.json"
COLUMNS = [
    "mask", "overlay", "height", "width", "area", "share", "score", "mask_id", "caption", "error",
]  # fmt: skip
"""What results.csv says besides the columns of the list; `share` is the mask's of the picture."""

LISTS = (".csv", ".tsv")
_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".dds", ".jp2", ".tga", ".ico", ".ppm", ".pgm"),
)


@dataclass(frozen=True)
class Row:
    """A picture and what to find in it.

    Attributes:
        image: The picture as the list names it.
        expression: Such as "the left cat".
        path: The picture's file.
        extra: The list's other columns.
        error: Why nothing can be asked; empty if it can.
    """

    image: str
    expression: str
    path: Path
    extra: dict[str, str] = field(default_factory=dict)
    error: str = ""


def rows_of(source: Path, expressions: Sequence[str]) -> tuple[list[Row], int]:
    """The rows of a list, a folder of pictures or a picture.

    Returns:
        The rows, and how many files of a folder were left out because they are no pictures.

    Raises:
        InputError: As from ``read_list`` and ``read_folder``.
    """
    if source.is_dir():
        return read_folder(source, expressions)
    if source.suffix.lower() in LISTS:
        return read_list(source), 0
    return [Row(str(source), text, source) for text in expressions], 0


def read_list(path: str | Path) -> list[Row]:
    """The rows of a CSV file with a header that names the columns `image` and `expression`.

    Commas, semicolons or tabs separate the cells, and spaces after them do not count; pictures are
    found from the file's folder.

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
        skipinitialspace=True,  # else the quotes of `a.jpg, "the cat, left"` are no quotes
    )
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is no CSV: {error}") from None
    names = [name.strip() for name in lines[0][1]] if lines else []
    for name in ("image", "expression"):
        if names.count(name) != 1:
            raise InputError(
                f"{path} should have one column {name!r}; its first line should name the columns, "
                "as image,expression"
            )
    if len(lines) == 1:
        raise InputError(f"{path} has no rows below its header; write a picture and an expression")
    return [_row(path, names, number, cells) for number, cells in lines[1:]]


def _row(path: Path, names: list[str], number: int, cells: list[str]) -> Row:
    error = ""
    if len(cells) > len(names):
        error = f"line {number} has more cells than the header; put quotes around a comma"
    cells = cells + [""] * (len(names) - len(cells))
    named = dict(zip(names, cells, strict=False))
    image, expression = named.pop("image").strip(), named.pop("expression")
    blank = "" if image else "the image is blank; name a picture file"
    named.pop("", None)  # a column without a name, as a comma at the end of every line makes it
    return Row(image, expression, path.parent / image, named, error or blank)


def read_folder(folder: str | Path, expressions: Sequence[str]) -> tuple[list[Row], int]:
    """Every expression for every picture of a folder (not of those in it), sorted by name.

    Returns:
        The rows, and how many files were left out because they are no pictures.

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
        raise InputError(f"{folder} has no pictures in it; folders inside it are not searched")
    rows = [Row(path.name, text, path) for path in pictures for text in expressions]
    return rows, len(files) - len(pictures)


def _is_picture(path: Path) -> bool:
    """By its name or its first bytes; one with a picture's name that is broken counts as one."""
    from PIL import Image

    if path.name.startswith("."):  # what systems leave beside pictures, under similar names
        return False
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        with Image.open(path):
            return True
    except OSError:  # nothing that Pillow knows, or not to be read
        return False
    except Exception:  # a decoder knew it and could not go on: its row will say why
        return True


def segment_list(
    rows: Sequence[Row], folder: str | Path, profile: str = "embedded", **overrides: Any
) -> int:
    """Answers all rows with ``segment_many`` and writes a folder.

    The folder gets ``NNNN_<name>.png`` (the mask, 0 and 255, of the picture's size) and
    ``NNNN_<name>_overlay.jpg`` for the row of that number; ``masks.json``, COCO's results with a
    record for each row that has an answer; and ``results.csv``, a line for each row, with an
    ``error`` where there is none. The last two are there when all rows are done. What else is in
    the folder stays.

    Returns:
        How many rows have an error.

    Raises:
        InputError: A setting is wrong, or the folder cannot be written.
    """
    from tqdm import tqdm

    folder = Path(folder)
    able = ((row.path, row.expression) for row in rows if not row.error)
    answers: Iterator[Any] = segment_many(able, profile, errors="return", **overrides)
    names = _names(list(dict.fromkeys(name for row in rows for name in row.extra)))
    failed = 0
    digits = max(4, len(str(len(rows))))
    with ExitStack() as stack:  # both files grow with the rows; neither is held in memory
        table, masks = (
            stack.enter_context(
                stack.enter_context(atomic_write(folder / name)).open(
                    "w", encoding="utf-8", errors="backslashreplace", newline=""
                )
            )
            for name in (RESULTS, MASKS)
        )
        lines = csv.DictWriter(
            table, ["image", "expression", *names.values(), *COLUMNS], lineterminator="\n"
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
            lines.writerow({**line, **_written(answer, record, folder, name)})
            masks.write(before + json.dumps(record))
            before = ",\n"
        masks.write("\n]\n")
    return failed


def _names(columns: Sequence[str]) -> dict[str, str]:
    """What the list's other columns are called; one that is named as one of ours is "given"."""
    names: dict[str, str] = {}
    taken = {*COLUMNS, *columns}
    for column in columns:
        names[column] = column
        while column in COLUMNS and names[column] in taken:
            names[column] = f"given_{names[column]}"
        taken.add(names[column])
    return names


def _written(
    answer: Segmentation, record: dict[str, Any], folder: Path, name: str
) -> dict[str, Any]:
    """Writes the pictures of an answer; its cells in results.csv."""
    cells = {"mask": f"{name}.png", "overlay": f"{name}_overlay.jpg"}
    with atomic_write(folder / cells["mask"]) as temporary:
        answer.mask_image().save(temporary)
    with atomic_write(folder / cells["overlay"]) as temporary:
        answer.overlay().save(temporary, quality=90)
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
    }


def _short(stem: str) -> str:
    """A file's stem, cut so that the names made of it are no longer than file systems allow."""
    return os.fsencode(stem)[:180].decode("utf-8", errors="ignore")
