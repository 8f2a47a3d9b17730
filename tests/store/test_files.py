"""What exists is not overwritten."""

from __future__ import annotations

import pytest

from tasnb.settings import InputError
from tasnb.store.files import check_new


def test_what_exists_is_kept(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "none")
    for name in ("file", "full", "link"):
        with pytest.raises(InputError, match=f"--to .*{name} exists: remove it, or choose"):
            check_new(tmp_path / name, "--to")
    check_new(tmp_path / "empty", "--to")
    check_new(tmp_path / "none", "--to")
