"""nbgrader accepts the notebooks: without solutions every check fails with its hint, with solutions
none does. The tests need nbgrader on the PATH; it may have an environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tasnb.course.checking import exercises
from tasnb.course.editions import NOT_IN_CLASS, with_parameters
from tasnb.workbook.runner import select

BOOKS = [book for book in select() if book.name[:2] not in NOT_IN_CLASS]
LINE = re.compile(r"Exercise (\d\.\d), (right|not yet|to do): ")


def validate(notebook: Path, folder: Path) -> str:
    """What ``nbgrader validate`` prints; the notebook runs in this Python.

    Args:
        notebook: Not changed.
        folder: An empty folder for the kernel's specification.
    """
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    done = subprocess.run(
        ["nbgrader", "validate", notebook.name, "--Execute.timeout=1800"],
        cwd=notebook.parent,
        env={**os.environ, "JUPYTER_DATA_DIR": str(folder), "JUPYTER_PREFER_ENV_PATH": "0"},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def checks(book) -> set[str]:
    return {number for number in exercises() if book.name.startswith(f"0{number[0]}")}


def marks_of(text: str) -> dict[str, str]:
    return dict(LINE.findall(text))


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("nbgrader"), reason="nbgrader is not installed"),
]


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.name)
def test_without_solutions_every_check_fails_with_what_is_to_do(book, course, tmp_path):
    said = validate(course / "student" / book.path.name, tmp_path)
    assert f"VALIDATION FAILED ON {len(checks(book))} CELL(S)" in said, said
    assert marks_of(said) == dict.fromkeys(checks(book), "to do")


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.name)
def test_with_solutions_every_check_passes(book, course, tmp_path):
    (tmp_path / "store").symlink_to(course / "store")
    shutil.copy(course / "course.json", tmp_path)
    (tmp_path / "student").mkdir()
    solved = tmp_path / "student" / book.path.name
    parameters = {"limit": 3, "datasets": ["refscenes", "refscenesg"], "splits": ["val", "test(G)"]}
    nbformat.write(with_parameters(nbformat.read(book.path, 4), parameters), solved)
    said = validate(solved, tmp_path / "jupyter")
    assert "Success! Your notebook passes all the tests." in said, said
    assert "cannot be converted" not in said  # a value of the check, to a number of points
