"""Pages of notebooks: whole by themselves, with formulas, without bars and dead widgets."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tasnb.workbook.pages import to_mathml, without_widgets, write_html

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def page_of(tmp_path: Path, *cells) -> BeautifulSoup:
    write_html(new_notebook(cells=list(cells)), tmp_path / "x.html", "01_x")
    return BeautifulSoup((tmp_path / "x.html").read_text(encoding="utf-8"), "html.parser")


def test_executed_notebook_keeps_code_and_output(tmp_path):
    cell = new_code_cell("answer = 6 * 7", outputs=[new_output("stream", text="forty-two")])
    page = page_of(tmp_path, cell)
    assert page.title.text == "01_x"
    assert "forty-two" in page.text and "answer" in page.text


def test_pages_have_no_progress_bars(tmp_path):
    bars = "proposals:  50%|#####     | 1/2\rproposals: 100%|##########| 2/2\n"
    cells = [
        new_code_cell("1", outputs=[new_output("stream", name="stderr", text=text)])
        for text in (bars, bars + "UserWarning: cut\n")
    ]
    notebook = new_notebook(cells=cells)
    write_html(notebook, tmp_path / "a.html", "a")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "%|" not in page and page.count("UserWarning: cut") == 1
    assert notebook.cells[0].outputs[0].text == bars  # the notebook itself is as it was


def test_widgets_leave_what_they_show_without_a_kernel(tmp_path):
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Box()"}
    outputs = [
        new_output("display_data", view),
        new_output("display_data", {**view, "text/html": "<b>still here</b>"}),
    ]
    notebook = new_notebook(
        cells=[new_code_cell("w", outputs=outputs)], metadata={"widgets": {"state": {}}}
    )
    plain = without_widgets(notebook)
    assert [dict(o.data) for o in plain.cells[0].outputs] == [
        {"text/plain": "Box()", "text/html": "<b>still here</b>"}
    ]
    assert "widgets" not in plain.metadata and "widgets" in notebook.metadata
    page = page_of(tmp_path, *notebook.cells)
    assert page.find("b", string="still here") and "widget-view" not in str(page)


def test_pictures_keep_their_alternative_text(tmp_path):
    """And only theirs: what a picture says of itself is text, not HTML."""
    picture = {"image/png": "iVBORw0KGgo="}
    outputs = [
        new_output(
            "display_data", picture, metadata={"image/png": {"alt": 'V, P & "N"', "width": 9}}
        ),
        new_output("display_data", picture),
    ]
    first, second = page_of(tmp_path, new_code_cell("show()", outputs=outputs)).find_all("img")
    assert (first["alt"], first["width"]) == ('V, P & "N"', "9")
    assert second["alt"] != first["alt"]


def test_figures_can_be_read_on_a_phone(browser, tmp_path):
    """They keep most of their size and scroll in their own box; the page itself does not."""
    Image.new("RGB", (1300, 400), "red").save(tmp_path / "a.png")
    picture = {"image/png": base64.b64encode((tmp_path / "a.png").read_bytes()).decode()}
    shown = new_output("display_data", picture, metadata={"image/png": {"width": 1000}})
    cell = new_code_cell("show()", outputs=[shown])
    write_html(new_notebook(cells=[cell]), tmp_path / "x.html", "x")
    wide = "return document.querySelector('img').getBoundingClientRect().width;"
    browser.open(tmp_path / "x.html", width=390)
    assert browser.run(wide) >= 700 and browser.fits()
    browser.open(tmp_path / "x.html", width=1400)
    assert browser.run(wide) == 1000 and browser.fits()


# --- formulas


def test_formulas_become_mathml(tmp_path):
    text = "With $\\alpha = 0.1$:\n\n$$\\mathbf S_m = \\tfrac{1}{2} \\tag{5}$$\n\nand `$HOME` \\$5."
    page = page_of(tmp_path, new_markdown_cell(text))
    inline, block = page.find_all("math")
    assert (inline["display"], block["display"]) == ("inline", "block")
    assert inline.text == "α=0.1"
    assert block.find("mi").text == "𝐒"  # bold by itself: browsers ignore mathvariant
    assert block.find("mfrac")
    assert block.find_next_sibling("span").text == "(5)"
    assert "$HOME" in page.text and "$5" in page.text
    assert "\\mathbf" not in page.text


def test_what_is_no_formula_stays_as_it_was_written(tmp_path):
    assert to_mathml("<b> \\frac{") == "<code>&lt;b&gt; \\frac{</code>"
    page = page_of(tmp_path, new_markdown_cell("$\\frac{$ and $x$"))
    assert page.find("code", string="\\frac{") and page.find("math").text == "x"


def formulas(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    texts = [re.sub(r"(?s)```.*?```|`[^`]*`", "", text) for text in texts]
    return [a or b for text in texts for a, b in re.findall(r"(?s)\$\$(.+?)\$\$|\$(.+?)\$", text)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_pages_are_whole_by_themselves(path, tmp_path):
    """Every formula is MathML, and nothing is loaded from anywhere: a link may lead elsewhere."""
    write_html(nbformat.read(path, as_version=4), tmp_path / "x.html", path.stem)
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    page = BeautifulSoup(text, "html.parser")
    assert len(page.find_all("math")) == len(formulas(path))
    words = page.find_all(string=re.compile(r"\\(math|alpha|lambda|frac|sum|times|cos)"))
    assert not words and not page.find_all("merror")
    assert not page.find_all(["script", "iframe", "object"])
    for tag in page.find_all(True):
        for name in ("src", "href", "srcset", "data"):
            if tag.name != "a" and tag.has_attr(name):
                assert tag[name].startswith(("data:", "#")), tag
    for style in page.find_all("style"):
        rules = re.sub(r"(?s)/\*.*?\*/", "", style.text)
        assert "@import" not in rules and not re.search(r"url\(['\"]?(?!data:)", rules)
