"""The explorer as a single HTML file, which opens from disk without a network or a server."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PARTS = ("scores.js", "elements.js", "downloads.js", "explorer.js", "hosts.js")
SCRIPT = "\n".join((HERE / name).read_text(encoding="utf-8") for name in PARTS)
"""The explorer's module; its parts follow each other, so that a page can hold it in one piece."""
STYLE = HERE / "explorer.css"


def page(view: dict[str, Any], address: str = "") -> str:
    """The page of a view, see ``content``.

    Args:
        address: Where a server answers what the page asks; "": the page stands alone.
    """
    parts = {"ADDRESS": html.escape(address, quote=True), "VIEW": as_script(view)}
    return filled(HERE / "page.html", parts)


def filled(template: Path, parts: Mapping[str, str]) -> str:
    """A page from a template: ``/*NAME*/`` becomes a part, or the explorer's STYLE or SCRIPT."""
    parts = {
        "STYLE": STYLE.read_text(encoding="utf-8"),
        "SCRIPT": SCRIPT,
        **parts,
    }
    text = template.read_text(encoding="utf-8")
    pattern = "|".join(re.escape(f"/*{name}*/") for name in parts)
    return re.sub(pattern, lambda found: parts[found[0][2:-2]], text)  # never inside another part


def fragment(view: dict[str, Any], height: int = 760) -> str:
    """The page in a frame of its own, for the output of a notebook's cell."""
    content = html.escape(page(view), quote=True)
    return (
        f'<iframe title="TAS explorer" style="width: 100%; height: {height}px; border: 0" '
        f'loading="lazy" srcdoc="{content}"></iframe>'
    )


def as_script(content: Any) -> str:
    """JSON that may stand in a script element, whatever texts it contains."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
