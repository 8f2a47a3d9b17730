"""Folders that appear as a whole or not at all."""

from __future__ import annotations

import pytest

from tasnb.settings import InputError
from tasnb.store.files import check_new, new_folder


def test_a_new_folder_appears_at_the_end(tmp_path):
    target = tmp_path / "a" / "b"
    with new_folder(target) as folder:
        (folder / "file").write_text("x")
        assert not target.exists() and folder.parent == target.parent
    assert [file.name for file in target.iterdir()] == ["file"]
    assert list(target.parent.iterdir()) == [target]
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "empty" / "file").is_file()


def test_nothing_is_left_if_the_body_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out") as folder:
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_kept(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "none")
    before = sorted(tmp_path.rglob("*"))
    for name in ("file", "full", "link"):
        with pytest.raises(InputError, match=f"--to .*{name} exists: remove it, or choose"):
            check_new(tmp_path / name, "--to")
        with pytest.raises(InputError, match="exists"), new_folder(tmp_path / name):
            raise AssertionError("the body ran")
    message = r"cannot write .*file/x: .*; choose another folder"
    with pytest.raises(InputError, match=message), new_folder(tmp_path / "file" / "x"):
        raise AssertionError("the body ran")
    assert sorted(tmp_path.rglob("*")) == before
