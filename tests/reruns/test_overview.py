"""The overview lists every run below a folder and overwrites no other page."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from finished_runs import make_run

from tasnb.reruns import overview
from tasnb.settings import InputError

CATS = [(f"image {k}", "the cat", 1, 50, 100) for k in range(4)]


def rows_of(page):
    table = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").table
    head = [cell.text for cell in table.select("th")]
    cells = [[cell.text for cell in line.select("td")] for line in table.select("tbody tr")]
    return {row[0]: dict(zip(head, row, strict=True)) for row in cells}


def test_every_run_with_what_differs_from_its_profile(tmp_path):
    usual = {"encoders": ["open_clip:embedded/clip-rn", "open_clip:embedded/clip-vit"]}
    make_run(tmp_path / "one", {"refscenes-val": CATS, "refscenes-testA": CATS})
    sweep = tmp_path / "sweeps" / "x"
    make_run(sweep / "lam=0", {"refscenes-val": CATS}, lam=0.0, recipe="released")
    (sweep / "sweep.json").write_text("{}")
    (sweep / "index.html").write_text("")
    (make_run(tmp_path / "cut", {}) / "run.json").unlink()
    (tmp_path / "one" / "index.html").write_text("")
    page, count = overview.write(tmp_path)
    assert page == tmp_path / "index.html" and count == 3
    rows = rows_of(page)
    changed = "encoders = open_clip:embedded/clip-vit"
    assert rows["one"] == {
        "run": "one",
        "finished": "2023-12-06 10:00 UTC",
        "profile": "embedded",
        "differs from the profile": changed,
        "notebooks": "05",
        "images": "4",
        "sentences": "8",
        "TAS (CLIP-only)": "clip-vit\u00a050.0\u00a0(0.0)",
    }
    assert rows["sweeps/x/lam=0"]["differs from the profile"] == (
        f"recipe released; {changed}; lam = 0.0"
    )
    assert rows["cut"]["TAS (CLIP-only)"] == "unfinished"
    assert list(rows["one"])[:2] == ["run", "TAS (CLIP-only)"]  # seen on a narrow screen
    links = BeautifulSoup(page.read_text(), "html.parser").select("a")
    assert [link["href"] for link in links] == ["one/index.html", "sweeps/x/index.html"]
    assert usual["encoders"][1] in changed


def test_no_other_page_is_overwritten(tmp_path):
    make_run(tmp_path / "one", {})
    assert overview.write(tmp_path)[1] == 1 == overview.write(tmp_path)[1]
    assert "<h1>TAS: 1 run</h1>" in (tmp_path / "index.html").read_text()
    (tmp_path / "index.html").write_text("my page")
    with pytest.raises(InputError, match="is not an overview of runs, so it is not overwritten"):
        overview.write(tmp_path)
    assert (tmp_path / "index.html").read_text() == "my page"


def test_folders_without_runs(tmp_path):
    with pytest.raises(InputError, match="contains no runs"):
        overview.write(tmp_path)
    with pytest.raises(InputError, match="there is no such folder"):
        overview.write(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_run_renews_the_overview_it_belongs_to(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "ROOT", tmp_path / "clone")
    usual = make_run(tmp_path / "clone/runs/sweeps/x/alpha=0", {})
    assert overview.renew(usual) == tmp_path / "clone/runs/index.html"
    elsewhere = make_run(tmp_path / "elsewhere/one", {})
    assert overview.renew(elsewhere) is None  # nobody asked for a page there
    assert not (tmp_path / "elsewhere/index.html").exists()
    overview.write(tmp_path / "elsewhere")
    make_run(tmp_path / "elsewhere/two", {})
    page = overview.renew(tmp_path / "elsewhere/two")
    assert page == tmp_path / "elsewhere/index.html" and set(rows_of(page)) == {"one", "two"}
    (tmp_path / "clone/runs/index.html").write_text("my page")
    assert overview.renew(usual) is None
