"""The explorer in a browser: what a user does, and whether it shows what Python computes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from browser import Browser

import tasnb


class OnlyStore:
    """``tasnb`` as the explorer's code calls it, with the tests' store."""

    def __init__(self, store: Path) -> None:
        self.segment = partial(tasnb.segment, store=store)


def rows(browser: Browser) -> list[tuple[int, float]]:
    """mask_id and S in the first explorer's table, from the best."""
    found = browser.run(
        "const first = document.querySelector('.tasnb-explorer');"
        "return [...first.querySelectorAll('.ranking tbody tr')].map(row =>"
        " [row.children[1].textContent, row.children[2].textContent]);"
    )
    return [(int(mask), float(score.replace("−", "-"))) for mask, score in found]


def check(browser: Browser, store: Path, image: object, text: str, **changes: object) -> None:
    """The table is that of ``segment``."""
    frame = tasnb.segment(image, text, store=store, **changes).frame
    frame = frame.sort_values(["kept", "S"], ascending=False, kind="stable")
    found = rows(browser)
    assert [mask for mask, _ in found] == frame["mask_id"].tolist()
    np.testing.assert_allclose([score for _, score in found], frame["S"], atol=0.00051)
    assert frame["chosen"].tolist()[0]


def ask(browser: Browser, text: str) -> None:
    from selenium.webdriver import Keys

    field = browser.find(".ask input")
    field.clear()
    field.send_keys(text, Keys.ENTER)


def answered(browser: Browser, text: str) -> None:
    browser.until(
        lambda: f"for “{text}”" in browser.find(".picture").get_attribute("aria-label"),
        f"the answer to {text}: {browser.text('.status')}",
    )
