"""The editions of the course: for students, for the teacher, and slides without a network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tasnb.course.checking import exercises
from tasnb.course.editions import slowest, with_parameters, without_solutions, write_course
from tasnb.course.slides import divided, write_slides
from tasnb.settings import InputError
from tasnb.store.outputs import check_output
from tasnb.workbook.runner import select
from tasnb.workbook.start import COURSE

ROOT = Path(__file__).resolve().parents[2]
VERDICT = re.compile(r"Exercise (\d\.\d), (right|not yet|to do): ")


def verdicts(notebook) -> dict[str, str]:
    texts = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/plain" in output.get("data", {})
    ]
    return dict(match.groups() for text in texts if (match := VERDICT.match(text)))


def test_solutions_are_taken_out_whole():
    text = "a = ...\n### BEGIN SOLUTION\na = 1\n\nb = 2\n### END SOLUTION\nprint(a)"
    inner = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"
    book = new_notebook(cells=[new_code_cell(text), new_code_cell(inner), new_markdown_cell("x")])
    student = without_solutions(book)
    assert student.cells[0].source == "a = ...\n# your answer replaces the dots\nprint(a)"
    assert student.cells[1].source == "def f():\n    # your answer replaces the dots"
    assert book.cells[0].source == text
    book.cells[0].source = text.replace("### END SOLUTION\n", "")
    with pytest.raises(InputError, match=r"do not match$"):
        without_solutions(book)


def test_students_get_the_parameters_of_the_teacher_s_run():
    text = 'profile: str = "embedded"  # models\n'
    text += "datasets: list[str] = []  # all\nlimit: int = 0  # all"
    cell = new_code_cell(text, metadata={"tags": ["parameters"]})
    values = {"datasets": ["refscenes"], "limit": 5, "store": "/x", "recipe": "released"}
    student = with_parameters(new_notebook(cells=[cell]), values)
    assert student.cells[0].source.splitlines() == [
        'profile: str = "embedded"  # models',
        'datasets: list[str] = ["refscenes"]  # all',
        "limit: int = 5  # all",
    ]


def test_every_exercise_stands_in_its_notebook():
    """Three to five in most, with a question, a cell to fill in and a check."""
    found = {}
    for book in select():
        cells = nbformat.read(book.path, as_version=4).cells
        marked = {cell.metadata.nbgrader.grade_id: k for k, cell in enumerate(cells)
                  if "nbgrader" in cell.metadata}  # fmt: skip
        for name, k in marked.items():
            if not name.startswith("check-"):
                continue
            number = name.removeprefix("check-").replace("-", ".")
            found[number] = book.name
            assert f'check("{number}", globals())' in cells[k].source
            answer = cells[k - 1]
            assert answer.metadata.nbgrader.grade_id == f"exercise-{number.replace('.', '-')}"
            assert answer.metadata.nbgrader.solution and "### BEGIN SOLUTION" in answer.source
            assert cells[k - 2].source.startswith(f"**Exercise {number}** (")
            left = without_solutions(new_notebook(cells=[answer])).cells[0].source
            assert all(re.search(rf"\b{name}\b", left) for name in exercises()[number].names)
        count = sum(name.startswith("check-") for name in marked)
        assert 3 <= count <= 5 or book.name[:2] in ("00", "07")
    assert set(found) == set(exercises())
    assert all(book.startswith(f"0{number[0]}_") for number, book in found.items())


def test_every_notebook_states_goals_needs_and_minutes():
    for book in select():
        opening = nbformat.read(book.path, as_version=4).cells[0].source
        for what in ("You will be able to", "You need to know", "Minutes"):
            assert f"> **{what}:** " in opening, book.name


@pytest.mark.slow
def test_the_teacher_s_edition_passes_every_check(course):
    found = {}
    for file in (course / "teacher/notebooks").glob("*.ipynb"):
        found |= verdicts(nbformat.read(file, as_version=4))
    assert found == dict.fromkeys(exercises(), "right")
    assert (course / "teacher/index.html").is_file()


def test_the_slowest_cell_is_one_that_shows_stored_results(tmp_path):
    """In a notebook that computed them first, seconds say nothing about the class."""
    for name, stages, seconds in (("01_x", 9.0, 50.0), ("02_y", 0.1, 4.0), ("03_z", 0.0, 3.0)):
        cell = new_code_cell("1", metadata={"papermill": {"duration": seconds}})
        book = new_notebook(cells=[new_markdown_cell("#"), cell])
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        nbformat.write(book, tmp_path / "notebooks" / f"{name}.ipynb")
        record = {"status": "ok", "times": {"stages": stages, "passes": 0.0}}
        (tmp_path / "notebooks" / f"{name}.run.json").write_text(json.dumps(record))
    assert slowest(tmp_path) == (4.0, "02_y, cell 2")


@pytest.mark.slow
def test_in_the_student_s_edition_every_check_says_what_is_to_do(course):
    """One check alone, and the notebook from top to bottom."""
    from nbclient import NotebookClient

    assert "SOLUTION" not in "".join(p.read_text() for p in (course / "student").iterdir())
    book = nbformat.read(course / "student/04_rectifier.ipynb", as_version=4)
    where = {"metadata": {"path": str(course / "student")}}
    NotebookClient(book, kernel_name="python3", resources=where).execute()
    assert verdicts(book) == dict.fromkeys(("4.1", "4.2", "4.3"), "to do")


@pytest.mark.slow
def test_the_shipped_store_holds_all_that_the_notebooks_use_and_no_more(course, shared_store):
    used, sizes = set(), {}
    for file in (course / "teacher/notebooks").glob("*.run.json"):
        used.update(json.loads(file.read_text())["shards"])
    for name, store in (("all", shared_store), ("shipped", course / "store")):
        sizes[name] = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    shipped = {
        str(file.relative_to(course / "store")) for file in (course / "store").rglob("shard-*.json")
    }
    assert shipped == used and 0 < sizes["shipped"] < sizes["all"]


def test_one_slide_per_table_or_figure():
    def shown(kind, content):
        return new_output("display_data", {kind: content})

    outputs = [
        shown("text/markdown", "remark"),
        shown("text/html", "table"),
        shown("image/png", "figure"),
        shown("text/markdown", "more"),
    ]
    cells = divided(new_notebook(cells=[new_code_cell("x", outputs=outputs)])).cells
    kinds = [[next(iter(output["data"])) for output in cell.outputs] for cell in cells]
    assert kinds == [["text/markdown", "text/html"], ["image/png", "text/markdown"]]
    assert len({cell.id for cell in cells}) == 2


@pytest.mark.slow
def test_only_an_unchanged_course_may_be_replaced(course):
    check_output(course, COURSE)
    notebook = course / "student/01_proposals.ipynb"
    before = notebook.read_bytes()
    notebook.write_bytes(before + b" ")
    try:
        with pytest.raises(InputError, match=r"student/01_proposals\.ipynb in it was changed"):
            write_course(course, {})
    finally:
        notebook.write_bytes(before)


@pytest.mark.slow
def test_slides_are_whole_and_show_no_solution(course):
    for file in (course / "slides").iterdir():
        page = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
        assert "SOLUTION" not in page.text and page.find_all("section")
        assert not page.find_all("script", src=True) and not page.find_all("link", href=True)


def test_slides_turn_without_a_network(browser, tmp_path):
    cells = [
        new_markdown_cell("# First\n\ntext $x^2$\n\n## Second\n\nmore"),
        new_code_cell("hidden = 1"),
        new_code_cell(
            "plot()", outputs=[new_output("display_data", {"text/html": "<b>shown</b>"})]
        ),
        new_code_cell("", outputs=[], metadata={"tags": ["parameters"]}),
        new_code_cell(
            "draw()",
            outputs=[
                new_output(
                    "display_data",
                    {"image/png": "iVBORw0KGgo="},
                    metadata={"image/png": {"alt": "a drawing"}},
                )
            ],
        ),
    ]
    write_slides(new_notebook(cells=cells), tmp_path / "s.html", "s")
    browser.open(tmp_path / "s.html")
    seen = []
    for _ in range(3):
        (one,) = browser.run(
            "return [...document.querySelectorAll('.slides section')].filter(s => "
            "!s.querySelector('section') && s.offsetParent).map(s => s.innerText);"
        )
        seen.append(one)
        browser.keys("\ue014")
    assert "First" in seen[0] and "Second" not in seen[0]
    assert "Second" in seen[1] and "shown" in seen[2]
    assert "hidden" not in "".join(seen) and "plot" not in "".join(seen)
    assert browser.text("nav.turn span") == "4 / 4"
    assert browser.find("img").get_attribute("alt") == "a drawing"
    assert browser.requests() <= {"file:", "data:"} and not browser.errors()
    browser.open(tmp_path / "s.html", width=390)
    assert browser.fits() and browser.run("return innerWidth") == 390


def test_what_exists_is_not_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("a", "b")
    for out in (tmp_path, tmp_path / "x.zip"):
        command = [sys.executable, "-m", "tasnb", "course", "--out", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr == f"tasnb: --out {out} exists: remove it, or choose another name\n"
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as packed:
        packed.writestr(f"own/{COURSE}", "{}")
    with pytest.raises(InputError, match="unknown notebook"):  # so that nothing is run
        write_course(tmp_path / "own.zip", {}, ["99"])
    command = [sys.executable, "-m", "tasnb", "course"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("tasnb: say where to write the course")
