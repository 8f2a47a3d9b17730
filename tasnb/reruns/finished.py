"""Reads the folder of a finished run: its record, tables and per-sentence results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from tasnb import profiles
from tasnb.settings import InputError, short
from tasnb.workbook import records

RECORD, SWEEP = "run.json", "sweep.json"
COLUMNS = {
    f"{dataset}-{profiles.file_part(split)}": (dataset, split)
    for dataset, described in profiles.DATASETS.items()
    for split in described.splits
}
"""Name of a column in file names, such as "refscenes-val" -> its dataset and split."""


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        folder: Contains run.json, tables, results and notebooks.
        name: Distinguishes it from the other runs that it is read with.
        record: The content of its run.json.
        notebooks: Name of a notebook -> its record, for all notebooks that were run to the end.
    """

    folder: Path
    name: str
    record: dict[str, Any]
    notebooks: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The run's settings as JSON."""
        return self.record["settings"]

    @cached_property
    def models(self) -> dict[str, str]:
        """Name of a model -> digest of its weights, over all notebooks."""
        return {
            name: digest
            for record in self.notebooks.values()
            for name, digest in (record.get("models") or {}).items()
        }

    def _outputs(self, folder: str, suffix: str) -> list[Path]:
        """The existing files of a folder that some notebook wrote, in order of their names."""
        names = {name for record in self.notebooks.values() for name in record["outputs"]}
        files = (self.folder / name for name in sorted(names) if name.startswith(f"{folder}/"))
        return [file for file in files if file.suffix == suffix and file.is_file()]

    @cached_property
    def tables(self) -> dict[str, Path]:
        """Name of a table -> its CSV file."""
        return {file.stem: file for file in self._outputs("tables", ".csv")}

    @cached_property
    def encoders(self) -> list[str]:
        """Short names of the encoders with per-sentence results, in the order of the settings."""
        there = {encoder for _, encoder in self.results}
        named = [short(model) for model in self.settings["encoders"]]
        return [name for name in dict.fromkeys([*named, *sorted(there)]) if name in there]

    @cached_property
    def results(self) -> dict[tuple[str, str], Path]:
        """(Name of a column, encoder) -> file of per-sentence results; columns in table order."""
        encoders = {short(model) for model in (*self.settings["encoders"], *self.models)}
        found = {}
        for file in self._outputs("results", ".parquet"):
            match = [name for name in encoders if file.stem.endswith(f"-{name}")]
            if match:
                encoder = max(match, key=len)
                found[file.stem.removesuffix(f"-{encoder}"), encoder] = file
        order = {column: place for place, column in enumerate(COLUMNS)}
        return dict(sorted(found.items(), key=lambda item: order.get(item[0][0], len(order))))

    @property
    def columns(self) -> list[str]:
        """Names of the columns with per-sentence results, in the order of the tables."""
        return list(dict.fromkeys(column for column, _ in self.results))

    def sentences(self, column: str, encoder: str) -> pd.DataFrame:
        """The results of a column, one row per sentence, as written by notebook 05."""
        file = self.results[column, encoder]
        try:
            return pd.read_parquet(file)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"cannot read {file}: {reason}; run notebook 05 again") from None

    def size(self) -> tuple[int, int]:
        """The numbers of images and sentences with results, each counted once per column."""
        images, sentences = set(), 0
        for column in self.columns:
            encoder = next(e for c, e in self.results if c == column)
            try:
                keys = pd.read_parquet(self.results[column, encoder], columns=["image"])["image"]
            except (OSError, ValueError):
                continue
            images.update(keys)
            sentences += len(keys)
        return len(images), sentences


def shown_time(run: Finished) -> str:
    """When a run finished, to the minute: "2026-11-26 14:20 UTC"."""
    return f"{str(run.record['finished']).replace('T', ' ', 1)[:16]} UTC"


def title(column: str) -> str:
    """The name of a column in tables, such as "RefScenes val"."""
    if column not in COLUMNS:
        return column
    dataset, split = COLUMNS[column]
    return f"{profiles.title(dataset)} {split}"


def in_table_1(column: str) -> bool:
    """Whether a column belongs to Table 1, which has all but those with phrases."""
    return column not in COLUMNS or not profiles.is_phrases(COLUMNS[column][0])


def open_run(folder: str | Path, name: str = "") -> Finished:
    """Reads a run.

    Raises:
        InputError: The folder is not that of a run, or the run is not finished.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder} is not a run: there is no such folder")
    record = records.read(folder / RECORD)
    if record is None:
        if (folder / RECORD).is_file() or (folder / "notebooks").is_dir():
            raise InputError(
                f"the run in {folder} is unfinished: resume it with the command that started it"
            )
        variants = [own for own in find_runs(folder, depth=1) if (folder / SWEEP).is_file()]
        if variants:
            raise InputError(
                f"{folder} is a sweep, not a run: name its variants, such as {variants[0]}"
            )
        raise InputError(f"{folder} is not a run: it has no {RECORD}")
    if not {"settings", "versions", "code", "data", "finished"} <= record.keys():
        raise InputError(f"{folder / RECORD} was not written by `python -m tasnb run`")
    notebooks = {
        file.name.removesuffix(".run.json"): content
        for file in sorted((folder / "notebooks").glob("*.run.json"))
        if (content := records.read(file)) and "outputs" in content
    }
    return Finished(folder.absolute(), name or folder.absolute().name, record, notebooks)


def open_runs(folders: Sequence[str | Path]) -> list[Finished]:
    """Reads several runs, named by the ends of their paths that distinguish them.

    Raises:
        InputError: As from ``open_run``, or a run is given twice.
    """
    paths = [Path(folder).expanduser().resolve() for folder in folders]
    for folder, path in zip(folders, paths, strict=True):
        if paths.count(path) > 1:
            raise InputError(f"{folder} is given twice: name different runs")
    names = _distinct(paths)
    return [open_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def _distinct(paths: Sequence[Path]) -> list[str]:
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def find_runs(top: Path, depth: int = 4) -> Iterator[Path]:
    """The folders of runs below a folder, finished or not; stores and hidden folders excluded."""
    if (top / RECORD).is_file() or any(top.glob("notebooks/*.run.json")):
        yield top
    elif depth:
        for place in sorted(place for place in top.glob("*/") if not place.is_symlink()):
            if not place.name.startswith(".") and place.name != "store":
                yield from find_runs(place, depth - 1)
