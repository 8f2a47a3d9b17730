"""The explorer's page: one file of bounded size, in which texts are never HTML."""

from __future__ import annotations

import json
import re

import pytest
from bs4 import BeautifulSoup
from views import TEXTS, with_text

from tasnb.explorer.content import View
from tasnb.explorer.page import SCRIPT, STYLE, fragment, page


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_never_html(view: View, text: str) -> None:
    odd = with_text(view, text)
    content = page(odd, address=f"ask?session={text}")
    parsed = BeautifulSoup(content, "html.parser")
    assert not parsed.find_all("img") and len(parsed.find_all("script")) == 2
    data, script = parsed.find_all("script")
    assert json.loads(data.string) == odd
    assert data["data-address"] == f"ask?session={text}"
    assert SCRIPT in script.string
    assert STYLE.read_text(encoding="utf-8") in parsed.find("style").string
    frame = BeautifulSoup(fragment(odd), "html.parser").find("iframe")
    assert frame["srcdoc"] == page(odd)


def test_a_page_needs_nothing_else(view: View) -> None:
    content = page(view)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(["']?http""", content)
    assert not re.search(r"/\*[A-Z]+\*/", content)  # all places are filled in
