"""Many pictures and expressions: through the embedded models at once, from lists and to folders."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import tasnb
from tasnb import segmentation
from tasnb import settings as tasnb_settings
from tasnb.cli.arguments import main
from tasnb.cli.picture_lists import Row, read_folder, read_list
from tasnb.datasets.images import load_image
from tasnb.segmentation import COLUMNS
from tasnb.settings import ROOT, InputError
from tasnb.store import shards

PICTURES = sorted((ROOT / "data" / "embedded" / "images").glob("*.jpg"))[:4]
# A few proposals of any quality and short captions: what they say does not matter here.
QUICK = {
    "points_per_side": 3,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "num_beams": 1,
    "max_new_tokens": 6,
}
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


# --- answers


def test_many_are_as_one_by_one(quick: dict, tmp_path: Path) -> None:
    """Other pictures, other expressions, one picture twice, and one without proposals."""
    plain = np.full((40, 50), 128, np.uint8)
    texts = ["the left one", " the dog ", "the red one on the right", "the left one"]
    pairs = [*zip(PICTURES[:3], texts, strict=False), (plain, "the cat"), (PICTURES[0], texts[1])]
    many = list(tasnb.segment_many(pairs, **quick))
    assert len(many) == len(pairs)
    own = {**quick, "store": str(tmp_path)}
    for (image, text), found in zip(pairs, many, strict=True):
        one = tasnb.segment(image, text, **own)
        assert found.expression == text
        np.testing.assert_array_equal(found.image, one.image)
        np.testing.assert_array_equal(found.mask, one.mask)
        assert list(found.frame.columns) == COLUMNS
        assert found.frame["chosen"].sum() == min(1, len(found.frame))
        numbers = ["V", "P", "N", "S", "center_x", "center_y"]
        np.testing.assert_allclose(
            found.frame[numbers].astype(float), one.frame[numbers].astype(float), atol=1e-5
        )
        same = ["mask_id", "kept", "chosen", "caption"]
        assert found.frame[same].astype(object).equals(one.frame[same].astype(object))
    assert many[0].mask.any() and len(many[0].frame) >= 2
    assert many[3].frame.empty and not many[3].mask.any()


def test_pairs_are_taken_as_they_are_needed(quick: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures' worth at a time; answers of the first come before the third is asked for."""
    monkeypatch.setattr(segmentation, "_PIXELS", 2 * load_image(PICTURES[0])[..., 0].size)
    taken = []

    def pairs() -> Iterator[tuple[Path, str]]:
        for path in PICTURES:
            taken.append(path)
            yield path, "the left one"

    answers = tasnb.segment_many(pairs(), **quick)
    assert taken == []
    for count in (2, 2, 4, 4):
        next(answers)
        assert len(taken) == count
    assert next(answers, None) is None


@pytest.mark.parametrize("limit", [{"_PAIRS": 3}, {"_PIXELS": 1}])
def test_chunks_do_not_show(quick: dict, monkeypatch: pytest.MonkeyPatch, limit: dict) -> None:
    pairs = [(path, text) for path in PICTURES[:3] for text in ("the left one", "the dog")]
    wanted = [answer.mask for answer in tasnb.segment_many(pairs, **quick)]
    for name, value in limit.items():
        monkeypatch.setattr(segmentation, name, value)
    found = [answer.mask for answer in tasnb.segment_many(pairs, **quick)]
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_second_run_computes_nothing(quick: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(path, "the left one") for path in PICTURES[:2]]
    wanted = [answer.frame for answer in tasnb.segment_many(pairs, **quick)]

    def never(*_: object) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(shards.Stage, "_write", never)
    again = [answer.frame for answer in tasnb.segment_many(reversed(pairs), **quick)]
    assert all(a.equals(b) for a, b in zip(again, reversed(wanted), strict=True))


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


def test_errors_are_raised_or_returned(quick: dict) -> None:
    pairs = [(PICTURES[0], "the dog"), ("none.png", "the dog"), (PICTURES[1], " ")]
    answers = tasnb.segment_many(pairs, **quick)
    assert next(answers).mask.any()
    with pytest.raises(InputError, match=r"no image file at none\.png"):
        next(answers)
    _, missing, blank = tasnb.segment_many(pairs, errors="return", **quick)
    assert isinstance(missing, InputError) and "the expression is blank" in str(blank)
    assert list(tasnb.segment_many([], **quick)) == []


def test_wrong_settings_are_said_at_once() -> None:
    for options in ({"alpah": 1}, {"profile": "papre"}, {"errors": "ignore"}):
        with pytest.raises(InputError):
            tasnb.segment_many([], **options)


def test_masks_from_a_file_are_found_by_number(tmp_path: Path) -> None:
    """By the number in the picture's name, never by digits of its digest."""
    pixels = load_image(PICTURES[0])
    Image.fromarray(pixels).save(tmp_path / "photo_17.png")
    mask = np.zeros(pixels.shape[:2], np.uint8, order="F")
    mask[10:60, 20:90] = 1
    rle = coco_mask.encode(mask)
    rle["counts"] = rle["counts"].decode()
    (tmp_path / "m.json").write_text(json.dumps([{"image_id": 17, "segmentation": rle}]))
    own = {**QUICK, "store": str(tmp_path / "s"), "proposal_network": f"file:{tmp_path}/m.json"}
    pairs = [(tmp_path / "photo_17.png", "the dog"), (pixels, "the dog")]
    found, none = tasnb.segment_many(pairs, **own)
    np.testing.assert_array_equal(found.mask, mask.astype(bool))
    assert not none.mask.any()


# --- the lists


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists(tmp_path: Path, encoding: str, separator: str, end: str) -> None:
    lines = [
        ["id", "expression ", "image"],
        ["7", '"the ""left"" cat, or dog; big\t"', "a b.png"],
        [],
        ["8", "Bär\u2028links", "/there/ü.png"],
    ]
    text = end.join(separator.join(line) for line in lines)
    rows = read_list(written(tmp_path, text, encoding))
    assert rows == [
        Row("a b.png", 'the "left" cat, or dog; big\t', tmp_path / "a b.png", {"id": "7"}),
        Row("/there/ü.png", "Bär\u2028links", Path("/there/ü.png"), {"id": "8"}),
    ]


def test_rows_that_cannot_be_asked(tmp_path: Path) -> None:
    text = "image,expression,\na.png,the cat, big,\n,the dog,\nb.png\n"
    many, blank, short = read_list(written(tmp_path, text))
    assert many.error == "line 2 has more cells than the header; put quotes around a comma"
    assert blank.error == "the image is blank; name a picture file"
    assert (short.expression, short.error, short.extra) == ("", "", {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "should have one column 'image'"),
        (b"\n\n", "should have one column 'image'"),
        (b"picture,expression\na.png,cat\n", "should have one column 'image'"),
        (b"image,text\na.png,cat\n", "should have one column 'expression'"),
        (b"image,image,expression\na,b,cat\n", "should have one column 'image'"),
        (b"image,expression\n\n", "has no rows below its header"),
        (b"image,expression\na.png,B\xe4r\n", "is not UTF-8"),
        ("image,expression\na.png,cat\n".encode("utf-16"), "is not UTF-8"),
        (b'image,expression\na.png,"cat\n', "line 2 is no CSV"),
        (b"image,expression\na.png," + b"x" * 200_000, "line 2 is no CSV"),
    ],
)
def test_bad_lists(
    tmp_path: Path,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    message: str,
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    assert command(path, "--out", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert os.listdir(tmp_path) == ["list.csv"]


def test_folders(tmp_path: Path) -> None:
    for name in ("b.PNG", "a b.jpg", "no suffix"):
        Image.new("L", (4, 3)).save(tmp_path / name, "png")
    (tmp_path / "broken.jpg").write_text("no picture")
    for name in ("notes.txt", ".hidden.png", "list.csv"):
        (tmp_path / name).write_text("no picture")
    (tmp_path / "inside.png").mkdir()
    rows, left_out = read_folder(tmp_path, ["the dog", "the cat"])
    names = ["a b.jpg", "b.PNG", "broken.jpg", "no suffix"]
    assert [row.image for row in rows] == [name for name in names for _ in range(2)]
    assert [row.expression for row in rows] == ["the dog", "the cat"] * 4
    assert left_out == 3
    with pytest.raises(InputError, match="has no pictures in it"):
        read_folder(tmp_path / "inside.png", ["the dog"])


# --- the command


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
        "area", "share", "score", "mask_id", "caption", "error",
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "cannot read none.csv: No such file or directory"),
        (["list.csv", "the dog"], "list.csv contains the expressions; leave out 'the dog'"),
        (["pictures"], "the following arguments are required: EXPRESSION"),
        (["empty", "cat"], "empty has no pictures in it"),
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
