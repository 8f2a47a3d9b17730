"""Where a notebook's files go: into its run when the runner runs it, by hand never into a run."""

from __future__ import annotations

import re
import string
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook

import tasnb
from tasnb.settings import ROOT, InputError, make_settings
from tasnb.workbook.spare import RUN
from tasnb.workbook.start import scratch_name

SCRATCH = ROOT / "runs" / "scratch"


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch):
    monkeypatch.delenv(RUN, raising=False)


def test_by_hand_a_notebook_has_a_scratch_folder_of_its_own(capsys):
    usual = tasnb.start({"profile": "embedded", "out": ""}).settings
    assert usual.out == SCRATCH / "embedded"
    assert capsys.readouterr().out.splitlines() == [
        f"tasnb {tasnb.__version__}, profile embedded, recipe published",
        "tables and figures are saved in runs/scratch/embedded",
    ]
    other = tasnb.start({"alpha": 0.8, "limit": 4, "changes": {"num_beams": 1}}).settings
    assert other.out == SCRATCH / "embedded-limit=4-num_beams=1-alpha=0.8"
    assert other.store == usual.store == ROOT / "runs" / "store"  # nothing is computed again


def test_the_runner_s_kernels_write_into_the_run(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv(RUN, "1")
    (tmp_path / "run.json").write_text('{"status": "ok"}')
    assert tasnb.start({"alpha": 0.8}).settings.out == ROOT / "runs" / "embedded"
    assert tasnb.start({"out": str(tmp_path)}).settings.out == tmp_path
    assert "go to" not in capsys.readouterr().out


@pytest.mark.parametrize("record", ["run.json", "notebooks/05_full_eval.run.json"])
@pytest.mark.parametrize("inside", [False, True])
def test_by_hand_a_run_is_refused(tmp_path, record, inside):
    where = {"changes": {"out": str(tmp_path)}} if inside else {"out": str(tmp_path)}
    assert tasnb.start(where).settings.out == tmp_path  # as long as there is none
    (tmp_path / record).parent.mkdir(exist_ok=True)
    (tmp_path / record).write_text('{"status": "ok"}')
    with pytest.raises(InputError) as caught:
        tasnb.start(where)
    assert str(caught.value).startswith(
        f"out = {tmp_path}: this folder contains a finished run, which "
    )
    assert "\n" not in str(caught.value)


def test_a_scratch_folder_that_holds_a_run_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("tasnb.workbook.start.ROOT", tmp_path)
    first = tmp_path / "runs/scratch/embedded"
    first.mkdir(parents=True)
    assert tasnb.start({}).settings.out == first
    (first / "run.json").write_text("{}")
    assert tasnb.start({}).settings.out == tmp_path / "runs/scratch/embedded-2"


@pytest.mark.slow
def test_papermill_by_hand_leaves_the_run_as_it_was(tmp_path):
    """The kernel of plain papermill is none of ours, whatever notebook it runs."""
    cells = [
        new_code_cell(f'out: str = "{tmp_path}"', metadata={"tags": ["parameters"]}),
        new_code_cell("import tasnb\ntasnb.start(globals())"),
    ]
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    source = tmp_path / "x.ipynb"
    write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), source)
    (tmp_path / "run.json").write_text('{"status": "ok"}')
    command = [sys.executable, "-m", "papermill", str(source), str(tmp_path / "y.ipynb")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "contains a finished run" in done.stderr


# --- names


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "embedded"),
        ({"recipe": "released"}, "embedded-released"),
        ({"profile": "paper", "precision": "full"}, "paper-precision=full"),
        ({"splits": ["val", "testA"]}, "embedded-splits=val,testA"),
        ({"datasets": ["refscenes+"]}, "embedded-datasets=refscenes+"),
        (
            {"areas_of": None, "compile": True},
            "embedded-areas_of=null-compile=true",
        ),
        ({"out": "/x", "store": "/y", "backend": "dask", "workers": 3}, "embedded"),
    ],
)
def test_a_name_says_what_differs(settings, name):
    assert scratch_name(make_settings(**settings)) == name


def test_what_had_to_be_replaced_or_cut_has_a_digest():
    names = [
        scratch_name(make_settings(captioner=f"git:{name}")) for name in ("a/b", "a b", "a-b", "é")
    ]
    assert all(re.fullmatch(r"embedded-captioner=git-[a-b-]+[0-9a-f]{8}", name) for name in names)
    assert len(set(names)) == 4
    long = scratch_name(make_settings(encoders=[f"open_clip:{'x' * 90}{k}" for k in range(2)]))
    assert len(long) == 100 and len(Path(long).parts) == 1


texts = st.text(st.sampled_from(string.printable + "é猫"), min_size=1, max_size=60)


@given(texts, texts)
def test_names_are_safe_and_apart(one, other):
    def named(text):
        return scratch_name(make_settings(scheduler=text, spacy_model=text))

    assert re.fullmatch(r"[\w.,+=-]{1,100}", named(one), re.ASCII)
    assert (named(one) == named(other)) == (one == other)


# --- what JupyterLab would make of an expression


def test_two_dollars_in_a_table_are_no_formula():
    tasnb.start({})
    frame = pd.DataFrame({"sentence": ["the $5 bill left of the $10 bill"]})
    assert "tex2jax_ignore" in frame.to_html()
    assert "tex2jax_ignore" in frame.style.to_html()


def test_progress_is_text_without_a_warning():
    """Libraries that import tqdm.auto in a kernel without ipywidgets say nothing in pink."""
    script = "import ipykernel.zmqshell, tasnb, tqdm.auto"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    bare = script.replace(", tasnb", "")
    done = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, cwd=ROOT)
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        assert "IProgress not found" in done.stderr  # so the first half has seen something
