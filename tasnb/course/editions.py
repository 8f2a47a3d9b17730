"""Writes the course: students' and teacher's notebooks, slides, and a store with all results."""

from __future__ import annotations

import copy
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from tasnb import __version__
from tasnb.course.slides import write_slides
from tasnb.settings import InputError
from tasnb.store.files import atomic_write, check_new, new_folder
from tasnb.workbook import runner
from tasnb.workbook.parameters import settings_of
from tasnb.workbook.start import COURSE

_SOLUTION = re.compile(r"(?ms)^([ \t]*)### BEGIN SOLUTION\n.*?^\1### END SOLUTION\n?")
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
    """Writes the whole course to a new folder or zip file.

    Args:
        out: The folder; or a file whose name ends in .zip.
        overrides: Parameters of the teacher's run, as for `runner.run`.
        names: Which notebooks, by number; all if empty.

    Raises:
        InputError: `out` exists or cannot be written, or a parameter is invalid.
        NotebookFailed: A notebook did not finish.
    """
    check_new(out, "--out")
    books = runner.select(names)
    settings = settings_of(overrides)
    if out.suffix.lower() != ".zip":
        with new_folder(out) as folder:
            _fill(folder, books, overrides, settings.store)
        return out
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / out.stem
        folder.mkdir()
        _fill(folder, books, overrides, settings.store)
        packed = shutil.make_archive(str(Path(temporary) / "packed"), "zip", temporary, out.stem)
        with atomic_write(out) as file:
            shutil.copyfile(packed, file)
    return out


def slowest(run: Path) -> tuple[float, str]:
    """The longest time that a cell of a run took, in seconds, and where it is."""
    found = [(0.0, "")]
    for file in sorted((run / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(nbformat.read(file, as_version=4).cells, start=1):
            seconds = cell.metadata.get("papermill", {}).get("duration") or 0.0
            found.append((seconds, f"{file.stem}, cell {number}"))
    return max(found)


def _fill(
    folder: Path, books: Sequence[runner.Notebook], overrides: Mapping[str, Any], store: Path
) -> None:
    teacher = folder / "teacher"
    runner.run(books, {**overrides, "out": str(teacher.absolute())})
    for name in ("student", "slides"):
        (folder / name).mkdir()
    for book in books:
        source = nbformat.read(book.path, as_version=4)
        student = with_parameters(without_solutions(source), overrides)
        with atomic_write(folder / "student" / book.path.name) as path:
            nbformat.write(student, path)
        executed = nbformat.read(teacher / "notebooks" / book.path.name, as_version=4)
        _take_solutions_from(executed, student)
        write_slides(executed, folder / "slides" / f"{book.name}.html", book.name)
    shutil.copytree(store, folder / "store", ignore=shutil.ignore_patterns(".*"))
    plan = books[0].path.parent / "COURSE.md"
    if plan.is_file():
        shutil.copyfile(plan, folder / plan.name)
    (folder / "README.md").write_text(_READ_ME, encoding="utf-8")
    content = {"tasnb": __version__, "notebooks": [book.name for book in books]}
    (folder / COURSE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _take_solutions_from(executed: Any, student: Any) -> None:
    """Replaces the solutions of an executed notebook by the placeholders (in place)."""
    sources = {cell.id: cell.source for cell in student.cells}
    for cell in executed.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = sources[cell.id]
