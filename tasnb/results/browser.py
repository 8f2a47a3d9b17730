"""HTML pages for finding examples: all sentences of a column, sortable, with their images.

A page is a single file: the rows as JSON, the outlines of the masks as SVG paths, and links to the
image files. It works without a network or a server.
"""

from __future__ import annotations

import base64
import json
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb import profiles
from tasnb.datasets.images import ImageFile
from tasnb.datasets.splits import column_name, columns
from tasnb.method.pipeline import Pipeline
from tasnb.results import breakdown, shown, tables
from tasnb.settings import Settings
from tasnb.store.files import atomic_write

TEMPLATE = Path(__file__).with_name("browser.html")
MENTIONS = {"place": "location", "attribute": "attribute", "relation": "second object"}
"""Column of ``breakdown.sentences`` -> how the page calls it."""


def save(pipeline: Pipeline) -> list[Path]:
    """Writes ``results/<dataset>-<split>-<encoder>.html`` for every column and encoder."""
    written, settings = [], pipeline.settings
    for dataset, split in columns(settings):
        for encoder in settings.encoders:
            path = settings.out / "results" / file_name(settings, dataset, split, encoder)
            content = page(pipeline, dataset, split, encoder, path.parent)
            with atomic_write(path) as temporary:
                temporary.write_text(content, encoding="utf-8")
            written.append(path)
    return written


def file_name(settings: Settings, dataset: str, split: str, encoder: str) -> str:
    """The file name of the page of a column and an encoder."""
    return f"{column_name(settings, dataset, split)}-{tables.short(encoder)}.html"


def page(pipeline: Pipeline, dataset: str, split: str, encoder: str, folder: Path) -> str:
    """The HTML page of one column; links to images are relative to ``folder``."""
    data = pipeline.split(dataset, split)
    called = profiles.title(dataset, pipeline.settings.datasets)
    scored = pipeline.scored(dataset, split, encoder)
    frame = breakdown.column(pipeline, dataset, split, encoder)
    chosen = {
        method: tables.outcome(pipeline, method, encoder, dataset, split)["mask_id"].to_numpy()
        for method in breakdown.COMPARED
    }
    names = ["sentence", "mask_id", "caption"]
    captions = {(s, m): said for s, m, said in scored.pairs[names].itertuples(index=False)}
    shown_too = scored.sentences[["ref_id", "caption", "negatives"]].to_dict("records")
    rows = []
    # Rows as dicts, since a page has thousands and access through the frame is slow.
    for index, (row, sentence) in enumerate(zip(frame.to_dict("records"), shown_too, strict=True)):
        ids = {method: int(chosen[method][index]) for method in breakdown.COMPARED}
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
                "image": row["image"],
                "truth": str(sentence["ref_id"]),
                "masks": list(ids.values()),
                "said": [captions.get((index, mask), "") for mask in ids.values()],
                "caption": sentence["caption"],
                "negatives": sentence["negatives"],
            }
        )
    content = {
        "title": f"{called} {split}, {tables.short(encoder)}",
        "about": shown.provenance(pipeline.settings),
        "links": _links(pipeline, dataset, split, encoder),
        "example": " ".join(frame["sentence"].iloc[0].split()[:2]) if len(frame) else "",
        "outcomes": list(dict.fromkeys(row["cause"] for row in rows)),
        "rows": rows,
        "images": _images(pipeline, data, scored.sentences, chosen, folder),
        "truths": {
            str(truth.ref_id): _outline(truth.height, truth.width, truth.ground_truth)
            for truth in data.sentences.drop_duplicates("ref_id").itertuples()
        },
    }
    script = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return TEMPLATE.read_text(encoding="utf-8").replace("/*CONTENT*/", script)


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


def _images(
    pipeline: Pipeline, data: Any, sentences: pd.DataFrame, chosen: dict, folder: Path
) -> dict[str, dict[str, Any]]:
    """For each image its address, its size, and the outlines of the chosen masks."""
    wanted = pd.concat(
        [pd.DataFrame({"image": sentences["image"], "mask_id": ids}) for ids in chosen.values()]
    ).drop_duplicates()
    masks = pipeline.proposals(data.images).merge(wanted, on=["image", "mask_id"])
    by_image = dict(list(masks.groupby("image")))
    found = {}
    for image, rows in sentences.groupby("image", sort=False):
        own = by_image.get(image, masks[:0])
        drawn = map(_outline, own["height"], own["width"], own["counts"])
        outlines = zip(own["mask_id"], drawn, strict=True)
        first = rows.iloc[0]
        found[str(image)] = {
            "file": _source(data.images[image], folder),
            "size": [int(first["width"]), int(first["height"])],
            "masks": {int(mask_id): path for mask_id, path in outlines},
        }
    return found


def _source(image: ImageFile, folder: Path) -> str:
    """The address of an image: its file, or its pixels if a browser would rotate the file."""
    if not image.as_stored:
        return quote(Path(os.path.relpath(image, folder)).as_posix())
    _, content = cv2.imencode(".jpg", image.load()[..., ::-1])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


@lru_cache(maxsize=20_000)  # encoders choose the same masks, and columns share images
def _outline(height: int, width: int, counts: bytes) -> str:
    """``outline`` of a mask as COCO's run lengths."""
    return outline(coco_mask.decode({"size": [height, width], "counts": counts}).astype(bool))


def outline(mask: npt.NDArray[np.bool_]) -> str:
    """The outlines of a mask (H, W), holes included, as an SVG path in pixels."""
    whole = mask.astype(np.uint8)
    left, top, width, height = cv2.boundingRect(whole)
    if not width:
        return ""
    part = whole[top : top + height, left : left + width]
    fine = cv2.resize(part, (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST)
    at = (2 * left, 2 * top)
    lines, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=at)
    parts = []
    for line in lines:
        smooth = (cv2.approxPolyDP(line, 1.0, True)[:, 0] + 0.5) / 2
        parts.append("M" + "L".join([f"{x:g} {y:g}" for x, y in smooth.tolist()]) + "Z")
    return "".join(parts)
