"""The pages in a real browser: whole without a network, on large and small screens."""

from __future__ import annotations

import pytest
from browser import Browser
from finished_runs import make_run

from tasnb.reruns import overview
from tasnb.reruns.comparison import compare
from tasnb.settings import make_settings
from tasnb.workbook import records
from tasnb.workbook.report import write_index

pytestmark = pytest.mark.slow
CATS = [(f"image {k}", "the cat", 1, 50, 100) for k in range(60)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    top = tmp_path_factory.mktemp("runs")
    better = [(image, text, 2, 60, 100) for image, text, *_ in CATS]
    names = ("refscenes-val", "refscenes-testA", "refscenes+-val", "refscenesg-test(U)")
    for name, choices, lam in (("one", CATS, 0.7), ("another with a long name", better, 1.0)):
        folder = make_run(top / name, dict.fromkeys(names, choices), lam=lam)
        settings = make_settings(out=str(folder), lam=lam)
        write_index(settings, records.read(folder / "run.json"))
    page, _ = compare([top / "one", top / "another with a long name"], top / "comparison")
    return {
        "comparison": page,
        "overview": overview.write(top)[0],
        "report": top / "one" / "index.html",
    }


@pytest.mark.parametrize("name", ["comparison", "overview", "report"])
@pytest.mark.parametrize("width", [1400, 390])
def test_pages_fit_and_ask_for_nothing(browser: Browser, pages, name, width):
    browser.open(pages[name], width)
    assert browser.fits() and browser.errors() == [] and browser.requests() <= {"file:"}
    for image in browser.all("img"):
        assert browser.run("const one = args[0]; one.loading = 'eager'; await one.decode();"
                           "return one.naturalWidth;", image) > 0  # fmt: skip


@pytest.mark.parametrize("name", ["comparison", "report"])
@pytest.mark.parametrize("width", [1400, 390])
def test_the_list_of_contents_stays_in_view(browser: Browser, pages, name, width):
    browser.open(pages[name], width, 700)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true;"
                "scrollTo(0, document.body.scrollHeight);")  # fmt: skip
    place = browser.run(
        "const box = document.querySelector('nav').getBoundingClientRect();"
        "const text = document.querySelector('h2').getBoundingClientRect();"
        "return [scrollY, box.top, box.bottom, box.right, text.left];"
    )
    scrolled, top, bottom, right, left = place
    assert scrolled > 100 and 0 <= top < bottom <= 700
    assert right <= left or bottom < 80  # beside the text, or a line above it


def test_a_changed_sentence_opens_its_picture(browser: Browser, pages):
    browser.open(pages["comparison"])
    browser.run("document.querySelector('#changed td a').click();")
    browser.until(lambda: "a page" in browser.text("body"), "the page of the sentence")
    assert browser.driver.current_url.partition("#")[2].startswith("s")
