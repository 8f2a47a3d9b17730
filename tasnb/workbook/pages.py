"""Converts executed notebooks to self-contained HTML pages.

nbconvert's own pages load MathJax, require.js and mermaid from the network; offline, formulas stay
TeX. Here formulas are converted to MathML, which browsers render themselves.
"""

from __future__ import annotations

import copy
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from tasnb.store.files import atomic_write

PICTURE = """\
{%- block data_png scoped -%}
{%- set alt = output | get_metadata('alt', 'image/png') -%}
{%- if alt -%}
{{ super() | replace('<img ', '<img alt="' ~ (alt | escape_html) ~ '" ', 1) }}
{%- else -%}
{{ super() }}
{%- endif -%}
{%- endblock -%}
"""
"""Part of a template: pictures keep their alternative text, which nbconvert leaves out."""

_TEMPLATE = (
    """\
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
.formula { display: flex; align-items: center; gap: 1rem; margin: .8rem 0; overflow-x: auto; }
.formula math { flex: 1; }
math { font-size: 1.08em; }
.jp-MarkdownOutput .highlight { margin-bottom: 1em; }
@media (max-width: 40rem) {
  body.jp-Notebook { padding: .5rem; }
  .jp-InputPrompt, .jp-OutputPrompt { display: none; }
  /* Figures keep a size at which their labels can be read, and scroll like tables. */
  .jp-RenderedImage { overflow-x: auto; }
  body.jp-Notebook .jp-RenderedImage img { max-width: none; zoom: .8; }
}
</style>
{%- endblock -%}
"""
    + PICTURE
)
_BAR = re.compile(r"\d+%\|")  # tqdm's
_VIEW = "application/vnd.jupyter.widget-view+json"
_ALPHABET = re.compile(r"\\(math[a-z]+) +(\w)")
_TAG = re.compile(r"\\tag\{([^{}]*)\}")


def write_html(notebook: Any, path: Path, title: str) -> None:
    """Writes an executed notebook (an nbformat node) as an HTML page, including its code."""
    from nbconvert.exporters import HTMLExporter

    page, _ = exporter(HTMLExporter)(raw_template=_TEMPLATE).from_notebook_node(
        without_bars(without_widgets(notebook)), {"metadata": {"name": title}}
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def to_mathml(tex: str, display: bool = False) -> str:
    """A formula as a MathML element, or as TeX in a code element if it cannot be converted.

    Args:
        tex: Without its dollar signs; ``\\tag{5}`` numbers a displayed formula.
        display: Whether it is displayed on its own line.
    """
    from latex2mathml.converter import convert

    tags = _TAG.findall(tex)
    # Only with braces does a letter become a Unicode bold letter, as browsers need it.
    plain = _ALPHABET.sub(r"\\\1{\2}", _TAG.sub("", tex)).strip()
    try:
        formula = convert(plain, display="block" if display else "inline")
    except Exception:  # of many types, including Python's own
        return f"<code>{escape(tex)}</code>"
    if not display:
        return formula
    number = "".join(f"<span>({escape(tag)})</span>" for tag in tags)
    return f'<span class="formula">{formula}{number}</span>'


@cache
def exporter(base: type) -> type:
    """An HTML exporter of nbconvert with formulas as MathML; libraries are imported late."""
    from jinja2 import pass_context
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return to_mathml(body)

        def block_math(self, body: str) -> str:
            return to_mathml(body, display=True)

        def latex_environment(self, name: str, body: str) -> str:
            return to_mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)

    class Exporter(base):
        @pass_context
        def markdown2html(self, context: Any, source: str) -> str:
            attachments = context.get("cell", {}).get("attachments", {})
            renderer = Renderer(escape=False, attachments=attachments)
            return MarkdownWithMath(renderer=renderer).render(source)

    return Exporter


def without_widgets(notebook: Any) -> Any:
    """A copy without widget views, which show nothing once the kernel has stopped.

    Other representations of a widget's output (an image, HTML) are kept.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "outputs" not in cell:
            continue
        kept = []
        for output in cell.outputs:
            if _VIEW in output.get("data", {}):
                del output.data[_VIEW]
                if not output.data.keys() - {"text/plain"}:
                    continue
            kept.append(output)
        cell.outputs = kept
    return notebook


def without_bars(notebook: Any) -> Any:
    """Removes progress bars from the notebook (in place), which are just clutter on a page."""
    for cell in notebook.cells:
        kept = []
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                lines = re.split(r"[\r\n]+", output.text)
                output.text = "\n".join(line for line in lines if not _BAR.search(line)).strip()
                if not output.text:
                    continue
            kept.append(output)
        if "outputs" in cell:
            cell.outputs = kept
    return notebook
