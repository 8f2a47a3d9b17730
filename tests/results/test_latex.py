"""Tables in LaTeX say the same as those in Markdown, and compile."""

from __future__ import annotations

import re
import shutil
import subprocess

import pandas as pd
import pytest

from tasnb.results import latex, shown, tables
from tasnb.settings import make_settings

VIT = "open_clip:embedded/clip-vit"


def table1() -> pd.DataFrame:
    found = []
    for method, inter in (("CLIP-only", 100), ("TAS", 120)):
        for split in ("val", "testA"):
            pixels = pd.DataFrame({"intersection": [inter, 200], "union": [300, 400]})
            found.append(tables.rows("table1", method, VIT, "refscenes", split, pixels))
    cited = pd.DataFrame(found[0].head(1)).assign(method="TSEG (cited)", value=None, paper=25.95)
    return pd.concat([*found, cited.astype(found[0].dtypes)], ignore_index=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**41.85** (39.91)", r"\textbf{41.85} \textcolor{gray}{(39.91)}"),
        ("41.85 (39.91)", r"41.85 \textcolor{gray}{(39.91)}"),
        ("(25.95)", r"\textcolor{gray}{(25.95)}"),
        ("-1.00", "-1.00"),
        ("", ""),
        ("no_target, 5 % (12.5)", r"no\_target, 5 \% (12.5)"),
        ("[0.1, 2]", "{[}0.1, 2{]}"),
        (r"a\b & {c}", r"a\textbackslash{}b \& \{c\}"),
    ],
)
def test_cells(text, expected):
    assert latex.cell(text) == expected


def test_a_table_has_booktabs_bold_grey_and_a_caption(tmp_path):
    settings = make_settings(out=str(tmp_path), encoders=[VIT], alpha=0.2, recipe="released")
    shown.save(table1(), "table1", settings)
    text = (tmp_path / "tables" / "table1.tex").read_text(encoding="utf-8")
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\label{tab:table1}"):
        assert text.count(part) == 1
    (row,) = [line for line in text.splitlines() if line.startswith("mIoU & clip-vit & TAS")]
    assert re.findall(r"\\textbf\{(.*?)\}", row) == ["45.00", "45.00"]
    assert re.findall(r"\\textcolor\{gray\}\{\((.*?)\)\}", row) == ["39.84", "41.08"]
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    assert caption.startswith(
        r"\caption[Every method on the RefCOCO family (the paper's Table 1)]{E"
    )
    assert "Profile embedded, recipe released" in caption
    assert (
        r"Changed from the profile: encoders = open\_clip:embedded/clip-vit; alpha = 0.2."
        in caption
    )
    markdown = (tmp_path / "tables" / "table1.md").read_text(encoding="utf-8")
    rows = [line for line in markdown.splitlines() if line.startswith("| ")][2:]
    body = re.search(r"(?s)\\midrule(.*)\\bottomrule", text)[1].strip().splitlines()
    plain = [re.sub(r"\\text(?:bf|color\{gray\})\{(.*?)\}", r"\1", line) for line in body]
    assert [line.removesuffix(r" \\").split(" & ") for line in plain] == [
        line.replace("**", "")[2:-2].split(" | ") for line in rows
    ]


def test_the_document_lists_the_papers_tables_first(tmp_path):
    settings = make_settings(out=str(tmp_path), encoders=[VIT])
    for name in ("causes", "table10", "table2"):
        shown.save(pd.DataFrame({"a": [1.0]}), name, settings)
    shown.save(pd.DataFrame(columns=tables.COLUMNS), "table1", settings)  # has no rows
    (tmp_path / "tables" / "causes.tex").unlink()
    text = (tmp_path / "tables.tex").read_text(encoding="utf-8")
    names = re.findall(r"\\IfFileExists\{(.*?)\}", text)
    assert names == [f"tables/{name}.tex" for name in ("table1", "table2", "table10", "causes")]
    assert (tmp_path / "tables" / "table1.tex").read_text().startswith("% table1: ")


def test_long_tables_break_across_pages(tmp_path):
    settings = make_settings(out=str(tmp_path), encoders=[VIT])
    shown.save(pd.DataFrame({"a": range(60)}), "long", settings)
    text = (tmp_path / "tables" / "long.tex").read_text(encoding="utf-8")
    assert r"\begin{longtable}" in text and "resizebox" not in text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_all_tables_compile(tmp_path):
    """Also with every character that is special in LaTeX, in captions, headings and cells."""
    odd = '\\ & % $ # _ { } ~ ^ < > " | [x] − × ± ≥ ≤ → α λ – ’ “ ” … · é ł 猫'
    settings = make_settings(out=str(tmp_path), encoders=[VIT])
    shown.save(table1(), "table1", settings)
    shown.save(
        pd.DataFrame({odd: [odd, "**bold** text"], "b": [1.5, 2]}), "odd_names", settings, odd
    )
    shown.save(pd.DataFrame({"a": range(60), "b": odd}), "long", settings)
    shown.save(pd.DataFrame(columns=tables.COLUMNS), "table2", settings)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000
