"""What differs between runs: settings, code, data, versions, sentences covered, and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from tasnb.reruns.finished import Finished, title
from tasnb.results.tables import COLUMNS as TIDY
from tasnb.settings import PLACES

METRICS = ("oIoU", "mIoU")
"""The metrics of tidy tables that are shown side by side, as in the paper's tables."""
ABSENT = {
    "setting": "no such setting",  # in an earlier version
    "weights": "not used",
    "notebook": "not run",
    "version": "not installed",
}
"""What is said of a run that lacks something, by kind."""


def origins(runs: Sequence[Finished]) -> pd.DataFrame:
    """Every setting, digest and version that is not the same in all runs.

    Returns:
        what ("setting", "code", "data", "weights", "notebook" or "version"), name, and one column
        of text per run, named after it.
    """
    kinds: dict[str, Callable[[Finished], Mapping[str, Any]]] = {
        "setting": lambda run: {n: v for n, v in run.settings.items() if n not in PLACES},
        "code": lambda run: {"the package": run.record["code"][:12]},
        "data": lambda run: {"files that the run read": run.record["data"][:12]},
        "weights": lambda run: {n: digest[:12] for n, digest in run.models.items()},
        "notebook": lambda run: {n: r["notebook"][:12] for n, r in run.notebooks.items()},
        "version": lambda run: run.record["versions"],
    }
    found = []
    for what, content in kinds.items():
        every = [content(run) for run in runs]
        for name in dict.fromkeys(name for own in every for name in own):
            values = [own.get(name, ABSENT.get(what, "")) for own in every]
            if any(value != values[0] for value in values):
                found.append((what, name, *map(_plain, values)))
    return pd.DataFrame(found, columns=["what", "name", *(run.name for run in runs)])


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "default"
    return "none" if value is None else str(value)


def coverage(runs: Sequence[Finished], common: Mapping[str, int]) -> list[str]:
    """Warnings: that runs cover different sentences, or hold results of earlier runs.

    Args:
        common: Name of each run but the first -> number of sentences shared with the first.
    """
    said = []
    first, sizes = runs[0], {run.name: run.size() for run in runs}
    for run in runs[1:]:
        counts, shared = [sizes[first.name][1], sizes[run.name][1]], common[run.name]
        if set(counts) != {shared}:
            said.append(
                f"{first.name} and {run.name} cover different sentences: {counts[0]:,} and "
                f"{counts[1]:,}, of which {shared:,} are in both. Only these are compared in "
                f"pairs; tables cover all sentences of each run.{_columns(first, run)}"
            )
    for run in runs:
        for name, reasons in run.record.get("earlier", {}).items():
            said.append(f"In {run.name}, {name} is from an earlier run: {'; '.join(reasons[:3])}.")
    return said


def _columns(first: Finished, other: Finished) -> str:
    parts = []
    for run, against in ((first, other), (other, first)):
        only = [title(column) for column in run.columns if column not in against.columns]
        if only:
            parts.append(f" Only in {run.name}: {', '.join(only)}.")
    return "".join(parts)


def side_by_side(runs: Sequence[Finished], name: str) -> pd.DataFrame:
    """A table of all runs that have it, one row per row, with a column per run and value.

    The rows are matched by the first columns: as many as are needed to tell the rows apart. Values
    that are the same in all runs are given once. In a table of metrics, the difference from the
    first run is given alongside.
    """
    there = [run for run in runs if name in run.tables]
    frames = [_read(run, name) for run in there]
    tidy = all(set(TIDY) <= set(frame) for frame in frames)
    names = [c for c in frames[0] if all(c in frame for frame in frames)]
    if tidy:
        names = ["metric", "dataset", "split", "encoder", "method", "value"]
        frames = [frame[frame["metric"].isin(METRICS)] for frame in frames]
        frames = [frame[frame["value"].notna()] for frame in frames]
    keys, frames = _keys([frame[names].reset_index(drop=True) for frame in frames], names)
    merged = frames[0].set_index(keys).add_suffix("\0" + there[0].name)
    order = frames[0][keys]
    for run, frame in zip(there[1:], frames[1:], strict=True):
        merged = merged.join(frame.set_index(keys).add_suffix("\0" + run.name), how="outer")
        order = pd.concat([order, frame[keys]]).drop_duplicates()
    merged = merged.loc[pd.MultiIndex.from_frame(order) if len(keys) > 1 else order[keys[0]]]
    shown = {}
    for value in [name for name in names if name not in keys]:
        columns = {run.name: merged[f"{value}\0{run.name}"] for run in there}
        first = columns[there[0].name]
        if not tidy and all(own.equals(first) for own in columns.values()):
            shown[value] = first
            continue
        shown |= {_label(value, run, tidy): own for run, own in columns.items()}
        if tidy:
            for run, own in list(columns.items())[1:]:
                shown[f"{run} − {there[0].name}"] = own - first
    found = pd.DataFrame(shown, index=merged.index).reset_index()
    return found.drop(columns=ROW) if ROW in found else found


ROW = "\0row"


def _label(value: str, run: str, tidy: bool) -> str:
    return run if tidy else f"{value} ({run})"


def _read(run: Finished, name: str) -> pd.DataFrame:
    try:
        frame = pd.read_csv(run.tables[name], keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    return frame.assign(
        **{c: frame[c].fillna("") for c in frame if frame[c].dtype.kind not in "fi"}
    )


def _keys(
    frames: Sequence[pd.DataFrame], names: Sequence[str]
) -> tuple[list[str], list[pd.DataFrame]]:
    """The first columns that tell the rows of every frame apart, or else the row numbers."""
    for count in range(1, len(names) + 1):
        keys = list(names[:count])
        if not any(frame.duplicated(keys).any() for frame in frames):
            return keys, list(frames)
    return [ROW], [frame.assign(**{ROW: range(len(frame))}) for frame in frames]
