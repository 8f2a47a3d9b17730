"""Tables in LaTeX (booktabs): our best result in bold, the paper's in grey, the note as caption.

``tables/<name>.tex`` is for ``\\input``; ``tables.tex`` beside the folder puts all of them together
and is a document of its own. ``PREAMBLE`` lists what they need.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from tasnb.drawing.titles import title
from tasnb.store.files import atomic_write

PREAMBLE = r"""
\usepackage[utf8]{inputenc}
\usepackage{booktabs,longtable,graphicx,xcolor}
""".strip()
_PAPERS = re.compile(r"Table (\d+): (.*)")
LONG = 40  # rows; longer tables may break across pages

_SYMBOLS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "$": r"\ensuremath{\mathdollar}",  # \$ would need a further font
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", '"': "''", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}",  # after \\, a bracket would be its optional argument
    "−": r"\ensuremath{-}", "×": r"\ensuremath{\times}", "±": r"\ensuremath{\pm}",
    "≥": r"\ensuremath{\geq}", "≤": r"\ensuremath{\leq}", "→": r"\ensuremath{\rightarrow}",
    "α": r"\ensuremath{\alpha}", "λ": r"\ensuremath{\lambda}", "–": "--", "’": "'",
    "“": "``", "”": "''", "…": r"\ldots{}", "·": r"\ensuremath{\cdot}",
}  # fmt: skip
_UNKNOWN = re.compile("[^\x00-\u017f]")  # pdflatex knows no letters but Latin ones
_SPECIAL = re.compile("|".join(map(re.escape, _SYMBOLS)))
_RESULT = re.compile(r"(\*\*)?(-?\d+\.\d+)?(?(1)\*\*) ?(\(\d+\.\d+\))?")


def escaped(text: str) -> str:
    """Plain text as LaTeX; "?" stands for characters that pdflatex cannot set."""
    return _UNKNOWN.sub("?", _SPECIAL.sub(lambda match: _SYMBOLS[match[0]], text))


def cell(text: str) -> str:
    """A cell in LaTeX: in ``**ours** (paper)``, our result becomes bold and the paper's grey."""
    match = _RESULT.fullmatch(text)
    if not match:
        return escaped(text)
    best, ours, paper = match.groups(default="")
    parts = [rf"\textbf{{{ours}}}" if best else ours]
    parts.append(rf"\textcolor{{gray}}{{{paper}}}" if paper else "")
    return " ".join(filter(None, parts))


def table(shown: pd.DataFrame, name: str, note: str) -> str:
    """A table in LaTeX.

    Args:
        shown: Text, as in the Markdown table; cells may be ``**ours** (paper)``.
        name: Of its file; ``tab:<name>`` is its label.
        note: Put into the caption after the title.
    """
    heading = _PAPERS.sub(_of_paper, title(Path(name)))
    caption = (escaped(f"{heading}. {note}"), escaped(heading))
    styled = shown.style.hide(axis="index").format(cell)
    styled = styled.format_index(lambda label: escaped(str(label)), axis="columns")
    long = len(shown) > LONG
    text = styled.to_latex(
        hrules=True,
        caption=caption,
        label=f"tab:{name}",
        column_format="l" * shown.shape[1],
        environment="longtable" if long else "table",
    )
    return text if long else _fitting(text)


def _of_paper(match: re.Match[str]) -> str:
    """The number of one of the paper's tables at the end, since LaTeX numbers them anew."""
    number, words = match.groups()
    return f"{words[:1].upper()}{words[1:]} (the paper's Table {number})"


def _fitting(text: str) -> str:
    """Shrinks a table that is wider than the line; narrower ones keep their size."""
    wide = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    text = text.replace(r"\begin{tabular}", f"\\centering\n{wide}\n\\begin{{tabular}}", 1)
    return text.replace(r"\end{tabular}", "\\end{tabular}%\n}", 1)


def document(folder: Path) -> str:
    """A document with all tables of a folder, the paper's first.

    Tables that no longer exist when it is compiled are skipped.
    """
    files = sorted(folder.glob("[!.]*.tex"), key=_place)
    lines = [
        rf"\IfFileExists{{{folder.name}/{file.name}}}{{\input{{{folder.name}/{file.stem}}}}}{{}}"
        + "\n\\clearpage"
        for file in files
    ]
    return "\n".join(
        [
            r"\documentclass[a4paper,10pt]{article}",
            r"\usepackage[landscape,margin=15mm]{geometry}",
            PREAMBLE,
            r"\begin{document}",
            r"\small",
            *lines,
            r"\end{document}",
            "",
        ]
    )


def _place(file: Path) -> tuple[bool, list[tuple[int, str]]]:
    """The paper's tables first, by number."""
    parts = re.findall(r"\d+|\D+", file.stem)
    numbers = [(int(part), "") if part.isdigit() else (0, part) for part in parts]
    return not file.stem.startswith("table"), numbers


def save(shown: pd.DataFrame, name: str, note: str, folder: Path) -> None:
    """Writes ``<folder>/<name>.tex``, and ``tables.tex`` next to the folder.

    A table without rows becomes a comment.
    """
    text = f"% {name}: no rows in this run\n" if shown.empty else table(shown, name, note)
    with atomic_write(folder / f"{name}.tex") as path:
        path.write_text(text, encoding="utf-8")
    with atomic_write(folder.parent / "tables.tex") as path:
        path.write_text(document(folder), encoding="utf-8")
