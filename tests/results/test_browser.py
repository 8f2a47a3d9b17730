"""Pages of sentences: outlines cover their masks, pages hold every sentence and find the images."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
from outlines import inside_of
from sentence_pages import content_of, views_of

from tasnb import Pipeline
from tasnb.explorer.page import filled as filled_in
from tasnb.results import browser
from tasnb.settings import make_settings

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or ""
needs_browser = pytest.mark.skipif(not BROWSER, reason="needs a browser: chromium or google-chrome")


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


def in_a_browser(page: Path, script: str) -> list:
    """What a script in the page returns, in a headless browser without a network."""
    ending = (
        '<script type="module">const wait = () => new Promise(done => setTimeout(done, 100));'
        f"document.title = JSON.stringify(await (async () => {{ {script} }})());</script></body>"
    )
    driven = page.with_name("driven.html")
    driven.write_text(page.read_text(encoding="utf-8").replace("</body>", ending), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--allow-file-access-from-files", "--virtual-time-budget=5000"]
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
    views = views_of(page, content)
    for number, row in enumerate(content["rows"]):
        part, at = row["view"]
        view = views[part][at]
        key = split.sentences["image"].iloc[number]
        source = unquote(view["picture"]["src"])
        assert (page.parent / source).resolve() == split.images[key].path.resolve()
        asked = view["expressions"][number - view["first"]]
        assert asked["text"] == row["sentence"] and view["count"] == len(content["rows"])
        assert round(max(asked["truth"]["iou"]), 2) == round(row["best"], 2)
    truth = split.ground_truth(0)
    covered = inside_of(views[0][0]["expressions"][0]["truth"]["outline"], *truth.shape)
    assert (covered & truth).sum() / (covered | truth).sum() > 0.9


def test_no_text_ends_the_script(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser.shown, "provenance", lambda _: "</script><b>")
    (page,) = browser.save(pipeline)
    content = content_of(page)
    assert content["about"] == views_of(page, content)[0][0]["about"] == "</script><b>"


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
    words: [...document.querySelectorAll("#list tbody a")].map(a => a.textContent),
    shown: document.querySelector("aside").hidden ? null
      : document.querySelector("aside .ask input").value,
    marked: [...document.querySelectorAll("tr[aria-current] a")].map(a => a.textContent),
    at: location.hash,
    sorted: [...document.querySelectorAll("#list th[aria-sort]")].map(
      th => [th.textContent, th.getAttribute("aria-sort")]),
  });
  const found = [];
  const note = async () => { await wait(); found.push(state()); };
  const type = async text => {
    document.querySelector("#words").value = text;
    document.querySelector("#words").oninput();
    await note();
  };
  const choose = async (name, value) => {
    document.querySelector(name).value = value;
    document.querySelector(name).onchange();
    await note();
  };
  const press = async key => {
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    await note();
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
            "best": 0.9, "clip": 0.1, "tas": tas, "cause": cause, "view": [0, 0],
        }
        for sentence, cause, tas in zip(sentences, causes, ious, strict=True)
    ]  # fmt: skip
    content = {
        "title": "T", "about": "", "links": [], "example": "the right", "rows": rows,
        "outcomes": ["right", "excluded by the rectifier"], "views": "v", "encoder": "e",
    }  # fmt: skip
    choice = {"recipe": "r", "encoder": "e", "caption_input": "blur", "clip_input": "crop"}
    mask = {"id": 0, "outline": "M0 0L9 0L9 9Z", "box": [0, 0, 9, 9], "center": [6, 3], "area": 0.1}
    asked = {
        "subject": "cat", "head": "cat", "orientation": "", "phrases": [], "inside": [True],
        "scores": {"V": {"e crop": [0.1]}, "P": {"e blur": [0.2]}, "N": {"e crop": [0.3]}},
        "truth": None,
    }  # fmt: skip
    view = {
        "format": 1, "about": "", "picture": {"src": "x.png", "size": [20, 20]}, "masks": [mask],
        "caption": "a cat", "captions": {"blur": ["a cat"]}, "blur": 1, "first": 0, "count": 6,
        "expressions": [{"text": sentence, **asked} for sentence in sentences], "at": 0,
        "jumps": [], "choice": choice, "choices": {name: [own] for name, own in choice.items()},
        "names": {}, "defaults": {"alpha": 0.1, "lam": 0.7, **choice}, "code": {},
    }  # fmt: skip
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "0.js").write_text(f"window.views = [[{json.dumps(view)}]];", "utf-8")
    text = filled_in(browser.TEMPLATE, {"CONTENT": json.dumps(content)})
    page = tmp_path / "x.html"
    page.write_text(text, encoding="utf-8")
    return page, rows


@needs_browser
def test_words_are_looked_for_in_the_expression_only(small: tuple[Path, list[dict]]) -> None:
    """ "right" is a word of two sentences, an outcome of four, and inside of "bright"."""
    script = """
      for (const text of ["right", "RIG ca", "左", "(le", "zebra", "location", ""])
        await type(text);
      await choose("#outcome", "excluded by the rectifier"); await type("right");
      await type(document.querySelector("#words").placeholder.split(": ")[1]);
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
      await type("dog"); await type("zebra");
      document.querySelector("td.nothing button").click(); await note();
      return found;
    """
    hit, nothing, again = in_a_browser(small[0], STATE + script)
    assert hit["shown"] == "right of the dog" and hit["at"] == "#s2"
    assert nothing["shown"] is None and nothing["at"] == "" and nothing["words"] == []
    assert len(again["words"]) == 6 and again["shown"] == "the right cat"


@needs_browser
def test_the_example_finds_something_and_keys_move(small: tuple[Path, list[dict]]) -> None:
    script = """
      await type(document.querySelector("#words").placeholder.split(": ")[1]); await type("");
      for (const key of ["ArrowUp", "ArrowDown", "PageDown"]) await press(key);
      const head = document.querySelectorAll("th button")[6];
      for (const _ of [1, 2]) { head.click(); await note(); }
      await press("PageUp");
      return found;
    """
    example, _, up, down, last, rising, falling, first = in_a_browser(small[0], STATE + script)
    assert example["words"] == ["the right cat", "right of the dog"]
    assert [s["marked"] for s in (up, down, last)] == [["the right cat"], ["bright cat"], ["dog"]]
    assert last["shown"] == "dog" and last["sorted"] == []
    assert rising["sorted"] == [["TAS ▲", "ascending"]]
    assert rising["words"][:2] == ["bright cat", "right of the dog"]
    assert falling["sorted"] == [["TAS ▼", "descending"]]
    assert first["marked"] == falling["words"][:1]


@needs_browser
def test_a_real_page_works_in_a_browser(pipeline: Pipeline) -> None:
    (page,) = browser.save(pipeline)
    example = 'document.querySelector("#words").placeholder.split(": ")[1]'
    script = f'await type({example}); await type("");'
    example, everything = in_a_browser(page, f"{STATE} {script} return found;")
    assert 0 < len(example["words"]) <= len(everything["words"]) == len(content_of(page)["rows"])
    assert example["shown"] == example["words"][0]
