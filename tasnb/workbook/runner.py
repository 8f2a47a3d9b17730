"""Runs the notebooks in order with papermill and writes a report.

This adds what papermill lacks: parameters are checked before a kernel starts, notebooks are skipped
if nothing they depend on has changed, and a record marks a notebook as done. For each notebook,
``<out>/notebooks/`` receives ``NN_name.ipynb`` (executed), ``.html`` and, last, ``.run.json``.
Notebooks run one after another, each in its own kernel process, which may have been started early.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from tasnb.settings import ROOT, InputError, Settings, unknown
from tasnb.store.files import alone_in, atomic_write, check_writable, sweep
from tasnb.workbook import records
from tasnb.workbook.kernels import check_kernel, execute
from tasnb.workbook.pages import without_widgets, write_html
from tasnb.workbook.parameters import (
    CHANGES,
    Notebook,
    load_notebook,
    parameters_of,
    settings_of,
)
from tasnb.workbook.report import write_index
from tasnb.workbook.spare import Kernel, Kernels

NOTEBOOKS = ROOT / "notebooks"
TOLD = ("parameters", "seconds", "times", "finished")  # of a notebook, in run.json


class NotebookFailed(RuntimeError):
    """A notebook did not finish; the message is a single line."""


def select(names: Sequence[str] = (), folder: Path | None = None) -> list[Notebook]:
    """The notebooks of a folder, in the order of their numbers.

    Args:
        names: which ones, by number ("05") or name ("05_full_eval"); all if empty.
        folder: contains NN_name.ipynb files; the repository's notebooks/ by default.

    Raises:
        InputError: a name is unknown, or the folder contains no notebooks.
    """
    folder = folder or NOTEBOOKS
    paths = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not paths:
        raise InputError(
            f"no notebooks in {folder}: clone the repository and install it with pip install -e"
        )
    chosen = set()
    for name in names:
        match = [stem for stem in paths if name in (stem, stem[:2], f"{stem}.ipynb")]
        if not match:
            raise unknown("notebook", name, paths)
        chosen.update(match)
    return [load_notebook(path) for stem, path in paths.items() if not names or stem in chosen]


def run(
    notebooks: Sequence[Notebook],
    overrides: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    prepare_only: bool = False,
) -> Path:
    """Runs the notebooks that are not up to date, then writes the report of the whole run.

    A notebook is up to date if its parameters, cells, package, data and library versions are the
    same as in its record, and every table, figure and page that it wrote is unchanged.

    Args:
        notebooks: from `select`.
        overrides: parameters by name, passed to the notebooks that declare them; settings among
            them (out, profile, ...) also determine where the report is written.
        force: run all notebooks.
        prepare_only: only write ``NN_name.prepared.ipynb`` with the parameters filled in.

    Returns:
        The report's index.html, or the folder of the prepared notebooks.

    Raises:
        InputError: parameters, folders or the kernel are invalid; raised before work starts, except
            for errors found by a notebook.
        NotebookFailed: a notebook failed; its outputs so far are in ``NN_name.failed.ipynb``.
    """
    overrides = dict(overrides or {})
    settings = settings_of(overrides)
    jobs = [(book, parameters_of(book, overrides)) for book in notebooks]
    folder = settings.out / "notebooks"
    check_writable(folder)
    if prepare_only:
        for book, parameters in jobs:
            execute(book.path, folder / f"{book.name}.prepared.ipynb", parameters)
        return folder
    check_writable(settings.store)
    check_kernel()
    with alone_in(settings.out):
        return _run_all(jobs, overrides, force)


def check(
    notebooks: Sequence[Notebook], overrides: Mapping[str, Any] | None = None
) -> dict[str, list[str]]:
    """What has changed since a run, by notebook (an empty list if nothing has), without running it.

    Args:
        notebooks: from `select`.
        overrides: parameters by name, as for `run`; all others are taken from the run.
    """
    overrides = dict(overrides or {})
    out = settings_of(overrides).out
    then = (records.read(out / "run.json") or {}).get("settings", {})
    given = {*overrides, *overrides.get(CHANGES, {})}
    base = {n: then[n] for n in ("profile", "datasets", "data") if n in then and n not in given}
    same = _same(settings_of({**base, **overrides}))
    found = {}
    for book in notebooks:
        file = _record_of(book, out)
        before = (records.read(file) or {}).get("parameters", {})
        parameters = parameters_of(book, {**before, **overrides})
        found[book.name] = records.changes(file, _key(book, parameters, same), out)
    return found


def _run_all(
    jobs: Sequence[tuple[Notebook, dict[str, Any]]], overrides: Mapping[str, Any], force: bool
) -> Path:
    """Runs the notebooks that are not up to date, then writes the report."""
    settings = settings_of(overrides)
    for place in settings.out.glob("*"):
        sweep(place)
    (settings.out / "run.json").unlink(missing_ok=True)
    same = _same(settings)
    done: dict[str, Any] = {}

    def waits(job: tuple[Notebook, dict[str, Any]]) -> bool:
        key, file = _key(*job, same), _record_of(job[0], settings.out)
        return force or bool(records.changes(file, key, settings.out))

    with Kernels() as kernels:
        for number, (book, parameters) in enumerate(jobs, start=1):
            title = f"[{number}/{len(jobs)}] {book.name}"
            if not waits((book, parameters)):
                print(f"{title}: up to date", flush=True)
                record = records.read(_record_of(book, settings.out)) or {}
            else:
                print(title, flush=True)
                kernel = kernels.take(book.path.parent)
                if any(map(waits, jobs[number:])):
                    kernels.reserve(book.path.parent)
                key = _key(book, parameters, same)
                record = _run_one(book, parameters, key, settings.out, kernel)
                print(f"{title}: {record['seconds']:.0f} s", flush=True)
            done[book.name] = {name: record[name] for name in TOLD if name in record}

    run_record = {
        "settings": settings.model_dump(mode="json"),
        "notebooks": done,
        "earlier": _earlier(jobs, overrides, same, settings.out),
        **same,
        "finished": max(record["finished"] for record in done.values()),
        "seconds": round(sum(record["seconds"] for record in done.values()), 1),
        "status": "ok",
    }
    records.write(settings.out / "run.json", run_record)
    return write_index(settings, run_record)


def _same(settings: Settings) -> dict[str, Any]:
    """What all notebooks of a run depend on."""
    return {
        "code": records.code_digest(),
        "data": records.data_digest(settings),
        "versions": records.versions(),
    }


def _key(book: Notebook, parameters: Mapping[str, Any], same: Mapping[str, Any]) -> dict[str, Any]:
    every = {**book.defaults, **parameters}
    models = records.model_digests(settings_of(every))
    return {"parameters": every, "notebook": book.digest, "models": models, **same}


def _record_of(book: Notebook, out: Path) -> Path:
    return out / "notebooks" / f"{book.name}.run.json"


def _earlier(
    jobs: Sequence[tuple[Notebook, dict[str, Any]]],
    overrides: Mapping[str, Any],
    same: Mapping[str, Any],
    out: Path,
) -> dict[str, list[str]]:
    """Notebooks of earlier runs whose tables still exist, and how they differ from this run.

    Those that are up to date are omitted.
    """
    found = {}
    folder = jobs[0][0].path.parent
    for file in sorted((out / "notebooks").glob("*.run.json")):
        name = file.name.removesuffix(".run.json")
        if name in {book.name for book, _ in jobs} or not records.read(file):
            continue
        try:
            book = load_notebook(folder / f"{name}.ipynb")
            key = _key(book, parameters_of(book, overrides), same)
        except InputError:
            found[name] = ["its notebook no longer exists"]
            continue
        if changes := records.changes(file, key, out):
            found[name] = changes
    return found


def _run_one(
    book: Notebook, parameters: dict[str, Any], key: dict[str, Any], out: Path, kernel: Kernel
) -> dict[str, Any]:
    """Executes a notebook, and writes its page and record if it finishes."""
    from papermill.exceptions import PapermillExecutionError

    folder = out / "notebooks"
    done = folder / f"{book.name}.ipynb"
    failed = folder / f"{book.name}.failed.ipynb"
    temporary = folder / f"{book.name}.tmp.ipynb"
    record_file = _record_of(book, out)
    earlier = (records.read(record_file) or {}).get("outputs", {})
    record_file.unlink(missing_ok=True)  # its tables are about to be overwritten
    began, before = time.time(), records.stamps(out)
    try:
        notebook = execute(book.path, temporary, parameters, kernel)
    except PapermillExecutionError as error:
        where, what = f"{book.name}, cell {error.exec_count}", " ".join(error.evalue.split())
        temporary.replace(failed)
        if error.ename == "InputError":
            raise InputError(f"{what} ({where})") from None
        raise NotebookFailed(f"{where}: {error.ename}: {what} (see {failed})") from None
    except (RuntimeError, TimeoutError, OSError) as error:  # a dead kernel or a cell that timed out
        if temporary.is_file():
            temporary.replace(failed)
        what = " ".join(str(error).split())[:300]
        raise NotebookFailed(f"{book.name}: {what}") from None
    skipped = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
    ]
    if skipped or _exits(notebook):  # papermill treats sys.exit() as success
        temporary.replace(failed)
        raise NotebookFailed(f"{book.name} ended before its last cell (see {failed})")

    temporary.replace(done)
    if (plain := without_widgets(notebook)) != notebook:
        with atomic_write(done) as path:
            nbformat.write(plain, path)
    write_html(plain, done.with_suffix(".html"), book.name)
    failed.unlink(missing_ok=True)
    outputs = records.outputs(out, before)
    others = (records.read(file) for file in folder.glob("*.run.json"))
    owned = {name for other in others if other for name in other["outputs"]}
    for name in earlier.keys() - outputs.keys() - owned:  # such as a figure that has been renamed
        (out / name).unlink(missing_ok=True)
    record = {
        **key,
        "outputs": outputs,
        "finished": records.now(),
        "seconds": round(time.time() - began, 1),
        "times": kernel.times,
        "shards": kernel.shards,
        "status": "ok",
    }
    records.write(record_file, record)
    return record


def _exits(notebook: Any) -> bool:
    return any(
        output.get("ename") == "SystemExit"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
