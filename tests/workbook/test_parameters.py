from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasnb.settings import InputError, make_settings
from tasnb.workbook.parameters import from_text, load_notebook, parameters_of, settings_of

CELL = '''"""What this notebook may vary."""
profile: str = "embedded"  # models and data
datasets: list[str] = ["refscenes"]
splits: list[str] = []
split: str = ""
limit: int = 0  # 0 = all images
alpha: float = 0.1
alphas: list[float] = [0, 0.05]
shift: float = -1.5
rectify: bool = True
notes: dict = {"a": 1}
plain = 3
'''


def write_notebook(path: Path, cell: str | None, *, tag: str = "parameters") -> Path:
    cells = [{"cell_type": "markdown", "metadata": {}, "source": ["# Title\n", "text"]}]
    if cell is not None:
        source = cell.splitlines(keepends=True)
        cells.append({"cell_type": "code", "metadata": {"tags": [tag]}, "source": source})
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    return path


@pytest.fixture
def notebook(tmp_path):
    return load_notebook(write_notebook(tmp_path / "05_x.ipynb", CELL))


def test_defaults_and_kinds(notebook):
    assert notebook.name == "05_x"
    assert notebook.defaults == {
        "profile": "embedded",
        "datasets": ["refscenes"],
        "splits": [],
        "split": "",
        "limit": 0,
        "alpha": 0.1,
        "alphas": [0, 0.05],
        "shift": -1.5,
        "rectify": True,
        "notes": {"a": 1},
        "plain": 3,
    }
    assert notebook.kinds["alphas"] == list[float]
    assert notebook.kinds["plain"] is int


def test_notebook_without_parameters(tmp_path):
    assert load_notebook(write_notebook(tmp_path / "x.ipynb", None)).defaults == {}
    assert load_notebook(write_notebook(tmp_path / "x.ipynb", "a = 1", tag="b")).defaults == {}


def test_digest_is_of_the_cells_only(tmp_path, notebook):
    content = json.loads(notebook.path.read_text())
    content["metadata"]["kernelspec"] = {"name": "python3"}
    content["cells"][1]["outputs"] = [{"output_type": "stream"}]
    notebook.path.write_text(json.dumps(content))
    assert load_notebook(notebook.path).digest == notebook.digest
    content["cells"][0]["source"] = "# Another title"
    notebook.path.write_text(json.dumps(content))
    assert load_notebook(notebook.path).digest != notebook.digest


@pytest.mark.parametrize(
    ("cell", "part"),
    [
        ("a = b", "malformed node"),
        ("a = 1 +", "invalid syntax"),
        ("import os", "import os"),
        ("a = c = 1", "a = c = 1"),
        ("a.b = 1", "a.b = 1"),
        ("a: int", "a: int"),
        ("a: str | None = None", "not str | None"),
        ("a: tuple = (1, 2)", "not tuple"),
        ("a = (1, 2)", "not tuple"),
        ("a = None", "not NoneType"),
        ("a: int = 0.5", "parameter a = 0.5: should be of type int"),
        ("a: list[int] = [1, 'x']", "should be of type list[int]"),
    ],
)
def test_parameters_cell_takes_literals_only(tmp_path, cell, part):
    with pytest.raises(InputError) as caught:
        load_notebook(write_notebook(tmp_path / "01_x.ipynb", cell))
    message = str(caught.value)
    assert message.startswith("01_x.ipynb: the parameters cell may only assign literals")
    assert part in message and "\n" not in message


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": [{}]}', "\0\xff"])
def test_no_notebook(tmp_path, content):
    path = tmp_path / "01_x.ipynb"
    path.write_text(content)
    with pytest.raises(InputError, match="cannot be read as a notebook"):
        load_notebook(path)


def test_text_is_read_as_declared(notebook):
    texts = {
        "split": "5",
        "limit": "5",
        "alpha": "1",
        "shift": "-2e-1",
        "rectify": "False",
        "alphas": "0, 0.1",
        "datasets": "refscenes+,refscenesg",
        "splits": '["val"]',
        "notes": '{"b": [1]}',
    }
    assert from_text([notebook], texts) == {
        "split": "5",
        "limit": 5,
        "alpha": 1,
        "shift": -0.2,
        "rectify": False,
        "alphas": [0, 0.1],
        "datasets": ["refscenes+", "refscenesg"],
        "splits": ["val"],
        "notes": {"b": [1]},
    }


def test_text_for_an_unknown_name(notebook):
    with pytest.raises(InputError, match=r"^unknown parameter 'alhpa': did you mean 'alpha'"):
        from_text([notebook], {"alhpa": "1"})


def test_only_declared_parameters_are_passed(notebook):
    assert parameters_of(notebook, {"alpha": 0.2, "lam": 0.5, "out": "/x"}) == {"alpha": 0.2}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"alpha": "0.2"}, "parameter alpha = '0.2': should be of type float"),
        ({"alpha": float("nan")}, "parameter alpha = nan: should be of type float"),
        ({"limit": 1.5}, "parameter limit = 1.5: should be of type int"),
        ({"limit": True}, "parameter limit = True: should be of type int"),
        ({"rectify": 1}, "parameter rectify = 1: should be of type bool"),
        ({"alphas": [0.1, "x"]}, "parameter alphas = [0.1, 'x']: should be of type list[float]"),
        ({"datasets": ("refscenes",)}, "parameter datasets = ('refscenes',): should be of type"),
        ({"alpha": -1.0}, "alpha = -1.0: should be greater than or equal to 0"),
        ({"split": "test"}, "unknown split 'test': did you mean"),
        ({"profile": "paperr"}, "unknown profile 'paperr'"),
    ],
)
def test_bad_values_are_refused(notebook, overrides, message):
    with pytest.raises(InputError) as caught:
        parameters_of(notebook, overrides)
    assert str(caught.value).startswith(message)


def test_settings_of_parameters():
    parameters = {"alpha": 0.2, "alphas": [1], "split": "val", "splits": [], "limit": 0}
    assert settings_of(parameters) == make_settings(alpha=0.2, splits=["val"])


# --- any setting by its name


@pytest.fixture
def open_notebook(tmp_path):
    return load_notebook(write_notebook(tmp_path / "06_x.ipynb", CELL + "changes: dict = {}\n"))


def test_a_setting_that_no_notebook_declares_goes_into_changes(notebook, open_notebook):
    texts = {
        "lam_g": "0.5",
        "captioner": "git:embedded/git",
        "encoders": "open_clip:a,open_clip:b",
        "areas_of": "null",
        "changes": '{"num_beams": 2}',
        "alpha": "0.3",
    }
    found = from_text([notebook, open_notebook], texts)
    changes = {
        "num_beams": 2,
        "lam_g": 0.5,
        "captioner": "git:embedded/git",
        "encoders": ["open_clip:a", "open_clip:b"],
        "areas_of": None,
    }
    assert found == {"changes": changes, "alpha": 0.3}
    assert parameters_of(open_notebook, found) == found
    assert parameters_of(notebook, found) == {"alpha": 0.3}
    settings = settings_of({**open_notebook.defaults, **found})
    assert settings == make_settings(alpha=0.3, datasets=["refscenes"], **changes)


def test_without_changes_a_setting_is_unknown(notebook):
    with pytest.raises(InputError, match="unknown parameter 'lam_g'"):
        from_text([notebook], {"lam_g": "0.5"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.2}, "changes contains alpha, which is a parameter: use -p alpha ..."),
        ({"lam_gg": 0.2}, "unknown setting 'lam_gg': did you mean 'lam_g'"),
        ({"lam_g": "x"}, "lam_g = 'x': should be a valid number"),
    ],
)
def test_bad_changes_are_refused(open_notebook, changes, message):
    with pytest.raises(InputError) as caught:
        parameters_of(open_notebook, {"changes": changes})
    assert message in str(caught.value)
