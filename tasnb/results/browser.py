"""HTML pages for finding examples: all sentences of a column, sortable, each in the explorer.

A page contains the list. The views of the pictures, with all masks and scores, are in files beside
it, which the page reads when a row is opened; a real dataset has too many for one page. Everything
works from disk, without a network or a server.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from urllib.parse import quote

from tasnb import profiles
from tasnb.datasets.images import ImageFile
from tasnb.datasets.splits import column_name, columns
from tasnb.explorer.content import Views, data_uri, runs
from tasnb.explorer.page import as_script, filled
from tasnb.method.pipeline import Pipeline
from tasnb.results import breakdown, shown, tables
from tasnb.settings import Settings
from tasnb.store.files import atomic_write

TEMPLATE = Path(__file__).with_name("browser.html")
PART = 16  # pictures in a file of views
MENTIONS = {"place": "location", "attribute": "attribute", "relation": "second object"}
"""Column of ``breakdown.sentences`` -> how the page calls it."""


def save(pipeline: Pipeline) -> list[Path]:
    """Writes ``results/<dataset>-<split>-<encoder>.html`` for every column and encoder.

    Next to them, ``results/<dataset>-<split>-views/<part>.js`` contains the views of some pictures
    with the scores of all encoders.
    """
    written, settings = [], pipeline.settings
    folder = settings.out / "results"
    for dataset, split in columns(settings):
        parts = views(pipeline, dataset, split, folder)
        for part, content in enumerate(parts):
            _write(folder / views_name(settings, dataset, split) / f"{part}.js", content)
        for encoder in settings.encoders:
            path = folder / file_name(settings, dataset, split, encoder)
            _write(path, page(pipeline, dataset, split, encoder))
            written.append(path)
    return written


def _write(path: Path, content: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def views_name(settings: Settings, dataset: str, split: str) -> str:
    """The name of the folder with the views of a column."""
    return f"{column_name(settings, dataset, split)}-views"


def views(pipeline: Pipeline, dataset: str, split: str, folder: Path) -> list[str]:
    """The content of the files with a column's views, ``PART`` pictures in each.

    Links to images are relative to ``folder``.
    """
    data = pipeline.split(dataset, split)
    scored = {name: pipeline.scored(dataset, split, name) for name in pipeline.settings.encoders}
    every = Views(pipeline, data, scored)
    about = shown.provenance(pipeline.settings)
    found = []
    for part, some in enumerate(_parts(runs(data.sentences))):
        made = []
        for run in some:
            image = data.images[str(data.sentences["image"].iloc[run[0]])]
            view = every.view(run, _source(image, folder), brief=True)
            made.append(view | {"about": about, "count": len(data.sentences)})
        found.append(f"(window.views ??= {{}})[{part}] = {as_script(made)};\n")
    return found


def _parts(rows: list[range]) -> list[list[range]]:
    return [rows[at : at + PART] for at in range(0, len(rows), PART)]


def file_name(settings: Settings, dataset: str, split: str, encoder: str) -> str:
    """The file name of the page of a column and an encoder."""
    return f"{column_name(settings, dataset, split)}-{tables.short(encoder)}.html"


def page(pipeline: Pipeline, dataset: str, split: str, encoder: str) -> str:
    """The HTML page of one column."""
    called = profiles.title(dataset, pipeline.settings.datasets)
    frame = breakdown.column(pipeline, dataset, split, encoder)
    place = {number: at for at, run in enumerate(runs(frame)) for number in run}
    any_number = pipeline.settings.answers == "any"
    rows = []
    # Rows as dicts, since a page has thousands and access through the frame is slow.
    for number, row in enumerate(frame.to_dict("records")):
        named = [word for kind, word in MENTIONS.items() if row[kind]]
        rows.append(
            {
                "sentence": row["sentence"],
                "target": row["target"],
                "size": round(100 * row["share"], 1),
                "mentions": ", ".join(named),
                "best": _number(row["best"]),
                "clip": _number(row["CLIP-only iou"]),
                "tas": _number(row["TAS iou"]),
                "cause": row["cause"] or "right",
                **({"masks": row["TAS masks"]} if any_number else {}),
                "view": [place[number] // PART, place[number] % PART],
            }
        )
    content = {
        "title": f"{called} {split}, {tables.short(encoder)}",
        "about": shown.provenance(pipeline.settings),
        "links": _links(pipeline, dataset, split, encoder),
        "example": " ".join(frame["sentence"].iloc[0].split()[:2]) if len(frame) else "",
        "outcomes": list(dict.fromkeys(row["cause"] for row in rows)),
        "rows": rows,
        "views": quote(views_name(pipeline.settings, dataset, split)),
        "encoder": tables.short(encoder),
        "anyNumber": any_number,
    }
    return filled(TEMPLATE, {"CONTENT": as_script(content)})


def _number(value: float) -> float | None:
    """An IoU for JSON: null for NaN."""
    return round(float(value), 4) if math.isfinite(value) else None


def _links(pipeline: Pipeline, dataset: str, split: str, encoder: str) -> list[tuple[str, str]]:
    """Text and address of links to the report, to other encoders, and to adjacent columns."""
    settings = pipeline.settings
    there = columns(settings)
    at = there.index((dataset, split))
    found = [("report", "../index.html")]
    for other in settings.encoders:
        if other != encoder:
            name = file_name(settings, dataset, split, other)
            found.append((f"the same with {tables.short(other)}", quote(name)))
    for arrow, k in (("←", at - 1), ("→", at + 1)):
        if 0 <= k < len(there):
            title = f"{arrow} {profiles.title(there[k][0], settings.datasets)} {there[k][1]}"
            found.append((title, quote(file_name(settings, *there[k], encoder))))
    return found


def _source(image: ImageFile, folder: Path) -> str:
    """The address of an image: its file, or its pixels if a browser would rotate the file."""
    if not image.as_stored:
        return quote(Path(os.path.relpath(image, folder)).as_posix())
    return data_uri(image.load())
