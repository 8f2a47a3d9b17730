"""Exports hold what a run wrote, and no change to one goes unnoticed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile

import pandas as pd
import pytest
from finished_runs import make_run

from tasnb.reruns import package
from tasnb.reruns.comparison import compare
from tasnb.settings import InputError
from tasnb.store.files import file_digest

CATS = [(f"image {k}", "the cat", 1, 50 + k, 100) for k in range(4)]


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "a run", {"refscenes-val": CATS, "phrasescenes-test": CATS})


@pytest.fixture
def packed(run, tmp_path):
    assert package.export(run, tmp_path / "run.zip") == file_digest(tmp_path / "run.zip")
    return tmp_path / "run.zip"


def repacked(packed, **changes):
    """A copy with some files replaced (or left out: None) and the digests made anew."""
    with zipfile.ZipFile(packed) as source:
        contents = {name: source.read(name) for name in source.namelist()}
    contents = {name: c for name, c in {**contents, **changes}.items() if c is not None}
    if package.SUMS not in changes:
        sums = [
            f"{hashlib.sha256(content).hexdigest()}  {name}\n"
            for name, content in contents.items()
            if name != package.SUMS
        ]
        contents[package.SUMS] = "".join(sums).encode()
    target = packed.with_name("other.zip")
    with zipfile.ZipFile(target, "w") as other:
        for name, content in contents.items():
            other.writestr(name, content)
    return target


def test_what_an_export_contains(run, packed, tmp_path):
    with zipfile.ZipFile(packed) as content:
        names = content.namelist()
        assert str(tmp_path).encode() not in b"".join(
            content.read(name) for name in names if name.endswith(".json")
        )
        assert json.loads(content.read("run.json"))["settings"]["alpha"] == 0.1
    assert names == sorted(names)
    kept = [name for name in names if name.startswith(("tables/", "results/"))]
    assert kept == [
        *(f"results/{c}-clip-vit.parquet" for c in ("phrasescenes-test", "refscenes-val")),
        *(f"tables/table1.{end}" for end in ("csv", "md", "parquet", "tex")),
    ]
    assert {"run.json", "notebooks/05_full_eval.run.json", "tables.tex"} < set(names)
    report = package.check(packed)
    assert not report.damaged
    assert report.lines[0].startswith("digests: 9 files as exported; SHA-256 ")
    assert report.lines[1] == "numbers: 8 in Tables 1 and 2 follow from the results per sentence"
    assert report.lines[2] == "code: another version than here"
    assert report.lines[3] == "versions: the same as here"


def test_it_is_a_run_again_once_unpacked(run, packed, tmp_path):
    shutil.unpack_archive(packed, tmp_path / "unpacked")
    if shutil.which("sha256sum"):
        subprocess.run(
            ["sha256sum", "--quiet", "-c", package.SUMS], cwd=tmp_path / "unpacked", check=True
        )
    _, said = compare([run, tmp_path / "unpacked"], tmp_path / "comparison")
    assert said == ["unpacked and a run choose the same masks with clip-vit."]
    again = package.export(tmp_path / "unpacked", tmp_path / "again.zip")
    assert again == file_digest(packed)


def test_every_change_is_found(packed):
    with zipfile.ZipFile(packed) as content:
        sums = content.read(package.SUMS)
    for name, changed, message in (
        ("tables/table1.csv", b"a\n1\n", "tables/table1.csv was modified"),
        ("tables/table1.csv", None, "tables/table1.csv is missing"),
        ("tables/table9.csv", b"", "tables/table9.csv was added"),
    ):
        other = repacked(packed, **{name: changed, package.SUMS: sums})
        report = package.check(other)
        assert report.damaged == [message] and f"damaged: {message}" in report.lines
    # and with new digests, by the records of the notebooks
    for name, changed in (("tables/table1.csv", b"a\n1\n"), ("tables/table1.md", None)):
        report = package.check(repacked(packed, **{name: changed}))
        assert f"{name} is not as its notebook wrote it" in report.damaged


def test_numbers_that_do_not_follow_from_the_results(packed):
    with zipfile.ZipFile(packed) as content:
        table = pd.read_csv(content.open("tables/table1.csv"))
    at = (table["method"] == "TAS") & (table["metric"] == "mIoU") & (table["split"] == "val")
    assert at.sum() == 1
    table.loc[at, "value"] += 1
    other = repacked(packed, **{"tables/table1.csv": table.to_csv(index=False).encode()})
    damaged = package.check(other).damaged
    assert (
        "table1: TAS, clip-vit, refscenes val, mIoU is 52.5000, but 51.5000 by the results"
        in damaged
    )


def test_damaged_bytes(packed, tmp_path):
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as whole:
        place = whole.getinfo("tables/table1.parquet").header_offset + 80
    content[place] ^= 0xFF
    (tmp_path / "flipped.zip").write_bytes(content)
    assert package.check(tmp_path / "flipped.zip").damaged == ["tables/table1.parquet was modified"]
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as foreign:
        foreign.writestr("a.txt", "a")
    for name, message in {
        "cut.zip": "is not a zip file, or is damaged",
        "foreign.zip": "was not written by `python -m tasnb export`",
        "none.zip": "cannot read .*none.zip: No such file",
    }.items():
        with pytest.raises(InputError, match=message):
            package.check(tmp_path / name)


def test_what_cannot_be_exported(run, packed, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"--to .*run.zip exists"):
        package.export(run, packed)
    with pytest.raises(InputError, match=r"run.tar: the file's name should end in .zip"):
        package.export(run, tmp_path / "run.tar")
    with pytest.raises(InputError, match="is not a run"):
        package.export(tmp_path / "none", tmp_path / "new.zip")
    (run / "tables/table1.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match=r"table1.csv is not as the run wrote it"):
        package.export(run, tmp_path / "new.zip")
    (run / "tables/table1.csv").unlink()
    with pytest.raises(InputError, match=r"table1.csv is missing: run the notebook again"):
        package.export(run, tmp_path / "new.zip")
    assert sorted(tmp_path.iterdir()) == before
