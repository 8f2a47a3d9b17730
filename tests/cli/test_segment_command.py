"""``tasnb segment`` with a list, a folder or several expressions: the folder that it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from painted import PICTURES, QUICK
from PIL import Image, features
from pycocotools import mask as coco_mask

import tasnb
from tasnb import settings as tasnb_settings
from tasnb.cli.arguments import main
from tasnb.segmentation import many as segmentation
from tasnb.store import shards

NOTHING = {"pred_iou_thresh": 1.0, "stability_score_thresh": 1.0}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Settings with a store of their own, filled by the first test that needs it."""
    return {**QUICK, "store": str(tmp_path_factory.mktemp("store"))}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, quick: dict) -> Callable[..., int]:
    """``tasnb segment`` with the quick settings."""
    profile = {**tasnb_settings.PROFILES["embedded"], **quick}
    monkeypatch.setitem(tasnb_settings.PROFILES, "embedded", profile)
    return lambda *arguments: main(["segment", *map(str, arguments)])


def results(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results.csv", keep_default_na=False, dtype=str)


def records(folder: Path) -> list[dict]:
    return json.loads((folder / "masks.json").read_text(encoding="utf-8"))


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_list(
    tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Same names in two folders, a rotated and a grey picture, rows that fail, all the files."""
    for place in ("eins", "zwei ü"):
        (tmp_path / place).mkdir()
    picture = Image.open(PICTURES[0]).convert("RGB")
    picture.save(tmp_path / "eins" / "ein Bär.png")
    Image.open(PICTURES[1]).convert("L").save(tmp_path / "zwei ü" / "ein Bär.png")
    turned = picture.resize((160, 90))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.png").write_bytes((tmp_path / "eins" / "ein Bär.png").read_bytes()[:300])
    text = (
        "image,expression,caption,note\n"
        'eins/ein Bär.png,the left one,mine,"a, b"\n'
        "zwei ü/ein Bär.png,the right one,,\n"
        "broken.png,the dog,,\n"
        f"{'x' * 400}.png,the dog,,\n"
        "turned.jpg,  ,,\n"
        "turned.jpg,the dog,,\n"
        "turned.jpg,the dog,a,b,c\n"
    )
    out = tmp_path / "new" / "out"
    assert command(written(tmp_path, text, "utf-8-sig"), "--out", out) == 1
    captured = capsys.readouterr()
    assert captured.out == f"masks: 3 of 7 rows; see {out}/results.csv\n"
    last = captured.err.splitlines()[-1]
    assert last == f"tasnb: 4 of 7 rows failed; see the column error in {out}/results.csv"

    table = results(out)
    assert list(table.columns) == [
        "image", "expression", "given_caption", "note", "mask", "overlay", "height", "width",
        "area", "share", "score", "mask_id", "caption", "masks", "error",
    ]  # fmt: skip
    assert table["given_caption"][0] == "mine" and table["note"][0] == "a, b"
    assert (table["error"] == "").tolist() == [True, True, False, False, False, True, False]
    failed = table[table["error"] != ""]
    assert (failed[["mask", "overlay", "score", "area"]] == "").all(axis=None)
    assert "truncated or damaged" in table["error"][2]
    assert "expression is blank" in table["error"][4] and "more cells" in table["error"][6]
    done = table[table["error"] == ""]
    assert done["mask"].tolist() == ["0001_ein Bär.png", "0002_ein Bär.png", "0006_turned.png"]
    files = {*done["mask"], *done["overlay"], "masks.json", "results.csv"}
    assert set(os.listdir(out)) == files

    kept = records(out)
    assert [record["row"] for record in kept] == [1, 2, 6]
    assert kept[0]["image"] == "eins/ein Bär.png"
    assert kept[2]["size"] == [160, 90]
    for (_, row), record in zip(done.iterrows(), kept, strict=True):
        mask = Image.open(out / row["mask"])
        assert mask.mode == "L" and [*mask.size[::-1]] == record["size"]
        pixels = np.asarray(mask)
        assert set(np.unique(pixels)) == {0, 255}
        np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]) * 255, pixels)
        ys, xs = np.nonzero(pixels)
        box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert record["bbox"] == box and record["area"] == len(xs) == int(row["area"])
        assert Image.open(out / row["overlay"]).size == mask.size
        assert (record["caption"], str(record["mask_id"])) == (row["caption"], row["mask_id"])
        assert record["score"] == pytest.approx(float(row["score"]), abs=1e-6)
        assert float(row["share"]) == pytest.approx(len(xs) / pixels.size, abs=1e-6)

    # its own table is a list too
    assert command(out / "results.csv", "--out", tmp_path / "again") == 1


def test_a_folder_and_several_expressions(
    tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in PICTURES[:2]:
        (pictures / path.name).write_bytes(path.read_bytes())
    (pictures / "notes.txt").write_text("no picture")
    out = tmp_path / "out"
    assert command(pictures, "the left one", "--out", out, "the dog") == 0
    captured = capsys.readouterr()
    assert captured.out == (
        f"skipped files in {pictures} that are not pictures: 1\n"
        f"masks: 4 of 4 rows; see {out}/results.csv\n"
    )
    table = results(out)
    assert table["image"].tolist() == [p.name for p in PICTURES[:2] for _ in range(2)]
    assert table["expression"].tolist() == ["the left one", "the dog"] * 2
    assert (table["error"] == "").all()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_damaged_picture_is_one_row_of_a_folder(
    tmp_path: Path, command: Callable[..., int]
) -> None:
    """Its decoder raises a RuntimeError."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.jpg").write_bytes(PICTURES[0].read_bytes())
    Image.open(PICTURES[0]).save(pictures / "b.avif")
    content = (pictures / "b.avif").read_bytes()
    (pictures / "b.avif").write_bytes(content.replace(b"iloc", b"free"))
    assert command(pictures, "the left one", "--out", tmp_path / "out") == 1
    table = results(tmp_path / "out")
    assert table["mask"].tolist() == ["0001_a.png", ""]
    assert "b.avif is truncated or damaged" in table["error"][1]


def test_a_byte_that_is_no_utf8(
    tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """As Python hands it on from a shell of another encoding."""
    text = os.fsdecode(b"left \xff cat")
    assert command(PICTURES[0], text, "--out", tmp_path / "o.png") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("tasnb: the expression ") and captured.err.count("\n") == 1
    assert command(PICTURES[0], text, "the left one", "--out", tmp_path / "out") == 1
    assert (results(tmp_path / "out")["error"] != "").tolist() == [True, False]


def test_one_picture_to_a_folder(tmp_path: Path, command: Callable[..., int]) -> None:
    assert command(PICTURES[0], "the left one", "--out", f"{tmp_path}/out/") == 0
    assert results(tmp_path / "out")["mask"].tolist() == ["0001_000001.png"]


def test_no_proposals(
    tmp_path: Path, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = {**tasnb_settings.PROFILES["embedded"], **NOTHING}
    monkeypatch.setitem(tasnb_settings.PROFILES, "embedded", profile)
    assert command(PICTURES[0], "a", "b", "--out", tmp_path / "out") == 0
    for record in records(tmp_path / "out"):
        assert (record["score"], record["mask_id"], record["area"]) == (None, -1, 0)
        assert not coco_mask.decode(record["segmentation"]).any()
    assert results(tmp_path / "out")["score"].tolist() == ["", ""]


def test_mask_and_rle_of_one_picture(
    tmp_path: Path, command: Callable[..., int], quick: dict
) -> None:
    """With options between the picture and its expression, and a setting by name."""
    files = {"--out": "o.png", "--mask": "m.png", "--rle": "new/r.json"}
    options = [word for name, file in files.items() for word in (name, tmp_path / file)]
    assert command(PICTURES[0], *options, "-p", "alpha", "5", "the dog") == 0
    wanted = tasnb.segment(PICTURES[0], "the dog", alpha=5.0, **quick)
    mask = Image.open(tmp_path / "m.png")
    np.testing.assert_array_equal(np.asarray(mask), wanted.mask * np.uint8(255))
    (record,) = json.loads((tmp_path / "new" / "r.json").read_text())
    np.testing.assert_array_equal(coco_mask.decode(record["segmentation"]), wanted.mask)
    chosen = wanted.frame[wanted.frame["chosen"]].iloc[0]
    assert record["score"] == pytest.approx(chosen["S"])
    assert record["image"] == str(PICTURES[0]) and record["expression"] == "the dog"


def test_very_long_names(tmp_path: Path, command: Callable[..., int]) -> None:
    path = tmp_path / f"{'ü' * 120}.jpg"
    path.write_bytes(PICTURES[0].read_bytes())
    assert command(path, "the left one", "--out", f"{tmp_path}/out/") == 0
    (name,) = results(tmp_path / "out")["mask"]
    assert name == f"0001_{'ü' * 90}.png" and (tmp_path / "out" / name).is_file()


def test_a_killed_run_goes_on(
    quick: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was finished before an interrupt is not computed again, and no half file is left."""
    own = {**quick, "store": str(tmp_path / "store")}
    monkeypatch.setitem(
        tasnb_settings.PROFILES, "embedded", {**tasnb_settings.PROFILES["embedded"], **own}
    )
    rows = "".join(f"{path},the left one\n" for path in PICTURES[:2])
    arguments = ["segment", str(written(tmp_path, f"image,expression\n{rows}"))]
    arguments += ["--out", str(tmp_path / "out")]
    monkeypatch.setattr(segmentation, "_PIXELS", 1)  # one picture at a time
    whole, made = shards.Stage._write, []

    def interrupted(stage: shards.Stage, keys: list[str], *more: object) -> None:
        if stage.name == "proposals" and made:
            raise KeyboardInterrupt
        made.append(stage.name)
        whole(stage, keys, *more)

    monkeypatch.setattr(shards.Stage, "_write", interrupted)
    assert main(arguments) == 130
    assert sorted(os.listdir(tmp_path / "out")) == ["0001_000001.png", "0001_000001_overlay.jpg"]
    first = list(made)
    made.clear()

    def noted(stage: shards.Stage, keys: list[str], *more: object) -> None:
        made.append(stage.name)
        whole(stage, keys, *more)

    monkeypatch.setattr(shards.Stage, "_write", noted)
    assert main(arguments) == 0
    assert made.count("proposals") == 1 and len(made) <= len(first)
    assert len(records(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "cannot read none.csv: No such file or directory"),
        (["list.csv", "the dog"], "list.csv contains the expressions; leave out 'the dog'"),
        (["pictures"], "the following arguments are required: EXPRESSION"),
        (["empty", "cat"], "empty contains no pictures"),
        (["pictures", "cat", "--out", "x.png"], "--out x.png: several answers need a folder"),
        (["pictures", "cat", "--out", "pictures"], "--out pictures: that would overwrite"),
        (["results.csv", "--out", "."], "--out .: that would overwrite results.csv"),
        (["list.csv", "--mask", "m.png"], "--mask works for a single picture"),
        (["list.csv", "--out", "list.csv/x"], "cannot write list.csv/x"),
        (["list.csv", "--profile", "papre"], "unknown profile 'papre'"),
        (["list.csv", "-p", "alpah", "1"], "unknown setting 'alpah': did you mean 'alpha'"),
        (["list.csv", "-p", "alpha", "x"], "alpha = 'x': should be a valid number"),
        (["pictures/p.png", "cat", "--mask", "m.jpg"], "--mask m.jpg: the file's name should end"),
        (["pictures/p.png", "cat", "--rle", "m.png"], "--rle m.png: the file's name should end"),
        (
            ["pictures/p.png", "cat", "--mask", "overlay.png"],
            "--mask overlay.png: the overlay",
        ),
        (["list.csv", "--nonsense", "1"], "unrecognized arguments: --nonsense 1"),
    ],
)
def test_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "pictures"):
        Path(name).mkdir()
    Image.new("L", (8, 6)).save("pictures/p.png")
    for name in ("list.csv", "results.csv"):
        Path(name).write_text("image,expression\npictures/p.png,the cat\n")
    assert main(["segment", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"tasnb: {message}") and captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(os.listdir()) == ["empty", "list.csv", "pictures", "results.csv"]
    assert os.listdir("pictures") == ["p.png"]
