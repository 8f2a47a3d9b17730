"""Writes the course: students' and teacher's notebooks, slides, and a store with all results."""

from __future__ import annotations

import copy
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from tasnb import __version__
from tasnb.course.slides import write_slides
from tasnb.settings import InputError
from tasnb.store.copies import copy_shards
from tasnb.store.files import atomic_write, check_new
from tasnb.store.outputs import check_output, output_folder
from tasnb.workbook import records, runner
from tasnb.workbook.parameters import settings_of
from tasnb.workbook.start import COURSE

_SOLUTION = re.compile(r"(?ms)^([ \t]*)### BEGIN SOLUTION\n.*?^\1### END SOLUTION\n?")
NOT_IN_CLASS = ("07",)
"""Notebooks that are left out unless they are named: this one measures time on a quiet machine."""

PLACEHOLDER = "# your answer replaces the dots\n"
_READ_ME = """\
# The course

- `COURSE.md`: the plan, for the teacher.
- `student/`: the notebooks without solutions. They use the results in `store/`.
- `teacher/`: a finished run with all solutions; open `teacher/index.html`.
- `slides/`: one page per notebook. Arrow keys turn them; no network is needed.

The notebooks need tasnb, installed from its repository. Start JupyterLab in `student/`.
"""


def without_solutions(notebook: Any) -> Any:
    """A copy of a notebook without outputs, in which solutions are taken out.

    Raises:
        InputError: The marks of a solution do not match.
    """
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        cell.source = _SOLUTION.sub(lambda m: m[1] + PLACEHOLDER, cell.source).rstrip("\n")
        if "### BEGIN SOLUTION" in cell.source or "### END SOLUTION" in cell.source:
            raise InputError(f"cell {cell.id}: BEGIN SOLUTION and END SOLUTION do not match")
    return notebook


def with_parameters(notebook: Any, values: Mapping[str, Any]) -> Any:
    """Writes values into the parameters cell of a notebook (in place), so that it is ready to run.

    Folders are left out, as they differ between machines.
    """
    cell = next((c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])), None)
    for name, value in values.items():
        if cell and name not in ("out", "store", "data"):
            line = re.compile(rf"(?m)^({re.escape(name)}\b[^=\n]*= )(?:\[.*?\]|\S+)")
            cell.source = line.sub(lambda m, value=value: m[1] + _literal(value), cell.source)
    return notebook


def _literal(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str | list) else repr(value)


def write_course(out: Path, overrides: Mapping[str, Any], names: Sequence[str] = ()) -> Path:
    """Writes the whole course to a folder or zip file.

    An earlier course there is replaced, unless a file of it was changed since.

    Args:
        out: The folder; or a file whose name ends in .zip.
        overrides: Parameters of the teacher's run, as for `runner.run`.
        names: Which notebooks, by number; all but `NOT_IN_CLASS` if empty.

    Raises:
        InputError: `out` is something else or cannot be written, or a parameter is invalid.
        NotebookFailed: A notebook did not finish.
    """
    packed = out.suffix.lower() == ".zip"
    if packed:
        _check_zip(out)
    else:
        check_output(out, COURSE)
    books = [b for b in runner.select(names) if names or b.name[:2] not in NOT_IN_CLASS]
    content = {"tasnb": __version__, "notebooks": [book.name for book in books]}
    if not packed:
        with output_folder(out, COURSE, content) as folder:
            _fill(folder, books, overrides)
        return out
    with tempfile.TemporaryDirectory() as temporary:
        with output_folder(Path(temporary) / out.stem, COURSE, content) as folder:
            _fill(folder, books, overrides)
        archive = shutil.make_archive(str(Path(temporary) / "packed"), "zip", temporary, out.stem)
        _check_zip(out)
        with atomic_write(out) as file:
            shutil.copyfile(archive, file)
    return out


def _check_zip(out: Path) -> None:
    """Raises an InputError if a file exists that is not an earlier course."""
    try:
        with zipfile.ZipFile(out) as packed:
            if any(Path(name).name == COURSE for name in packed.namelist()):
                return
    except (OSError, zipfile.BadZipFile):
        pass
    check_new(out, "--out")


def slowest(run: Path) -> tuple[float, str]:
    """The longest time that a cell took to show stored results, in seconds, and where it is.

    Notebooks that had to compute results first do not count, as these are part of the course.
    """
    found = [(0.0, "")]
    for file in sorted((run / "notebooks").glob("*.run.json")):
        record = records.read(file) or {}
        if record.get("times", {}).get("stages", 1.0) > 0.5:
            continue
        name = file.name.removesuffix(".run.json")
        book = nbformat.read(file.with_name(f"{name}.ipynb"), as_version=4)
        for number, cell in enumerate(book.cells, start=1):
            seconds = cell.metadata.get("papermill", {}).get("duration") or 0.0
            found.append((seconds, f"{name}, cell {number}"))
    return max(found)


def _fill(folder: Path, books: Sequence[runner.Notebook], overrides: Mapping[str, Any]) -> None:
    teacher = folder / "teacher"
    runner.run(books, {**overrides, "out": str(teacher.absolute())})
    for name in ("student", "slides"):
        (folder / name).mkdir()
    used: set[str] = set()
    for book in books:
        source = nbformat.read(book.path, as_version=4)
        student = with_parameters(without_solutions(source), overrides)
        with atomic_write(folder / "student" / book.path.name) as path:
            nbformat.write(student, path)
        executed = nbformat.read(teacher / "notebooks" / book.path.name, as_version=4)
        _take_solutions_from(executed, student)
        write_slides(executed, folder / "slides" / f"{book.name}.html", book.name)
        record = records.read(teacher / "notebooks" / f"{book.name}.run.json") or {}
        used.update(record["shards"])
    copy_shards(settings_of(overrides).store, used, folder / "store")
    plan = books[0].path.parent / "COURSE.md"
    if plan.is_file():
        shutil.copyfile(plan, folder / plan.name)
    (folder / "README.md").write_text(_READ_ME, encoding="utf-8")


def _take_solutions_from(executed: Any, student: Any) -> None:
    """Replaces the solutions of an executed notebook by the placeholders (in place)."""
    sources = {cell.id: cell.source for cell in student.cells}
    for cell in executed.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = sources[cell.id]
