"""Digests by which a run knows that what it read has changed."""

from __future__ import annotations

import os
from pathlib import Path

from tasnb.settings import make_settings
from tasnb.workbook.records import data_digest, model_digests, outputs, stamps


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


def test_masks_in_a_file_that_is_edited_change_the_digest_of_the_models(tmp_path: Path) -> None:
    masks = tmp_path / "masks.json"
    masks.write_text("[]")
    settings = make_settings(proposal_network=f"file:{masks}")
    first = model_digests(settings)
    assert first == model_digests(settings) and first[settings.captioner] not in ("", "missing")
    masks.write_text("[ ]")
    changed = {name for name, digest in model_digests(settings).items() if digest != first[name]}
    assert changed == {settings.proposal_network}
    missing = make_settings(captioner="git:embedded/none")
    assert model_digests(missing)["git:embedded/none"] == "missing"


def test_what_was_written_is_known_without_a_clock(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    for name in ("old", "rewritten"):
        (tmp_path / "tables" / name).write_text("1")
    before = stamps(tmp_path)
    for name in ("new", "rewritten"):
        file = tmp_path / "tables" / name
        file.unlink(missing_ok=True)
        file.write_text("1")
        os.utime(file, ns=(1, 1))  # long ago, by the clock of a file server
    assert outputs(tmp_path, before).keys() == {"tables/new", "tables/rewritten"}
