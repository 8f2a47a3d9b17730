from __future__ import annotations

import re

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tasnb.settings import make_settings
from tasnb.workbook.report import write_html, write_index

DIGEST = "ab" * 32


def test_index(tmp_path):
    out, data = tmp_path / "a run", tmp_path / "data"
    for folder in ("tables", "figures", "notebooks"):
        (out / folder).mkdir(parents=True)
    (out / "tables/table10.csv").write_text("method,value\nTAS <1>,12.5\nText,\n")
    (out / "tables/table2.csv").write_text("method,value\nTAS,34.5\n")
    (out / "tables/table2.md").write_text("| method | val |\n|---|--:|\n| **TAS** | 34.5 |\n")
    (out / "tables/table2_extra.csv").write_text("a\n1\n")
    (out / "figures/05_before & after.png").write_bytes(b"")
    (out / "notebooks/05_full_eval.html").write_text("")
    card = data / "embedded/checkpoints/clip-vit/card.json"
    card.parent.mkdir(parents=True)
    card.write_text(f'{{"files": {{"model.safetensors": "{DIGEST}"}}}}')

    settings = make_settings(out=str(out), data=str(data), alpha=0.25)
    record = {"finished": "2023-12-06", "seconds": 61.2, "versions": {"torch": "2.14.1"}}
    index = write_index(settings, record)
    page = index.read_text()

    assert index == out / "index.html"
    assert re.findall(r"<h3>(.*?)</h3>", page) == ["Table 2", "Table 2 extra", "Table 10"]
    assert "<strong>TAS</strong>" in page and "TAS &lt;1&gt;" in page and "NaN" not in page
    assert '<img src="figures/05_before%20%26%20after.png" alt="05 before &amp; after"' in page
    assert '<a href="notebooks/05_full_eval.html">05 full eval</a>' in page
    assert "<td>alpha</td><td><code>0.25</code></td>" in page
    assert f"<td>clip-vit/model.safetensors</td><td><code>{DIGEST}</code></td>" in page
    assert "<td>torch</td><td><code>2.14.1</code></td>" in page
    assert "finished 2023-12-06 after 61 s" in page
    assert "<script" not in page and "http" not in page  # opens without a network


def test_index_of_an_empty_run(tmp_path):
    settings = make_settings(out=str(tmp_path), data=str(tmp_path))
    record = {"finished": "2023-12-06", "seconds": 0.0, "versions": {}}
    assert write_index(settings, record).read_text().count("None were written.") == 4


def test_executed_notebook_keeps_code_and_output(tmp_path):
    cell = new_code_cell("answer = 6 * 7", outputs=[new_output("stream", text="forty-two")])
    notebook = nbformat.from_dict(new_notebook(cells=[cell]))
    write_html(notebook, tmp_path / "x.html", "01_x")
    page = (tmp_path / "x.html").read_text()
    assert "<title>01_x</title>" in page and "forty-two" in page and "answer" in page


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
