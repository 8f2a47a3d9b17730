"""Folders that appear as a whole, and are replaced as a whole or not at all."""

from __future__ import annotations

import json

import pytest

from tasnb.settings import InputError
from tasnb.store.outputs import check_output, output_folder

MARK = "mark.json"


def write(path, text="x"):
    with output_folder(path, MARK, {"by": "test"}) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(text)


def test_a_folder_appears_at_the_end(tmp_path):
    target = tmp_path / "a" / "b"
    with output_folder(target, MARK, {}) as folder:
        (folder / "file").write_text("x")
        assert not target.exists() and folder.parent == target.parent
    assert sorted(file.name for file in target.iterdir()) == ["file", MARK]
    assert list(target.parent.iterdir()) == [target]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert (tmp_path / "empty" / "sub" / "file").is_file()


def test_an_earlier_output_is_replaced(tmp_path):
    target = tmp_path / "out"
    write(target, "old")
    write(target, "new")
    assert (target / "sub" / "file").read_text() == "new"
    assert json.loads((target / MARK).read_text())["by"] == "test"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, InputError])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_body_that_fails_changes_nothing(tmp_path, error, earlier):
    target = tmp_path / "out"
    if earlier:
        write(target, "old")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error), output_folder(target, MARK, {}) as folder:
        (folder / "file").write_text("x")
        raise error
    assert sorted(tmp_path.rglob("*")) == before
    assert not earlier or (target / "sub" / "file").read_text() == "old"


def added(target):
    (target / "mine").write_text("")
    return "mine"


def changed(target):
    (target / "sub" / "file").write_text("mine")
    return "sub/file"


def removed(target):
    (target / "sub" / "file").unlink()
    return "sub/file"


@pytest.mark.parametrize("change", [added, changed, removed])
def test_a_folder_with_a_change_is_kept(tmp_path, change):
    """Also if the change is made while the new output is written."""
    target = tmp_path / "out"
    write(target)
    with pytest.raises(InputError) as error, output_folder(target, MARK, {}):
        name = change(target)
    message = f"--out {target} exists, and {name} in it was changed since it was written: "
    assert str(error.value).startswith(message)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"{name} in it was changed"):
        write(target)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_others_wrote_is_kept(tmp_path):
    (tmp_path / "file").write_text("mine")
    for name, mark in (("full", None), ("other", "{}"), ("torn", '{"files": [')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("mine")
        if mark:
            (tmp_path / name / MARK).write_text(mark)
    write(tmp_path / "own")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    before = sorted(tmp_path.rglob("*"))
    for name in ("file", "full", "other", "torn", "link"):
        with pytest.raises(InputError, match=f"--to .*{name} exists: remove it, or choose"):
            check_output(tmp_path / name, MARK, "--to")
        with pytest.raises(InputError, match="exists"):
            write(tmp_path / name)
    with pytest.raises(InputError, match=r"cannot write .*file/x: .*; choose another folder"):
        write(tmp_path / "file" / "x")
    assert sorted(tmp_path.rglob("*")) == before
