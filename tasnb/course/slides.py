"""Slides of an executed notebook: one HTML file that needs neither a network nor a server.

nbconvert's slides load reveal.js, jQuery, require.js and MathJax from the network. Only its
division into sections is used here; `slides.js` turns the pages, and formulas are MathML as on
other pages.
"""

from __future__ import annotations

import copy
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasnb.store.files import atomic_write
from tasnb.workbook.pages import PICTURE, exporter, without_bars, without_widgets

_TEMPLATE = (
    """\
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_css -%}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>STYLE</style>{%- endblock -%}
{%- block footer_js -%}<script>SCRIPT</script>{%- endblock -%}
"""
    + PICTURE
)
_REVEAL = re.compile(r'<link [^>]*href="[^"]*/dist/[^"]*"[^>]*>')
_HEADING = re.compile(r"(?m)^#{1,2} ")


def write_slides(notebook: Any, path: Path, title: str) -> None:
    """Writes the slides of an executed notebook (an nbformat node).

    Every section starts a slide, every other text or output gets a slide of its own. Code is left
    out, except that of exercises, whose solutions should have been taken out before.
    """
    from nbconvert.exporters import SlidesExporter

    folder = Path(__file__).parent
    template = _TEMPLATE
    for mark, name in (("STYLE", "slides.css"), ("SCRIPT", "slides.js")):
        content = (folder / name).read_text(encoding="utf-8")
        template = template.replace(mark, f"{{% raw %}}{content}{{% endraw %}}")
    page, _ = exporter(SlidesExporter)(raw_template=template).from_notebook_node(
        divided(without_bars(without_widgets(notebook))), {"metadata": {"name": title}}
    )
    with atomic_write(path) as temporary:
        temporary.write_text(_REVEAL.sub("", page), encoding="utf-8")


def divided(notebook: Any) -> Any:
    """A copy of a notebook, divided into slides.

    Cells get nbconvert's slide types, and long texts are split at their headings. Code that shows
    nothing, and that of checks, is left out.
    """
    notebook = copy.deepcopy(notebook)
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cells += [_typed(part, _HEADING.match(part.source)) for part in _parts(cell)]
            continue
        graded = cell.metadata.get("nbgrader", {})
        if graded.get("solution"):
            cell.outputs = []
            cells.append(_typed(cell, None, "-"))
        elif not graded and _shows(cell):
            cell.metadata["transient"] = {"remove_source": True}
            cells += [_typed(part, None) for part in _outputs(cell)]
    notebook.cells = cells
    return notebook


def _parts(cell: Any) -> list[Any]:
    """A text as one cell per heading."""
    starts = [match.start() for match in _HEADING.finditer(cell.source)]
    bounds = sorted({0, *starts, len(cell.source)})
    found = []
    for number, (start, end) in enumerate(pairwise(bounds)):
        part = copy.deepcopy(cell)
        part.source = cell.source[start:end].strip()
        part.id = f"{cell.id}-{number}" if number else cell.id
        if part.source:
            found.append(part)
    return found


def _outputs(cell: Any) -> list[Any]:
    """The outputs of a cell as one cell per table or figure, each with the texts around it."""
    groups: list[list[Any]] = [[]]
    for output in cell.outputs:
        if _large(output) and any(map(_large, groups[-1])):
            groups.append([])
        groups[-1].append(output)
    found = []
    for number, outputs in enumerate(groups):
        part = copy.deepcopy(cell)
        part.outputs = outputs
        part.id = f"{cell.id}-{number}" if number else cell.id
        found.append(part)
    return found


def _large(output: Any) -> bool:
    """Whether an output is a table, a figure or a view."""
    return bool({"text/html", "image/png", "image/svg+xml"} & set(output.get("data", {})))


def _typed(cell: Any, section: object, other: str = "subslide") -> Any:
    cell.metadata["slideshow"] = {"slide_type": "slide" if section else other}
    return cell


def _shows(cell: Any) -> bool:
    return any(output.output_type in ("display_data", "execute_result") for output in cell.outputs)
