"""Folders of finished runs, written without running notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.models.run_lengths import run_lengths
from tasnb.results import shown, tables
from tasnb.settings import make_settings, short
from tasnb.store.files import file_digest
from tasnb.workbook import records

ENCODER = "open_clip:embedded/clip-vit"
Choice = tuple[str, str, int, int, int]  # image, sentence, mask chosen by TAS, overlap, union
BOOK = "05_full_eval"


Masks = Mapping[int, npt.NDArray[np.bool_]]  # number of a mask -> its pixels


def sentences(
    choices: Sequence[Choice], masks: Masks | None = None, truth: int = 100
) -> pd.DataFrame:
    """Per-sentence results in which CLIP-only always chooses mask 0, without any overlap.

    Args:
        masks: The proposals of every image; None: as written by versions that left them out.
    """
    frame = pd.DataFrame(choices, columns=["image", "sentence", "mask", "intersection", "union"])
    found = frame[["image", "sentence"]].assign(target="cat", truth_area=truth)
    found["best IoU"] = 0.9
    for method, (mask, inter, union) in {
        "CLIP-only": (0, 0, 2 * truth),
        "TAS": (frame["mask"], frame["intersection"], frame["union"]),
    }.items():
        found[f"{method} mask"], found[f"{method} IoU"] = mask, inter / union
        found[f"{method} intersection"], found[f"{method} union"] = inter, union
        if masks:
            rles = dict(zip(masks, run_lengths(masks.values()), strict=True))
            found["height"], found["width"] = rles[0]["size"]
            found[f"{method} counts"] = [
                rles[k]["counts"].decode() for k in found[f"{method} mask"]
            ]
    return found


def make_run(
    folder: Path,
    results: Mapping[str, Sequence[Choice]],
    encoder: str = ENCODER,
    masks: Masks | None = None,
    **settings: Any,
) -> Path:
    """A run with one encoder, its Table 1, its per-sentence results, and empty pages of these.

    Args:
        results: Name of a column of a known dataset, such as "refscenes-val" -> its sentences.
        masks: See ``sentences``.
    """
    made = make_settings(out=str(folder), encoders=[encoder], **settings)
    for name in ("results", "notebooks"):
        (folder / name).mkdir(parents=True)
    rows = []
    for column, choices in results.items():
        frame = sentences(choices, masks)
        file = folder / "results" / f"{column}-{short(encoder)}.parquet"
        frame.to_parquet(file, index=False)
        file.with_suffix(".html").write_text("a page")
        dataset, split = column.split("-")
        for method in ("CLIP-only", "TAS"):
            parts = frame[[f"{method} intersection", f"{method} union"]]
            parts.columns = ["intersection", "union"]
            rows.append(tables.rows("table1", method, encoder, dataset, split, parts))
    if rows:
        shown.save(pd.concat(rows, ignore_index=True), "table1", made)
    same = {"code": "c" * 64, "data": "d" * 64, "versions": records.versions()}
    outputs = {
        str(file.relative_to(folder)): file_digest(file)
        for kind in records.KINDS
        for file in sorted((folder / kind).glob("*"))
    }
    book = {
        "parameters": {"alpha": made.alpha, "out": str(folder)},
        "notebook": "n" * 64,
        "models": {encoder: "e" * 64},
        **same,
        "outputs": outputs,
        "finished": "2023-12-06T10:00:00+00:00",
        "seconds": 2.0,
        "times": {"stages": 1.0, "passes": 0.5},
        "status": "ok",
    }
    records.write(folder / "notebooks" / f"{BOOK}.run.json", book)
    run = {
        "settings": made.model_dump(mode="json"),
        "notebooks": {BOOK: {name: book[name] for name in ("parameters", "seconds", "times")}},
        "earlier": {},
        **same,
        "finished": book["finished"],
        "seconds": 2.0,
        "status": "ok",
    }
    records.write(folder / "run.json", run)
    return folder
