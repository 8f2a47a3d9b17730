"""Pages of sentences: outlines cover their masks, pages hold every sentence and find the images."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from tasnb import Pipeline
from tasnb.results import browser
from tasnb.settings import make_settings

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or ""
needs_browser = pytest.mark.skipif(not BROWSER, reason="needs a browser: chromium or google-chrome")


def filled(path: str, height: int, width: int, scale: int = 8) -> np.ndarray:
    """The pixels inside an SVG path, as a browser fills it by the even-odd rule."""
    lines = [
        np.array([[float(v) for v in point.split()] for point in part.split("L")])
        for part in re.findall(r"M([^Z]+)Z", path)
    ]
    canvas = np.zeros((height * scale, width * scale), np.uint8)
    cv2.fillPoly(canvas, [np.rint(line * scale).astype(np.int32) for line in lines], 1)
    return canvas[scale // 2 :: scale, scale // 2 :: scale].astype(bool)


def test_outlines_cover_their_masks() -> None:
    y, x = np.mgrid[:60, :80]
    disc = (x - 30) ** 2 + (y - 25) ** 2 < 400
    ring = disc & ((x - 30) ** 2 + (y - 25) ** 2 >= 120)
    two = disc | ((x > 60) & (y > 40))
    for mask in (disc, ring, two):
        found = filled(browser.outline(mask), 60, 80)
        assert (found & mask).sum() / (found | mask).sum() > 0.93
    assert not filled(browser.outline(ring), 60, 80)[25, 30]  # the hole stays open
    assert browser.outline(np.zeros((5, 5), bool)) == ""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(
        make_settings(
            datasets=["refscenes"],
            splits=["val"],
            limit=2,
            encoders=["open_clip:embedded/clip-vit"],
            out=str(tmp_path_factory.mktemp("run")),
        )
    )


def content_of(page: Path) -> dict:
    text = page.read_text()
    script = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)
    return json.loads(script[1])


def in_a_browser(page: Path, script: str) -> list:
    """What a script in the page returns, in a headless browser without a network."""
    ending = f"<script>document.title = JSON.stringify((() => {{ {script} }})());</script></body>"
    driven = page.with_name("driven.html")
    driven.write_text(page.read_text(encoding="utf-8").replace("</body>", ending), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--disable-background-networking", f"--user-data-dir={page.parent / 'browser'}"]
    done = subprocess.run([*command, driven.as_uri()], capture_output=True, text=True, timeout=120)
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.S)[1]))


def test_a_page_holds_every_sentence_and_finds_its_picture(pipeline: Pipeline) -> None:
    (page,) = browser.save(pipeline)
    assert page == pipeline.settings.out / "results" / "refscenes-val-clip-vit.html"
    content = content_of(page)
    split = pipeline.split("refscenes", "val")
    assert [row["sentence"] for row in content["rows"]] == split.sentences["sentence"].tolist()
    assert content["title"] == "RefScenes val, clip-vit"
    for row in content["rows"]:
        image = content["images"][row["image"]]
        assert (page.parent / image["file"]).resolve() == split.images[row["image"]].path.resolve()
        assert str(row["truth"]) in content["truths"]
        assert all(mask == -1 or str(mask) in image["masks"] for mask in row["masks"])
        assert 0 <= row["tas"] <= row["best"] + 0.01
    covered = filled(content["truths"][str(content["rows"][0]["truth"])], 240, 320)
    truth = split.ground_truth(0)
    covered = covered[: truth.shape[0], : truth.shape[1]]
    assert (covered & truth).sum() / (covered | truth).sum() > 0.9


def test_no_text_ends_the_script(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser.shown, "provenance", lambda _: "</script><b>")
    (page,) = browser.save(pipeline)
    assert content_of(page)["about"] == "</script><b>"


def test_links_lead_to_the_report_the_other_encoder_and_the_neighbours(tmp_path: Path) -> None:
    pipeline = Pipeline(make_settings(datasets=["refscenesg"], limit=1, out=str(tmp_path)))
    pages = browser.save(pipeline)
    assert len(pages) == len({page.name for page in pages}) == 6  # 3 splits, 2 encoders
    links = content_of(pages[2])["links"]
    assert [text for text, _ in links] == [
        "report", "the same with clip-vit", "← RefScenesg val(U)", "→ RefScenesg test(G)",
    ]  # fmt: skip
    found = [(pages[2].parent / unquote(address)).resolve() for _, address in links]
    assert found == [tmp_path / "index.html", pages[3], pages[0], pages[4]]
    assert len(content_of(pages[0])["links"]) == 3  # nothing before the first


STATE = """
  const state = () => ({
    words: [...document.querySelectorAll("tbody a")].map(a => a.textContent),
    shown: document.querySelector("aside").hidden ? null
      : document.querySelector("aside h2").textContent,
    marked: [...document.querySelectorAll("tr[aria-current] a")].map(a => a.textContent),
    at: location.hash,
    sorted: [...document.querySelectorAll("th[aria-sort]")].map(
      th => [th.textContent, th.getAttribute("aria-sort")]),
  });
  const found = [];
  const type = text => {
    document.querySelector("#words").value = text;
    document.querySelector("#words").oninput();
    found.push(state());
  };
  const choose = (name, value) => {
    document.querySelector(name).value = value;
    document.querySelector(name).onchange();
    found.push(state());
  };
  const press = key => {
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    found.push(state());
  };
"""


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, list[dict]]:
    """A page of six sentences, and its rows."""
    sentences = ["the right cat", "bright cat", "right of the dog", "猫在左边", "cat (left)", "dog"]
    ious = (0.9, 0.2, 0.3, 0.8, None, 0.7)
    causes = [
        "right",
        "excluded by the rectifier",
        "excluded by the rectifier",
        "right",
        "right",
        "right",
    ]
    rows = [
        {
            "sentence": sentence, "target": "cat", "size": 10.0, "mentions": "location",
            "best": 0.9, "clip": 0.1, "tas": tas, "cause": cause, "image": "1", "truth": 1,
            "masks": [0, 1], "said": ["a", "b"], "caption": "a cat", "negatives": [],
        }
        for sentence, cause, tas in zip(sentences, causes, ious, strict=True)
    ]  # fmt: skip
    content = {
        "title": "T", "about": "", "links": [], "example": "the right", "rows": rows,
        "outcomes": ["right", "excluded by the rectifier"], "truths": {"1": "M0 0L9 0L9 9Z"},
        "images": {"1": {"file": "x.png", "size": [20, 20], "masks": {}}},
    }  # fmt: skip
    text = browser.TEMPLATE.read_text().replace("/*CONTENT*/", json.dumps(content))
    page = tmp_path / "x.html"
    page.write_text(text, encoding="utf-8")
    return page, rows


@needs_browser
def test_words_are_looked_for_in_the_expression_only(small: tuple[Path, list[dict]]) -> None:
    """ "right" is a word of two sentences, an outcome of four, and inside of "bright"."""
    script = """
      for (const text of ["right", "RIG ca", "左", "(le", "zebra", "location", ""]) type(text);
      choose("#outcome", "excluded by the rectifier"); type("right");
      type(document.querySelector("#words").placeholder.split(": ")[1]);
      return found;
    """
    found = in_a_browser(small[0], STATE + script)
    assert [state["words"] for state in found] == [
        ["the right cat", "right of the dog"], ["the right cat"], ["猫在左边"],
        ["cat (left)"], [], [],
        [row["sentence"] for row in small[1]],
        ["bright cat", "right of the dog"], ["right of the dog"], ["right of the dog"],
    ]  # fmt: skip


@needs_browser
def test_without_a_hit_no_sentence_stays(small: tuple[Path, list[dict]]) -> None:
    script = """
      type("dog"); type("zebra");
      document.querySelector("td.nothing button").click(); found.push(state());
      return found;
    """
    hit, nothing, again = in_a_browser(small[0], STATE + script)
    assert hit["shown"] == "“right of the dog”" and hit["at"] == "#s2"
    assert nothing["shown"] is None and nothing["at"] == "" and nothing["words"] == []
    assert len(again["words"]) == 6 and again["shown"] == "“the right cat”"


@needs_browser
def test_the_example_finds_something_and_keys_move(small: tuple[Path, list[dict]]) -> None:
    script = """
      type(document.querySelector("#words").placeholder.split(": ")[1]); type("");
      for (const key of ["ArrowUp", "ArrowDown", "PageDown"]) press(key);
      const head = document.querySelectorAll("th button")[6];
      for (const _ of [1, 2]) { head.click(); found.push(state()); }
      press("PageUp");
      return found;
    """
    example, _, up, down, last, rising, falling, first = in_a_browser(small[0], STATE + script)
    assert example["words"] == ["the right cat", "right of the dog"]
    assert [s["marked"] for s in (up, down, last)] == [["the right cat"], ["bright cat"], ["dog"]]
    assert last["shown"] == "“dog”" and last["sorted"] == []
    assert rising["sorted"] == [["TAS ▲", "ascending"]]
    assert rising["words"][:2] == ["bright cat", "right of the dog"]
    assert falling["sorted"] == [["TAS ▼", "descending"]]
    assert first["marked"] == falling["words"][:1]


@needs_browser
def test_a_real_page_works_in_a_browser(pipeline: Pipeline) -> None:
    (page,) = browser.save(pipeline)
    script = 'type(document.querySelector("#words").placeholder.split(": ")[1]); type("");'
    example, everything = in_a_browser(page, f"{STATE} {script} return found;")
    assert 0 < len(example["words"]) <= len(everything["words"]) == len(content_of(page)["rows"])
    assert example["shown"] == f"“{example['words'][0]}”"
