"""The explorer as a single HTML file, which opens from disk without a network or a server."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPT = HERE / "explorer.js"
STYLE = HERE / "explorer.css"


def page(view: dict[str, Any], address: str = "") -> str:
    """The page of a view, see ``content``.

    Args:
        address: Where a server answers what the page asks; "": the page stands alone.
    """
    parts = {
        "ADDRESS": html.escape(address, quote=True),
        "STYLE": STYLE.read_text(encoding="utf-8"),
        "VIEW": as_script(view),
        "SCRIPT": SCRIPT.read_text(encoding="utf-8"),
    }
    text = (HERE / "page.html").read_text(encoding="utf-8")
    # in one go, since texts may contain what looks like another place to fill
    return re.sub(rf"/\*({'|'.join(parts)})\*/", lambda found: parts[found[1]], text)


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
