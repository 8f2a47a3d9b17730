"""The comparison of runs as a page, CSV files and Markdown."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from finished_runs import make_run

from tasnb.reruns import comparison
from tasnb.reruns.comparison import compare
from tasnb.settings import InputError

CATS = [(f"image {k}", "<b>the cat</b>", 1, 50, 100) for k in range(8)]
OTHERS = [(image, text, 2, 60, 100) for image, text, *_ in CATS[:6]]


@pytest.fixture
def runs(tmp_path):
    first = {"refscenes-val": CATS, "refscenes-testA": CATS}
    return [
        make_run(tmp_path / "runs" / "a & b", first),
        make_run(tmp_path / "runs" / "more N", {"refscenes-val": OTHERS}, lam=1.0),
        make_run(tmp_path / "runs" / "same", first),
    ]


def test_what_the_page_says_first(runs, tmp_path):
    index, said = compare(runs, tmp_path / "out")
    assert index == tmp_path / "out" / "index.html"
    page = BeautifulSoup(index.read_text(encoding="utf-8"), "html.parser")
    warning, *lines = said
    assert warning.startswith("a & b and more N cover different sentences: 16 and 6, of which 6")
    assert page.select("body > .stale li")[0].text == warning
    assert [line.text for line in page.select("ul.headline li")] == lines
    assert lines[0].startswith("With clip-vit, TAS of more N is 10.0 points of mIoU above a & b on")
    runs_ = page.find(id="runs").text
    assert "2023-12-06 10:00 UTC" in runs_ and "blip2" in runs_
    assert lines[1] == "same and a & b choose the same masks with clip-vit."
    names = [tag.name for tag in page.body.find_all(recursive=False)]
    assert names[:4] == ["h1", "div", "ul", "nav"]  # differing sentences come before the results


def test_every_changed_sentence_is_linked_to_its_picture(runs, tmp_path):
    index, _ = compare(runs, tmp_path / "out")
    page = BeautifulSoup(index.read_text(encoding="utf-8"), "html.parser")
    links = page.find(id="changed").select("td a")
    assert len(links) == 2 * len(OTHERS)
    for link in links:
        path, _, row = link["href"].partition("#s")
        name = path.replace("%20", " ").replace("%26", "&")
        assert (index.parent / name).resolve().is_relative_to(tmp_path / "runs")
        assert (index.parent / name).is_file() and int(row) < len(CATS)
    assert "<b>the cat</b>" in page.find(id="changed").text  # as text, not as a tag
    for link in page.find(id="runs").select("a"):
        assert not link["href"].endswith("index.html")  # these runs have no report


def test_files(runs, tmp_path):
    index, said = compare(runs, tmp_path / "out")
    out = index.parent
    names = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    assert names == [
        *("changed.csv", "comparison.json", "comparison.md", "differences.csv"),
        *("figures/differences.png", "index.html", "paired.csv", "tables/table1.csv"),
    ]
    assert len(pd.read_csv(out / "changed.csv")) == len(OTHERS)
    paired = pd.read_csv(out / "paired.csv")
    assert set(paired["run"]) == {"more N", "same"} and set(paired["method"]) == {
        "CLIP-only",
        "TAS",
    }
    assert pd.read_csv(out / "differences.csv").values.tolist() == [
        ["setting", "lam", 0.7, 1.0, 0.7]
    ]
    text = (out / "comparison.md").read_text(encoding="utf-8")
    assert all(line in text for line in said) and "| setting | lam | 0.7 | 1.0 | 0.7 |" in text
    page = index.read_text(encoding="utf-8")
    assert "http" not in page and "nan" not in page.lower().replace("nance", "")


def test_nothing_is_left_of_a_comparison_that_cannot_be_made(runs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="at least two runs"):
        compare(runs[:1], out)
    record = json.loads((runs[1] / "run.json").read_text())
    (runs[1] / "run.json").write_text(json.dumps({**record, "status": "failed"}))
    with pytest.raises(InputError, match="is unfinished"):
        compare(runs, out)
    (runs[2] / "results" / "refscenes-val-clip-vit.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="run notebook 05 again"):
        compare([runs[0], runs[2]], out)
    assert list(out.iterdir()) == []
    (out / "mine").write_text("")
    with pytest.raises(InputError, match="exists: remove it, or choose another name"):
        compare([runs[0], runs[2]], out)
    assert [file.name for file in out.iterdir()] == ["mine"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "runs"]


def test_the_usual_folder_is_that_of_the_same_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "ROOT", tmp_path / "clone")
    usual = tmp_path / "clone" / "runs" / "comparisons"
    some = {"refscenes-val": CATS}
    names = ("x/a, b", "x/c", "y/a, b", "y/c", f"z/{'long' * 20}")
    made = [make_run(tmp_path / name, some) for name in names]
    assert compare(made[:2])[0].parent == usual / "a-b-c" == compare(made[:2])[0].parent
    other = compare(made[2:4])[0].parent  # other runs of the same names
    assert other.name.startswith("a-b-c-") and compare(made[2:4])[0].parent == other
    assert str(tmp_path / "x") in (usual / "a-b-c" / "comparison.json").read_text()
    assert len(compare([made[0], made[4]])[0].parent.name) < 60


def test_an_earlier_comparison_is_replaced_unless_it_was_changed(runs, tmp_path):
    index, _ = compare([runs[0], runs[2]], tmp_path / "out")
    page = index.read_text(encoding="utf-8")
    assert compare(runs[:2], tmp_path / "out")[0] == index
    assert index.read_text(encoding="utf-8") != page
    before = index.read_bytes()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt in it was changed since it was written"):
        compare(runs, tmp_path / "out")
    assert index.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "runs"]


def test_a_page_that_cannot_be_drawn_leaves_nothing(runs, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tasnb.workbook.html.write_page", full)
    with pytest.raises(InputError, match=r"cannot write .*out: No space left on device"):
        compare(runs, tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["runs"]
