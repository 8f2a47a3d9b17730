"""Digests by which a run knows that what it read has changed."""

from __future__ import annotations

import os
from pathlib import Path

from tasnb.settings import make_settings
from tasnb.workbook.records import data_digest


def test_a_picture_replaced_by_one_of_equal_size_changes_the_digest(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    picture, refs = folder / "a.jpg", folder / "refs(own).json"
    picture.write_bytes(b"one")
    refs.write_text("[]")
    (folder / "images").mkdir()
    settings = make_settings(data=str(tmp_path)).model_copy(update={"datasets": (str(folder),)})
    first = data_digest(settings)
    assert data_digest(settings) == first
    os.utime(refs)  # text counts by its content
    assert data_digest(settings) == first
    picture.write_bytes(b"two")
    os.utime(picture, ns=(1, 1))
    assert data_digest(settings) != first
