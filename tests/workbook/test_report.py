"""The report: the main result first, everything else folded, and what it was run with."""

from __future__ import annotations

import json
import re

import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tasnb.drawing.titles import FIGURES, TABLES
from tasnb.settings import ROOT, make_settings
from tasnb.workbook.report import write_index

DIGEST = "ab" * 32
RECORD = {"finished": "2023-12-06T10:00:00+00:00", "seconds": 61.2, "versions": {"torch": "2.14.1"}}
TABLE1 = """\
| metric | encoder | method | RefScenes val |
| --- | --- | --- | --- |
| oIoU | vit | **TAS** | 31.00 |
| mIoU | vit | **TAS** | 34.50 |

A note.
"""


@pytest.fixture
def out(tmp_path):
    out = tmp_path / "a run"
    for folder in ("tables", "figures", "notebooks", "results"):
        (out / folder).mkdir(parents=True)
    return out


def page_of(out, record=RECORD, **settings) -> BeautifulSoup:
    index = write_index(make_settings(out=str(out), data=str(out), **settings), record)
    assert index == out / "index.html"
    return BeautifulSoup(index.read_text(encoding="utf-8"), "html.parser")


def test_everything_is_there_and_folded(out):
    (out / "tables/table10.csv").write_text("method,value\nTAS <1>,12.5\nText,\n")
    (out / "tables/table1.csv").write_text("method,value\nTAS,34.5\n")
    (out / "tables/table1.md").write_text(TABLE1)
    (out / "tables/table2_extra.csv").write_text("a\n" + "1\n" * 40)
    Image.new("RGB", (300, 100)).save(out / "figures/05_ahead.png")
    (out / "figures/05_before & after.png").write_bytes(b"")
    (out / "figures/loose.png").write_bytes(b"")
    (out / "notebooks/05_full_eval.html").write_text("")
    cells = [{"cell_type": "markdown", "source": ["# 5 · The full evaluation\n", "text"]}]
    (out / "notebooks/05_full_eval.ipynb").write_text(json.dumps({"cells": cells}))
    outputs = {"tables/table1.csv": "1", "tables/table2_extra.csv": "2"}
    record = {"status": "ok", "outputs": outputs}
    (out / "notebooks/05_full_eval.run.json").write_text(json.dumps(record))
    (out / "results/refscenes-val(U)-vit.html").write_text("")

    page = page_of(out)
    assert [section["id"] for section in page.select("body > section")] == ["summary", "table1"]
    folded = {part["id"]: part for part in page.select("body > details")}
    assert list(folded) == [
        "notebook-05_full_eval", "others", "sentences", "settings", "versions",
    ]  # fmt: skip
    assert not page.select("details[open]")
    assert [link["href"] for link in page.nav.select("a")] == [
        f"#{part['id']}" for part in page.select("body > section, body > details")
    ]
    first = page.find(id="table1")
    assert "34.50" in first.text and "31.00" not in first.text and "A note." in first.text
    assert [cell.text for cell in first.select("th")] == ["encoder", "method", "RefScenes val"]
    book = folded["notebook-05_full_eval"]
    assert book.summary.text == "5 · The full evaluation"
    assert [h.text for h in book.select("h3")] == [TABLES["table1"], TABLES["table2_extra"]]
    assert book.select(".inside details > summary")[0].text == "40 rows"
    assert [image["src"] for image in book.select("img")] == [
        "figures/05_ahead.png",
        "figures/05_before%20%26%20after.png",
    ]
    assert book.select("a")[0]["href"] == "notebooks/05_full_eval.html"
    assert page.find(id="summary").img["alt"] == FIGURES["05_ahead"]
    assert [h.text for h in folded["others"].select("h3")] == ["Table 10"]
    assert "TAS <1>" in folded["others"].text and "NaN" not in page.text
    assert folded["others"].img["src"] == "figures/loose.png"
    assert folded["sentences"].a["href"] == "results/refscenes-val%28U%29-vit.html"


def test_it_opens_without_a_network(out):
    page = page_of(out)
    assert not page.select("script[src], link, iframe") and "http" not in str(page)


def test_headers_of_two_runs_differ(out):
    usual, other = (
        page_of(out, **settings)
        for settings in (
            {},
            {
                "captioner": "git:embedded/git",
                "splits": ["val", "testA"],
                "limit": 4,
                "alpha": 0.25,
                "recipe": "released",
            },
        )
    )
    words = [" ".join(p.text for p in page.select("p.about")) for page in (usual, other)]
    assert "Profile embedded, recipe published. Data: RefScenes" in words[0]
    assert "all splits, all images" in words[0] and "changed from the profile: none" in words[0]
    assert "recipe released" in words[1]
    assert "val, testA, the first 4 images of each split" in words[1]
    assert (
        "changed from the profile: splits = val testA; limit = 4; captioner = git:embedded/git; "
        "alpha = 0.25."
    ) in words[1]
    assert "Finished at 2023-12-06 10:00:00+00:00 after 61 s with torch 2.14.1" in words[0]
    assert usual.title.text == "TAS: embedded"
    assert "alpha 0.25" in other.title.text
    marked = other.find(id="settings").select("tr:has(td:nth-of-type(3):-soup-contains('changed'))")
    names = [row.td.text for row in marked]
    assert names == ["splits", "limit", "captioner", "alpha"]


def test_it_says_how_to_ask_whether_it_is_stale(out):
    page = page_of(out)
    assert f"python -m tasnb run --check --out '{out}'" in [
        code.text for code in page.select("code")
    ]
    text = write_index(make_settings(out=str(out), data=str(out)), RECORD).read_text()
    assert str(ROOT) not in re.sub(r"(?s)<details.*", "", text)


def test_notebooks_of_earlier_runs_are_named(out):
    (out / "notebooks/06_ablations.html").write_text("")
    (out / "notebooks/05_full_eval.html").write_text("")
    earlier = {"06_ablations": ["was run with alpha 0.1, now 0.2", "the code changed"]}
    page = page_of(out, {**RECORD, "earlier": earlier})
    said = page.select("body > .stale")[0].text
    assert "06_ablations: was run with alpha 0.1, now 0.2; the code changed" in said
    assert page.find(id="notebook-06_ablations").select(".stale")
    assert not page.find(id="notebook-05_full_eval").select(".stale")
    assert not page_of(out).select(".stale")


def test_settings_versions_and_checkpoints(out):
    card = out / "embedded/checkpoints/clip-vit/card.json"
    card.parent.mkdir(parents=True)
    card.write_text(f'{{"files": {{"model.safetensors": "{DIGEST}"}}}}')
    page = str(page_of(out, {**RECORD, "code": "c" * 64, "data": "d" * 64}, alpha=0.25))
    assert "<td>alpha</td><td><code>0.25</code></td>" in page
    assert f"<td>clip-vit/model.safetensors</td><td><code>{DIGEST}</code></td>" in page
    assert "<td>torch</td><td><code>2.14.1</code></td>" in page
    assert "code cccccccccccc, data dddddddddddd." in page


def test_index_of_an_empty_run(out):
    page = page_of(out)
    assert page.find(id="notebooks").text.count("No notebooks have been run.") == 1
    assert not page.select("section") and not page.select(".headline")


def test_a_real_profile_says_first_whether_it_was_proven(out, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = page_of(out, profile="lite").find("h1").find_next("p").get_text()
    assert first.startswith("The models were never proven on this machine; python -m tasnb doctor ")
    assert "proven" not in page_of(out).get_text()
