"""A page from disk in a real browser: every control, by mouse and by keyboard alone, on a phone."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from PIL import Image
from pycocotools import mask as coco_mask
from selenium.webdriver import Keys
from views import TEXTS, with_text

from tasnb.explorer.content import View, Views
from tasnb.explorer.page import fragment, page

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(browser: Browser, view: View, tmp_path: Path) -> Browser:
    file = tmp_path / "answer.html"
    file.write_text(page(view), encoding="utf-8")
    browser.open(file)
    return browser


def no_network(browser: Browser) -> bool:
    return browser.requests() <= {"file:", "data:", "blob:"}


def shown(browser: Browser) -> list[int]:
    """The masks in the table, from the best."""
    script = "return [...document.querySelectorAll('tbody tr')].map(row => +row.dataset.mask);"
    return browser.run(script)


def ranking(view: View, at: int, encoder: str, **changes: float) -> list[int]:
    """The masks from the best, as NumPy sorts them."""
    expression = view["expressions"][at]
    weights = {**view["weights"], **changes}
    scores = {
        name: np.array(expression["scores"][name][f"{encoder} {form}"])
        for name, form in (("V", "crop"), ("P", "blur"), ("N", "crop"))
    }
    total = scores["V"] + weights["alpha"] * scores["P"] + weights["lam"] * scores["N"]
    inside = np.array(expression["inside"])
    out = np.zeros(len(total)) if not inside.any() or changes.get("rectifier") == 0 else ~inside
    return np.lexsort((np.arange(len(total)), -total, out)).tolist()


@pytest.mark.parametrize("width", [1400, 390])
def test_every_control(opened: Browser, view: View, width: int) -> None:
    browser = opened
    browser.resize(width)
    names = view["choices"]["encoder"]
    assert shown(browser) == ranking(view, 0, names[-1]) and browser.fits()

    for slider, value in ((1, 0.85), (2, 0.25)):
        browser.set(f".slider:nth-of-type({slider}) input", value)
        assert browser.text(f".slider:nth-of-type({slider}) output") == f"{value:.2f}"
    assert shown(browser) == ranking(view, 0, names[-1], alpha=0.85, lam=0.25)
    browser.named("P", ".switches label").click()
    assert shown(browser) == ranking(view, 0, names[-1], alpha=0, lam=0.25)
    browser.named("N", ".switches label").click()
    assert shown(browser) == ranking(view, 0, names[-1], alpha=0, lam=0)
    browser.named("rectifier", ".switches label").click()
    assert shown(browser) == ranking(view, 0, names[-1], alpha=0, lam=0, rectifier=0)
    assert "without the rectifier" in copied(browser)
    browser.named("Reset").click()
    browser.set(".lists label:nth-of-type(2) select", names[0])
    assert shown(browser) == ranking(view, 0, names[0])
    assert f'encoders=("{view["names"][names[0]]}",)' in copied(browser)
    # what the page lacks cannot be chosen
    for number in (1, 3, 4):
        assert not browser.find(f".lists label:nth-of-type({number}) select").is_enabled()

    assert browser.text(".walk span") == f"1 of {len(view['expressions'])}"
    for at in range(1, len(view["expressions"])):
        browser.named("›").click()
        assert browser.text(".words") == view["expressions"][at]["text"]
        assert shown(browser) == ranking(view, at, names[0])
    assert not browser.named("›").is_enabled()
    browser.named("‹").click()
    assert browser.text(".words") == view["expressions"][-2]["text"]

    rows = browser.all("tbody tr")
    for row in rows[:3]:
        browser.run("args[0].scrollIntoView({ block: 'center' });", row)
        row.click()
    pinned = [int(row.get_attribute("data-mask")) for row in rows[1:3]]  # the last two
    cards = [card.text for card in browser.all("figure.pinned")]
    for k, card in zip(pinned, cards, strict=True):
        assert f"mask {view['masks'][k]['id']}" in card and view["captions"]["blur"][k] in card
    assert len(browser.all(".masks .pinned")) == 2
    assert browser.fits() and not browser.errors() and no_network(browser)


def copied(browser: Browser) -> str:
    browser.run("document.querySelector('.status').textContent = '';")  # of an earlier copy
    browser.named("Copy as code").click()
    return browser.until(
        lambda: "tasnb.segment(" in browser.text(".status") and browser.text(".status"), "the code"
    )


def test_downloads(opened: Browser, view: View, views: Views) -> None:
    browser, expression = opened, view["expressions"][0]
    best = ranking(view, 0, view["choices"]["encoder"][-1])
    name = "-".join("".join(c if c.isalnum() else " " for c in expression["text"]).split())
    wanted = coco_mask.decode(view["masks"][best[0]]["rle"])
    browser.named("Mask (PNG)").click()
    mask = np.asarray(Image.open(browser.downloaded(f"{name}-mask.png")).convert("RGB"))
    np.testing.assert_array_equal(mask, np.repeat(wanted[..., None] * 255, 3, 2))
    browser.named("Overlay (PNG)").click()
    overlay = np.asarray(Image.open(browser.downloaded(f"{name}-overlay.png")).convert("RGB"))
    pixels = views.pipeline.pixels(views.split.images, next(iter(views.split.images)))
    difference = np.abs(overlay.astype(int) - pixels).mean(2)
    assert difference[wanted == 0].mean() < 4 < 20 < difference[wanted == 1].mean()
    browser.named("Table (CSV)").click()
    with browser.downloaded(f"{name}.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["mask_id"]) for row in table] == [view["masks"][k]["id"] for k in best]
    assert [row["caption"] for row in table] == [view["captions"]["blur"][k] for k in best]
    v = expression["scores"]["V"][f"{view['choices']['encoder'][-1]} crop"]
    assert [float(row["V"]) for row in table] == [v[k] for k in best]
    assert not browser.errors() and no_network(browser)


def test_pointing_at_the_picture(opened: Browser, view: View) -> None:
    browser = opened
    for k, mask in enumerate(view["masks"]):
        browser.run(
            "const group = document.querySelector(`.masks [data-mask='${args[0]}']`);"
            "group.dispatchEvent(new PointerEvent('pointerenter'));",
            k,
        )
        card = browser.text(".cards figure:last-child")
        assert f"mask {mask['id']}" in card and view["captions"]["blur"][k] in card
        assert browser.all(f"tbody tr.pointed[data-mask='{k}']")
    x, y = view["masks"][0]["center"]
    width, height = view["picture"]["size"]
    box = browser.find(".picture").rect
    from selenium.webdriver import ActionChains

    moves = ActionChains(browser.driver)
    by = (x / width - 0.5) * box["width"], (y / height - 0.5) * box["height"]
    moves.move_to_element_with_offset(browser.find(".picture"), *map(int, by)).click().perform()
    assert len(browser.all(".masks .pinned")) == len(browser.all("tbody tr.pinned")) == 1


def test_by_keyboard_alone(opened: Browser) -> None:
    browser = opened
    focused = "return document.activeElement.tagName + ' ' + document.activeElement.textContent;"

    def tab_to(what: str) -> None:
        for _ in range(25):
            browser.keys(Keys.TAB)
            if browser.run(focused).startswith(what):
                return
        raise AssertionError(f"no way to {what}")

    tab_to("BUTTON ›")
    browser.keys(Keys.ENTER)
    assert browser.text(".walk span").startswith("2 of")
    tab_to("INPUT")
    before = browser.text(".slider output")
    browser.keys(Keys.ARROW_RIGHT)
    assert float(browser.text(".slider output")) == pytest.approx(float(before) + 0.01)
    tab_to("TR 1")
    rows = shown(browser)
    browser.keys(Keys.ARROW_DOWN)
    browser.keys(Keys.ENTER)
    browser.keys(Keys.END)
    browser.keys(" ")
    pinned = [int(row.get_attribute("data-mask")) for row in browser.all("tr[aria-selected=true]")]
    assert sorted(pinned) == sorted([rows[1], rows[-1]]) and len(browser.all("figure.pinned")) == 2
    browser.keys(Keys.ESCAPE)
    assert not browser.all(".pinned")
    browser.keys(Keys.TAB)  # the table is one stop
    assert browser.run(focused) == "BUTTON Copy as code"
    ring = "return getComputedStyle(document.activeElement).outlineStyle;"
    assert browser.run(ring) == "solid"
    assert not browser.errors()


@pytest.mark.parametrize("text", TEXTS)
def test_texts_stay_texts(browser: Browser, view: View, text: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.html"
    odd = with_text(view, text)
    file.write_text(page(odd), encoding="utf-8")
    browser.open(file, 390)
    content = "return args[0].map(css => document.querySelector(css).textContent);"
    found = browser.run(content, [".words", ".about", ".said", ".reading b", "dd .synonym"])
    assert found == [text] * 5
    assert browser.run("return window.attacked ?? null;") is None
    assert not browser.all("main img, main script, main style")
    assert browser.fits() and not browser.errors() and no_network(browser)


def test_without_masks_it_says_so(browser: Browser, view: View, tmp_path: Path) -> None:
    expressions = [
        {**one, "inside": [], "truth": {**one["truth"], "iou": []},
         "scores": {kind: {key: [] for key in of} for kind, of in one["scores"].items()}}
        for one in view["expressions"]
    ]  # fmt: skip
    empty = {**view, "masks": [], "captions": {"blur": []}, "expressions": expressions}
    file = tmp_path / "empty.html"
    file.write_text(page(empty), encoding="utf-8")
    browser.open(file)
    assert browser.text(".status").startswith("No masks were found in this picture")
    for name in ("Reset", "›", "Copy as code", "Mask (PNG)", "Table (CSV)"):
        for button in browser.all("button"):
            if button.text == name:
                button.click()
    browser.set(".slider input", 0.5)
    assert not browser.errors()


def test_in_a_frame_of_a_converted_notebook(browser: Browser, view: View, tmp_path: Path) -> None:
    file = tmp_path / "notebook.html"
    file.write_text(f"<!doctype html><h1>A notebook</h1>{fragment(view)}{fragment(view)}")
    browser.open(file)
    frame = browser.find("iframe")
    browser.driver.switch_to.frame(frame)
    try:
        browser.until(lambda: browser.all("tbody tr"), "the table")
        browser.set(".slider input", 0.9)
        assert shown(browser) == ranking(view, 0, view["choices"]["encoder"][-1], alpha=0.9)
    finally:
        browser.driver.switch_to.default_content()
    assert not browser.errors() and no_network(browser)


CONTRAST = """
const parsed = text => { const [r, g, b, a = 1] = text.match(/[0-9.]+/g).map(Number);
  return { rgb: [r, g, b], a }; };
const luminance = rgb => { const [r, g, b] = rgb.map(v => v / 255).map(v =>
  v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const over = (top, below) => top.rgb.map((v, k) => top.a * v + (1 - top.a) * below[k]);
const behind = element => element === null ? [255, 255, 255]
  : over(parsed(getComputedStyle(element).backgroundColor), behind(element.parentElement));
const found = [];
for (const element of document.querySelectorAll('main *')) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const typed = ['INPUT', 'SELECT'].includes(element.tagName) && element.type !== 'range';
  if (!(own || typed) || element.closest('svg') || !element.getClientRects().length) continue;
  const below = [behind(element)];
  const fill = element.parentElement.querySelector(':scope > .fill');
  if (fill) below.push(over({ ...parsed(getComputedStyle(fill).backgroundColor),
    a: Number(getComputedStyle(fill).opacity) }, below[0]));
  for (const back of below) {
    const [low, high] = [luminance(back), luminance(over(parsed(getComputedStyle(element).color),
      back))].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), `${element.tagName}.${element.className} in `
      + `${element.parentElement.tagName}.${element.parentElement.className}`]);
  }
}
return found;
"""


def test_contrast(opened: Browser, view: View) -> None:
    """At least 4.5 to 1 for all texts, in every state of the rows (WCAG 2.2, 1.4.3)."""
    browser, low = opened, set()
    browser.run("for (const one of document.querySelectorAll('[hidden]')) one.hidden = false;")
    for at in range(len(view["expressions"])):
        browser.run("for (const row of document.querySelectorAll('tbody tr')) row.click();")
        for state in ("", "pointed", "pinned", "chosen", "outside", "chosen pinned", "wrong"):
            browser.run(
                "for (const one of document.querySelectorAll('tbody tr, .status'))"
                "  one.className = `${args[0]} ${one.tagName === 'P' ? 'status' : ''}`;"
                "document.querySelector('.status').textContent ||= 'said';",
                state,
            )
            found = browser.run(CONTRAST)
            assert len(found) > 50
            low |= {(round(ratio, 2), where) for ratio, where in found if ratio < 4.5}
        if at + 1 < len(view["expressions"]):
            browser.run("document.querySelector('.walk button:last-child').click();")
    assert not low, sorted(low)
