"""Pages that work without a network: the report of a run, and pages about several runs."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from pathlib import Path

import pandas as pd

from tasnb.store.files import atomic_write

_STYLE = Path(__file__).with_name("report.css")
_OPEN = """\
"use strict";
const open = () => {
  const name = decodeURIComponent(location.hash.slice(1));
  const target = name && document.getElementById(name);
  for (let box = target; box; box = box.parentElement) if ("open" in box) box.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", open);
open();
"""  # a link to a collapsed part opens it


def write_page(path: Path, title: str, body: str) -> None:
    """Writes a page in the style of the reports.

    Args:
        title: Plain text.
        body: HTML. A link to a part in a collapsed section opens that section.
    """
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body>{body}<script>{_OPEN}</script></body></html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def table(frame: pd.DataFrame, made: Collection[str] = ()) -> str:
    """A frame of text as a table that scrolls sideways on narrow screens.

    Args:
        frame: Text.
        made: Names of columns that already are HTML.
    """
    head = "".join(f"<th>{escape(str(name))}</th>" for name in frame)
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td>{cell if name in made else escape(str(cell))}</td>"
            for name, cell in zip(frame, row, strict=True)
        )
        + "</tr>"
        for row in frame.itertuples(index=False, name=None)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
        "</div>"
    )


def figure(source: str, caption: str) -> str:
    """A figure as wide as the page, which links to its file."""
    return (
        f'<div class="figures"><figure class="wide"><a href="{escape(source)}">'
        f'<img src="{escape(source)}" alt="{escape(caption)}"></a>'
        f"<figcaption>{escape(caption)}</figcaption></figure></div>"
    )


def folded(summary: str, content: str, name: str = "") -> str:
    """A collapsed section.

    Args:
        summary: Its visible line, plain text.
        content: HTML.
        name: The id of the section; "" for none.
    """
    known = f' id="{escape(name)}"' if name else ""
    return (
        f'<details{known}><summary>{escape(summary)}</summary><div class="inside">{content}</div>'
        "</details>"
    )
