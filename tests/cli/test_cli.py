"""The command line, and the files that say how to install."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from tasnb import __version__
from tasnb.cli.arguments import main
from tasnb.workbook import runner

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = """\
profile: str = "embedded"
datasets: list[str] = []
split: str = ""
limit: int = 0
alpha: float = 0.1
out: str = ""
changes: dict = {}
"""
CELL = """\
from pathlib import Path
Path(out, "tables").mkdir()
Path(out, "tables/table1.csv").write_text("a\\n1\\n")
Path(out, "tables/table1.md").write_text(f"| {datasets} {split} {limit} {alpha} |\\n|---|\\n")
"""


@pytest.fixture
def clone(tmp_path):
    """A small repository with this package, its data and one notebook."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "tasnb", clone / "tasnb", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", clone)
    (clone / "data").mkdir()
    for part in ("embedded", "wordnet"):
        (clone / "data" / part).symlink_to(ROOT / "data" / part)
    (clone / "notebooks").mkdir()
    first = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[first, new_code_cell(CELL)])
    write(notebook, clone / "notebooks" / "05_full_eval.ipynb")
    return clone


def tasnb(clone: Path, *arguments: str, cwd: Path | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tasnb", *arguments],
        cwd=cwd or clone,
        env={**os.environ, "PYTHONPATH": str(clone)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_run(clone, tmp_path):
    """Paths are relative to the shell's folder, values arrive in the notebook as declared."""
    flags = ["--notebooks", "05", "--datasets", "refscenes,refscenes+", "--limit", "3"]
    values = ["-p", "split", "testA", "-p", "alpha", "1"]
    process = tasnb(clone, "run", *flags, *values, "--out", "here", cwd=tmp_path)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[0] == "[1/1] 05_full_eval"
    assert out.splitlines()[-4:] == [
        "| ['refscenes', 'refscenes+'] testA 3 1 |",
        "|---|",
        "",
        f"report: {tmp_path}/here/index.html",
    ]
    assert (tmp_path / "here" / "index.html").is_file()
    assert (clone / "runs" / "store").is_dir()


def test_check_says_whether_the_report_is_up_to_date(clone, monkeypatch, capsys):
    monkeypatch.setattr(runner, "NOTEBOOKS", clone / "notebooks")
    place = ["run", "--out", str(clone / "out"), "--store", str(clone / "store")]
    assert main([*place, "--check"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "05_full_eval: has not been run to the end\n"
    assert captured.err.startswith("tasnb: 1 of 1 notebooks not up to date; ")
    assert main([*place, "-p", "alpha", "0.2"]) == 0
    capsys.readouterr()
    assert main([*place, "--check"]) == 0
    assert capsys.readouterr() == ("05_full_eval: up to date\n", "")
    (clone / "out/tables/table1.csv").write_text("played with")
    assert main([*place, "--check"]) == 1
    assert capsys.readouterr().out == "05_full_eval: tables/table1.csv was modified\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND; see python -m tasnb --help"),
        (["rum"], "argument COMMAND: invalid choice: 'rum' (choose from"),
        (["run", "--profil", "x"], "unrecognized arguments: --profil x; see python -m tasnb"),
        (["run", "--profile", "papers"], "unknown profile 'papers': did you mean 'paper'"),
        (["run", "--recipe", "x"], "unknown recipe 'x': choose from published"),
        (["run", "--datasets", "refscene"], "unknown dataset 'refscene': did you mean 'refscenes'"),
        (["run", "--splits", "testa"], "unknown split 'testa': did you mean 'test"),
        (["run", "--notebooks", "07"], "unknown notebook '07': choose from 05_full_eval"),
        (["run", "--limit", "2.5"], "--limit '2.5': should be a whole number, 0 for all"),
        (["run", "--limit", "-1"], "--limit '-1': should be a whole number, 0 for all"),
        (["run", "-p", "alpha"], "argument -p: expected 2 arguments"),
        (["run", "-p", "alpah", "1"], "unknown parameter 'alpah': did you mean 'alpha'?"),
        (["run", "-p", "alpha", "x"], "alpha = 'x': should be a valid number"),
        (["run", "-p", "alpha", "-1"], "alpha = -1: should be greater than or equal to 0"),
        (["run", "-p", "captioner", "foo:x"], "unknown kind of captioner 'foo': choose from blip2"),
        (["run", "-p", "changes", "[]"], "parameter changes = []: should be of type dict"),
        (["run", "--out", "pyproject.toml"], "cannot write "),
        (["run", "--out", "pyproject.toml/x"], "cannot write "),
        (["segment", "x.png"], "the following arguments are required: EXPRESSION"),
        (
            ["segment", "x.png", "cat", "--out", "x.txt"],
            "--out x.txt: the overlay",
        ),
    ],
)
def test_bad_input(clone, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(clone)
    monkeypatch.setattr(runner, "NOTEBOOKS", clone / "notebooks")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"tasnb: {message}") and captured.err.count("\n") == 1
    assert sorted(os.listdir(clone)) == ["data", "notebooks", "pyproject.toml", "tasnb"]


def test_a_run_without_its_data_does_not_begin(clone, monkeypatch, capsys):
    monkeypatch.setattr(runner, "NOTEBOOKS", clone / "notebooks")
    empty = ["-p", "data", str(clone), "--out", str(clone / "out")]
    assert main(["run", *empty]) == 2  # nor its checkpoints
    assert "unknown checkpoint 'embedded/sam'" in capsys.readouterr().err
    assert main(["run", "--profile", "paper", *empty]) == 2
    said = capsys.readouterr().err
    assert "refcoco/refs(unc).json is missing; `python -m tasnb fetch refcoco`" in said
    assert said.endswith(
        "`python -m tasnb doctor --profile paper` lists everything that is missing\n"
    )
    assert not (clone / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["none.png", "cat"], "none.png"),
        (["", "cat"], "the image is blank"),
        (["grey.png", "cat", "--out", "grey.png"], "that is the picture itself"),
        (["grey.png", "cat", "--mask", "../{0}/grey.png"], "that is the picture itself"),
        (["link.png", "cat", "--out", "grey.png"], "that is the picture itself"),
        (["grey.png", "a", "b", "--out", "o/a.png"], "need a folder, such as --out o/a/"),
        (["thin.png", "cat"], "thin.png is too thin, 1 x 500 pixels"),
        (["text.png", "cat"], "text.png"),
        (["grey.png", "  "], "expression is blank"),
        (["grey.png", "cat", "--profile", "papers"], "unknown profile 'papers'"),
        (["grey.png", "cat", "--encoder", "clip"], "'clip' is not a model name"),
        (["grey.png", "cat", "--out", "text.png/x.png"], "cannot write"),
    ],
)
def test_segment_of_nothing(tmp_path, monkeypatch, capsys, arguments, part):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (40, 30)).save("grey.png")
    Image.new("L", (1, 500)).save("thin.png")
    Path("text.png").write_text("no image")
    Path("link.png").symlink_to("grey.png")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["segment", *(text.format(tmp_path.name) for text in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("tasnb: ") and captured.err.count("\n") == 1
    assert part in captured.err and captured.out == ""
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_bad_input_in_a_shell(clone):
    process = tasnb(clone, "run", "-p", "alpha", "much")
    assert process.communicate() == (
        "",
        "tasnb: alpha = 'much': should be a valid number\n",
    )
    assert process.returncode == 2
    assert not (clone / "runs").exists()


@pytest.mark.slow
def test_interrupt(clone):
    path = clone / "notebooks" / "05_full_eval.ipynb"
    running = clone / "running"
    cell = f"import pathlib, time\npathlib.Path({str(running)!r}).touch()\ntime.sleep(60)"
    write(new_notebook(cells=[new_code_cell(cell)]), path)
    process = tasnb(clone, "run")
    assert process.stdout.readline() == "[1/1] 05_full_eval\n"
    while not running.exists():  # in the middle of a cell, not of an import
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert re.fullmatch(r"tasnb: interrupted; .*\n", err)
    assert not list(clone.glob("runs/*/notebooks/*.run.json"))


def test_version_and_help(capsys):
    for arguments in (["--version"], ["--help"], ["run", "--help"], ["segment", "--help"]):
        with pytest.raises(SystemExit) as done:
            main(arguments)
        assert done.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"tasnb {__version__}\n")
    assert "examples:" in text and "python -m tasnb segment photo.jpg" in text


# --- installation


def _name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_list_of_dependencies(project):
    """Each has a pinned version in constraints.txt and a reason in environment.yml."""
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    text = (ROOT / "constraints.txt").read_text()
    pins = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert {_name(w) for w in wanted} <= {_name(pin) for pin in pins}
    reasons = re.findall(r"^#   (\S+) {2,}\S", (ROOT / "environment.yml").read_text(), re.M)
    assert sorted(_name(reason) for reason in reasons) == sorted(_name(w) for w in wanted)


def test_one_version(project):
    assert project["version"] == __version__
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_hooks_have_the_pinned_versions():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert (found := set(re.findall(r"\w+==[\d.]+", hooks)))
    assert found <= set(pins)
