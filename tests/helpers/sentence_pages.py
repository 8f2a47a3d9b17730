"""What a page of sentences contains, and the files beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote


def content_of(page: Path) -> dict:
    text = page.read_text()
    script = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)
    return json.loads(script[1])


def views_of(page: Path, content: dict) -> dict[int, list[dict]]:
    """The views in the files beside a page, by part."""
    return {
        int(path.stem): json.loads(path.read_text().partition(" = ")[2].rstrip(";\n"))
        for path in (page.parent / unquote(content["views"])).glob("*.js")
    }
