"""The commands about several runs: what they print, and bad input in one line with status 2."""

from __future__ import annotations

import os
import shutil
import zipfile

import pytest
from finished_runs import make_run

from tasnb.cli.arguments import main

CATS = [(f"image {k}", "the cat", 1, 50, 100) for k in range(8)]
BETTER = [(image, text, 2, 60, 100) for image, text, *_ in CATS]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "a", {"refscenes-val": CATS})
    make_run(tmp_path / "b", {"refscenes-val": BETTER}, lam=1.0)
    make_run(tmp_path / "c", {"refscenes-testA": CATS})
    (make_run(tmp_path / "cut", {"refscenes-val": CATS}) / "run.json").unlink()
    (tmp_path / "empty.toml").write_text("[grid]\nalpha = []\n")
    (tmp_path / "unknown.toml").write_text("[grid]\nalpah = [0, 1]\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    return tmp_path


def test_compare(here, capsys):
    assert main(["compare", "a", "b", "--out", "out"]) == 0
    said, place = capsys.readouterr().out.splitlines()
    assert said.startswith(
        "With clip-vit, TAS of b is 10.0 points of mIoU above a on RefScenes val"
    )
    assert place == "comparison: out/index.html" and (here / "out/index.html").is_file()


def test_export_and_check(here, capsys):
    assert main(["export", "a", "--to", "a.zip"]) == 0
    assert capsys.readouterr().out.startswith("export: a.zip\nSHA-256: ")
    assert main(["export", "--check", "a.zip"]) == 0
    assert "numbers: 4 in Tables 1 and 2 follow" in capsys.readouterr().out
    shutil.copy("a.zip", "b.zip")
    with zipfile.ZipFile("b.zip", "a") as packed:
        packed.writestr("more.txt", "x")
    assert main(["export", "--check", "b.zip"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "damaged: more.txt was added\n"
    assert captured.err == "tasnb: b.zip is not what was exported: more.txt was added\n"


def test_overview(here, capsys):
    assert main(["overview", "."]) == 0
    assert capsys.readouterr().out == "4 runs: index.html\n"


def test_the_plan_of_a_sweep(here, capsys):
    texts = ["-p", "alpha", "0", "0.2", "-p", "num_beams", "1", "5", "--limit", "2"]
    assert main(["sweep", *texts, "--out", "out", "--plan"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"num_beams={beams},alpha={alpha}" for beams in (1, 5) for alpha in ("0", "0.2")
    ]
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "a"], "compare needs at least two runs"),
        (["compare", "a", "none"], "none is not a run: there is no such folder"),
        (["compare", "a", "full"], "full is not a run: it has no run.json"),
        (["compare", "a", "cut"], "the run in cut is unfinished: resume it with the command"),
        (["compare", "a", "c"], "a and c have no sentences in common: choose runs that share"),
        (["compare", "a", "b", "--out", "full"], "--out full exists: remove it, or choose"),
        (["compare", "a", "b", "--out", "full/file"], "--out full/file exists"),
        (["compare", "a", "b", "--out", "full/file/x"], "cannot write full/file/x"),
        (["sweep"], "say what to vary: a TOML file, or -p alpha 0 0.1 0.2"),
        (["sweep", "none.toml"], "cannot read none.toml"),
        (["sweep", "empty.toml"], "alpha = []: a grid needs a list of values, not empty"),
        (
            ["sweep", "unknown.toml"],
            "variant alpah=0: unknown setting 'alpah': did you mean 'alpha'",
        ),
        (["sweep", "empty.toml", "-p", "alpha", "1"], "empty.toml describes the sweep: leave out"),
        (["sweep", "-p", "alpah", "0", "1"], "unknown parameter 'alpah': did you mean 'alpha'"),
        (["sweep", "-p", "alpha"], "-p alpha: give at least one value"),
        (["sweep", "-p", "alpha", "0", "1", "--out", "full"], "--out /"),
        (["sweep", "-p", "captioner", "git:embedded/git", "git:embedded/x"], "unknown checkpoint"),
        (["export", "a"], "say what to export and where"),
        (["export", "cut", "--to", "x.zip"], "the run in cut is unfinished"),
        (["export", "a", "--to", "full"], "--to full: the file's name should end in .zip"),
        (["export", "a", "--check", "a.zip"], "--check reads a file: leave out RUN and --to"),
        (["export", "--check", "full/file"], "full/file is not a zip file, or is damaged"),
        (["overview", "full"], "full contains no runs"),
    ],
)
def test_bad_input(here, capsys, arguments, message):
    before = sorted(os.listdir(here))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith(f"tasnb: {message}")
    assert sorted(os.listdir(here)) == before and os.listdir(here / "full") == ["file"]
