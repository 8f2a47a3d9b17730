"""Lists of pictures and expressions: CSV files and folders."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from tasnb.cli.arguments import main
from tasnb.cli.picture_lists import Row, read_folder, read_list
from tasnb.settings import InputError


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding))
    return path


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
    assert many.error == "line 2 has more cells than the header; quote cells that contain commas"
    assert blank.error == "the image is blank; name a picture file"
    assert (short.expression, short.error, short.extra) == ("", "", {})


def test_spaces_after_a_comma(tmp_path: Path) -> None:
    """What follows is a quoted cell all the same, with commas in it, too."""
    text = 'image, expression, id\na.png, "the cat", 7\n b.png, "the cat, left",  8\nc.png,  cat,\n'
    rows = read_list(written(tmp_path, text))
    assert [(row.image, row.expression, row.extra["id"]) for row in rows] == [
        ("a.png", "the cat", "7"),
        ("b.png", "the cat, left", "8"),
        ("c.png", "cat", ""),
    ]
    assert not any(row.error for row in rows)


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
        (b'image,expression\na.png,"cat\n', "line 2 is not valid CSV"),
        (b"image,expression\na.png," + b"x" * 200_000, "line 2 is not valid CSV"),
    ],
)
def test_bad_lists(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    message: str,
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    assert main(["segment", str(path), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert os.listdir(tmp_path) == ["list.csv"]


def dds_of_no_kind() -> bytes:
    """A picture that Pillow knows and has no decoder for, which it says by an error of its own."""
    file = io.BytesIO()
    Image.new("RGB", (4, 3)).save(file, "dds")
    content = bytearray(file.getvalue())
    content[80], content[84:88] = 4, b"NONE"
    return bytes(content)


def test_folders(tmp_path: Path) -> None:
    for name in ("b.PNG", "a b.jpg", "no suffix"):
        Image.new("L", (4, 3)).save(tmp_path / name, "png")
    (tmp_path / "broken.jpg").write_text("no picture")
    (tmp_path / "damaged").write_bytes(dds_of_no_kind())
    for name in ("notes.txt", ".hidden.png", "list.csv"):
        (tmp_path / name).write_text("no picture")
    (tmp_path / "inside.png").mkdir()
    rows, left_out = read_folder(tmp_path, ["the dog", "the cat"])
    names = ["a b.jpg", "b.PNG", "broken.jpg", "damaged", "no suffix"]
    assert [row.image for row in rows] == [name for name in names for _ in range(2)]
    assert [row.expression for row in rows] == ["the dog", "the cat"] * 5
    assert left_out == 3
    with pytest.raises(InputError, match="contains no pictures; "):
        read_folder(tmp_path / "inside.png", ["the dog"])
