"""The notebooks, run through papermill on two images a split.

The numbers are pinned in tests/data/pinned.csv. Where a change is meant to move them, run this file
with TASNB_PIN=1 and say in the commit why they moved.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tasnb.profiles import PROFILES, RECIPES
from tasnb.settings import Settings, make_settings
from tasnb.workbook.parameters import parameters_of, settings_of
from tasnb.workbook.runner import select

ROOT = Path(__file__).resolve().parents[2]
PINNED = Path(__file__).parents[1] / "data" / "pinned.csv"
TABLES = (
    "upper_bound", "table1", "table1_extra", "table2", "table2_extra", "table3", "table4", "table5",
    "table6", "table7",
)  # fmt: skip
KEY = ["table", "method", "encoder", "dataset", "split", "metric"]


@pytest.fixture(scope="module")
def out(shared_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-m", "tasnb", "run", "--limit", "2"]
    command += ["--datasets", "refscenes,refscenesg,phrasescenes", "--splits", "val,test(G),test"]
    command += ["--out", str(folder / "out"), "--store", str(shared_store), "-p", "images", "2"]
    command += ["-p", "rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "report: " in done.stdout.splitlines()[-1]
    return folder / "out"


@pytest.mark.slow
def test_every_notebook_leaves_its_three_files(out):
    for notebook in select():
        for suffix in (".ipynb", ".html", ".run.json"):
            assert (out / "notebooks" / f"{notebook.name}{suffix}").stat().st_size > 0
    assert json.loads((out / "run.json").read_text())
    page = (out / "index.html").read_text()
    figures = list((out / "figures").glob("*.png"))
    assert len(figures) >= 12
    assert all(f"figures/{figure.name}" in page for figure in figures)


@pytest.mark.slow
def test_numbers_are_the_pinned_ones(out):
    found = pd.concat([pd.read_csv(out / "tables" / f"{name}.csv") for name in TABLES])
    found = found[[*KEY, "value"]].fillna(dict.fromkeys(KEY, ""))
    if os.environ.get("TASNB_PIN"):
        found.to_csv(PINNED, index=False, float_format="%.2f")
    pinned = pd.read_csv(PINNED).fillna(dict.fromkeys(KEY, ""))
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True), pinned, check_dtype=False, rtol=0, atol=0.006
    )


@pytest.mark.slow
def test_tables_are_tidy_and_laid_out(out):
    table = pd.read_csv(out / "tables" / "table1.csv")
    names = [*KEY, "value", "paper", "n"]
    assert list(table.columns) == names
    shown = (out / "tables" / "table1.md").read_text()
    assert "| metric | encoder | method |" in shown.splitlines()[0]
    assert shown.splitlines()[0].count("Scenes") == 2  # val and test(G)


def test_parameters_cells_state_the_defaults_of_the_settings():
    fields = Settings.model_fields
    for notebook in select():
        for name, value in notebook.defaults.items():
            if name in fields and value not in ("", [], 0, None):
                assert value == fields[name].default, (notebook.name, name)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_parameters_cells_override_no_profile_and_no_recipe(profile, recipe):
    """A value that the cell repeats would be taken for the user's own, as lam once was."""
    for notebook in select():
        cell = {**notebook.defaults, "profile": profile, "recipe": recipe}
        assert settings_of(cell) == make_settings(profile, recipe=recipe), notebook.name
        if "lam" in cell:
            assert settings_of({**cell, "lam": 0.7}).lam == 0.7
            assert parameters_of(notebook, {"recipe": recipe, "lam": None})["lam"] is None


def test_notebooks_define_nothing_and_hold_no_outputs():
    for notebook in select():
        for cell in json.loads(notebook.path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                assert not cell["outputs"] and cell["execution_count"] is None
                lines = "".join(cell["source"]).splitlines()
                assert len(lines) <= 25
                if not cell["metadata"].get("nbgrader", {}).get("solution"):  # a student's part
                    assert not any(line.startswith(("def ", "class ")) for line in lines)


@pytest.mark.slow
def test_plain_papermill_works_too(out, shared_store, tmp_path):
    command = [sys.executable, "-m", "papermill", "notebooks/05_full_eval.ipynb"]
    command += [str(tmp_path / "out.ipynb"), "--no-progress-bar", "--cwd", "notebooks"]
    for name, value in (("split", "val"), ("limit", "2"), ("out", str(tmp_path / "o"))):
        command += ["-p", name, value]
    command += ["-p", "store", str(shared_store), "-y", "datasets: [refscenes]"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    mine = pd.read_csv(tmp_path / "o" / "tables" / "table1.csv")
    whole = pd.read_csv(out / "tables" / "table1.csv").query("dataset == 'refscenes'")
    pd.testing.assert_frame_equal(mine, whole.reset_index(drop=True))
