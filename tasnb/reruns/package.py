"""``python -m tasnb export``: packs a run into a zip file that another machine can verify.

The file contains tables, figures and per-sentence results in the layout of a run, the records of
the run and of its notebooks without local paths, and ``SHA256SUMS``, which ``sha256sum -c`` also
reads. Once unpacked, it can be given to ``compare``. The same run always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tasnb.method.metrics import evaluate
from tasnb.reruns.finished import COLUMNS, RECORD, open_run
from tasnb.results.tables import COLUMNS as TIDY
from tasnb.settings import PLACES, InputError, short
from tasnb.store.files import atomic_write, check_new, file_digest
from tasnb.workbook import records

SUMS = "SHA256SUMS"
FOLDERS = ("tables", "figures", "results")
_LEFT_OUT = {"results": (".html", ".js")}  # pages, which need the pictures
_TIME = (1980, 1, 1, 0, 0, 0)  # zip's earliest, so that the bytes do not depend on the clock


@dataclass
class Report:
    """What ``check`` found.

    Attributes:
        lines: Statements about the file.
        damaged: Reasons why it is not what was exported; empty if it is.
    """

    lines: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def export(folder: str | Path, to: str | Path) -> str:
    """Packs a run.

    Args:
        folder: Of a finished run.
        to: A new file that ends in .zip.

    Returns:
        The SHA-256 of the file.

    Raises:
        InputError: The folder is not that of a finished run, its files are not those that the run
            wrote, or ``to`` exists or is not a .zip.
    """
    run, target = open_run(folder), Path(to).expanduser()
    if target.suffix.lower() != ".zip":
        raise InputError(f"--to {target}: the file's name should end in .zip")
    check_new(target, "--to")
    contents = {RECORD: _json(_portable(run.record))}
    for name, record in run.notebooks.items():
        contents[f"notebooks/{name}.run.json"] = _json(_portable(record))
        for output, digest in record["outputs"].items():
            if not _kept(output):
                continue
            try:
                content = (run.folder / output).read_bytes()
            except OSError:
                raise InputError(
                    f"{run.folder / output} is missing: run the notebook again"
                ) from None
            if hashlib.sha256(content).hexdigest() != digest:
                raise InputError(
                    f"{run.folder / output} is not as the run wrote it: run the notebook again"
                )
            contents[output] = content
    document = run.folder / "tables.tex"
    if document.is_file():
        contents[document.name] = document.read_bytes()
    sums = [f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)]
    contents[SUMS] = "".join(sums).encode()
    with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            packed.writestr(entry, contents[name])
    return file_digest(target)


def check(file: str | Path) -> Report:
    """Verifies an exported file: its digests, and that the tables follow from the results.

    Raises:
        InputError: The file cannot be read or is not an export.
    """
    file = Path(file).expanduser()
    try:
        with zipfile.ZipFile(file) as packed:
            return _checked(packed, file)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        raise InputError(f"{file} is not a zip file, or is damaged") from None


def _checked(packed: zipfile.ZipFile, file: Path) -> Report:
    names = [name for name in packed.namelist() if not name.endswith("/")]
    if not {SUMS, RECORD} <= set(names):
        raise InputError(f"{file} was not written by `python -m tasnb export`")
    report = Report()
    sums = _sums(packed)
    for name in sorted(set(names) - set(sums) - {SUMS}):
        report.damaged.append(f"{name} was added")
    for name, digest in sums.items():
        if name not in names:
            report.damaged.append(f"{name} is missing")
        elif _digest(packed, name) != digest:
            report.damaged.append(f"{name} was modified")
    report.lines += [f"damaged: {reason}" for reason in report.damaged]
    if report.damaged:
        return report
    report.lines.append(f"digests: {len(sums)} files as exported; SHA-256 {file_digest(file)}")
    record = json.loads(packed.read(RECORD))
    notebooks = [json.loads(packed.read(n)) for n in names if n.endswith(".run.json")]
    written = {name: digest for own in notebooks for name, digest in own["outputs"].items()}
    wrong = [n for n, digest in written.items() if _kept(n) and sums.get(n) != digest]
    report.damaged += [f"{name} is not as its notebook wrote it" for name in wrong]
    compared, unlike = _recomputed(packed, record, names)
    report.damaged += unlike
    if compared and not unlike:
        report.lines.append(
            f"numbers: {compared} in Tables 1 and 2 follow from the results per sentence"
        )
    report.lines += [f"damaged: {reason}" for reason in report.damaged]
    return Report(report.lines + _here(record), report.damaged)


def _recomputed(
    packed: zipfile.ZipFile, record: dict[str, Any], names: list[str]
) -> tuple[int, list[str]]:
    """Computes oIoU and mIoU in Tables 1 and 2 from the per-sentence results.

    Returns:
        The number of values compared, and statements about those that differ.
    """
    compared, unlike = 0, []
    encoders = [short(model) for model in record["settings"]["encoders"]]
    for table in ("table1", "table2"):
        if f"tables/{table}.csv" not in names:
            continue
        try:
            frame = pd.read_csv(io.BytesIO(packed.read(f"tables/{table}.csv")))
        except pd.errors.EmptyDataError:
            continue
        if not set(TIDY) <= set(frame):
            unlike.append(f"tables/{table}.csv is not a table of metrics")
            continue
        frame = frame.assign(encoder=frame["encoder"].fillna(""))
        for column, (dataset, split) in COLUMNS.items():
            for encoder in encoders:
                name = f"results/{column}-{encoder}.parquet"
                if name not in names:
                    continue
                results = pd.read_parquet(io.BytesIO(packed.read(name)))
                mine = frame[(frame["dataset"] == dataset) & (frame["split"] == split)]
                for method in ("CLIP-only", "TAS"):
                    parts = (results[f"{method} {n}"] for n in ("intersection", "union"))
                    values = evaluate(*parts)
                    rows = mine[(mine["method"] == method) & (mine["encoder"] == encoder)]
                    for row in rows[rows["metric"].isin(["oIoU", "mIoU"])].itertuples():
                        compared += 1
                        if abs(row.value - values[row.metric]) > 1e-3:
                            unlike.append(
                                f"{table}: {method}, {encoder}, {dataset} {split}, {row.metric} is "
                                f"{row.value:.4f}, but {values[row.metric]:.4f} by the results"
                            )
    return compared, unlike


def _here(record: dict[str, Any]) -> list[str]:
    """How the code and the libraries of this machine differ from those of the run."""
    lines = []
    same = record["code"] == records.code_digest()
    lines.append(f"code: {'the same as here' if same else 'another version than here'}")
    now = records.versions()
    other = [
        f"{name} {then} (here {now.get(name, 'not installed')})"
        for name, then in record["versions"].items()
        if now.get(name) != then
    ]
    lines.append(f"versions: {', '.join(other) or 'the same as here'}")
    return lines


def _sums(packed: zipfile.ZipFile) -> dict[str, str]:
    """Name of a file -> its digest, from SHA256SUMS."""
    lines = packed.read(SUMS).decode("utf-8", "replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _digest(packed: zipfile.ZipFile, name: str) -> str:
    try:
        with packed.open(name) as content:
            return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError):
        return "unreadable"


def _kept(output: str) -> bool:
    folder = output.partition("/")[0]
    return folder in FOLDERS and not output.endswith(_LEFT_OUT.get(folder, ()))


def _portable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the places of this machine, on which results do not depend."""
    found = dict(record)
    for part in ("settings", "parameters"):
        if part in found:
            found[part] = {n: v for n, v in found[part].items() if n not in PLACES}
    if "notebooks" in found:
        found["notebooks"] = {n: _portable(own) for n, own in found["notebooks"].items()}
    return found


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
