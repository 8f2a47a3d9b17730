"""Archives are unpacked whole or not at all, and never out of their folder."""

from __future__ import annotations

import io
import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from loopback import (
    MEMBERS,
    Site,
    Usage,
    all_files,
    get,
    sha256,
    table,
)

from tasnb.fetch import archives
from tasnb.fetch.sources import File, Item, Sources
from tasnb.settings import InputError


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


REFS = {"set/instances.json": b"{}", "set/refs(unc).p": b"refs", "set/more": b"x", "README": b"y"}
FIELDS = {"path": "set/", "archive": "set.zip", "unpack": "zip", "inside": "set/"}


def test_archive(site: Site, tmp_path: Path) -> None:
    """Only the wanted members, and no archive afterwards."""
    content = zipped(**REFS)
    found = table(site.put("z", content), **FIELDS, members=MEMBERS, sha256=sha256(content))
    assert get(tmp_path, found) == [f"a: {tmp_path}/set"]
    wanted = ["set/.set.zip.unpacked", "set/instances.json", "set/refs(unc).p"]
    assert all_files(tmp_path) == wanted
    assert (tmp_path / "set/refs(unc).p").read_bytes() == b"refs"
    assert get(tmp_path, found) == [f"a: {tmp_path}/set (already there)"]
    (tmp_path / "set/.set.zip.unpacked").unlink()  # as if put there by hand
    assert get(tmp_path, found)[0].endswith("(already there)")
    (tmp_path / "set/refs(unc).p").unlink()
    (tmp_path / "set/instances.json").write_text("the user's own")
    assert found.items[0].state(tmp_path) == "partial"
    get(tmp_path, found)
    assert all_files(tmp_path) == wanted
    assert (tmp_path / "set/instances.json").read_text() == "the user's own"
    assert len(site.asked) == 2


def test_two_archives_into_one_folder(site: Site, tmp_path: Path) -> None:
    first = zipped(**{"A/1.jpg": b"1", "A/2.jpg": b"2"})
    second = zipped(**{"B/3.jpg": b"3"})
    common = {"path": "images/", "unpack": "zip", "count": 3}
    files = (
        File(urls=(site.put("1", first),), archive="1.zip", inside="A/", **common),
        File(urls=(site.put("2", second),), archive="2.zip", inside="B/", **common),
    )
    found = Sources(items=(Item(name="a", what="A.", files=files),))
    get(tmp_path, found)
    pictures = [f"images/{name}.jpg" for name in (1, 2, 3)]
    assert [name for name in all_files(tmp_path) if name.endswith("jpg")] == pictures
    assert found.items[0].state(tmp_path) == "complete"
    (tmp_path / "images/.2.zip.unpacked").unlink()
    (tmp_path / "images/3.jpg").unlink()
    assert found.items[0].state(tmp_path) == "partial"
    get(tmp_path, found)
    assert [path for path, _, _ in site.asked] == ["/1", "/2", "/2"]
    for mark in (tmp_path / "images").glob(".*"):
        mark.unlink()
    assert found.items[0].state(tmp_path) == "complete"  # by their number


def test_archive_by_hand(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked without a network."""
    content = zipped(**REFS)
    found = table(site.put("z", content), **FIELDS, members=MEMBERS, bytes=len(content))
    (tmp_path / "set.zip").write_bytes(content)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    get(tmp_path, found)
    assert "set/instances.json" in all_files(tmp_path) and not (tmp_path / "set.zip").exists()
    assert not site.asked


def test_wrong_archive_by_hand(site: Site, tmp_path: Path) -> None:
    """Neither unpacked nor removed."""
    content, other = zipped(**REFS), zipped(**REFS, more=b"x")
    (tmp_path / "set.zip").write_bytes(other)
    known = {"members": MEMBERS, "sha256": sha256(content)}
    with pytest.raises(InputError, match=rf"{sha256(other)} instead of {sha256(content)}: remove"):
        get(tmp_path, table(site.put("z", content), **FIELDS, **known))
    assert all_files(tmp_path) == ["set.zip"] and not site.asked


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/x", "plain relative path"),
        ("set//tmp/x", "plain relative path"),
        ("set/aNULb", "plain relative path"),
        ("set/../../x", "points outside"),
        ("..", "points outside"),
        ("set\\..\\x", "plain relative path"),
        ("C:/x", "plain relative path"),
        (link("set/link"), "a link"),
    ],
)
def test_archive_that_escapes(tmp_path: Path, name: str | zipfile.ZipInfo, reason: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/good", b"good")
        archive.writestr(name, b"/etc/passwd")
    path.write_bytes(path.read_bytes().replace(b"NUL", bytes(3)))
    with pytest.raises(InputError, match=rf"is not unpacked: member .* {reason}.*; remove it"):
        archives.unpack(path, folder / "set", "set/")
    assert all_files(tmp_path) == ["data/set.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archive_with_a_member_twice(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/a", b"1")
        archive.writestr("set/a", b"2")
    with pytest.raises(InputError, match="is not unpacked: it contains 'set/a' twice"):
        archives.unpack(path, tmp_path / "set", "set/")


def test_archive_that_swells(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    path.write_bytes(zipped(**{"set/zeros": bytes(10**7)}))
    with pytest.raises(InputError, match=r"is not unpacked: its 10 kB would expand to 10 MB"):
        archives.unpack(path, tmp_path / "set", "set/")
    # One that says less than it holds: no more than that is ever written.
    content = bytearray(zipped(**{"set/zeros": bytes(10**7)}))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(mark) + offset
        content[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be unpacked \(Bad CRC.*remove it"):
        archives.unpack(path, tmp_path / "set", "set/")
    assert all_files(tmp_path) == ["set.zip"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no archive", "cannot be unpacked"),
        (zipped(**REFS)[:-30], "cannot be unpacked"),
        (
            zipped(**{"set/instances.json": b"{}"}),
            r"has no set/refs\(unc\).p: this is the wrong archive",
        ),
        (zipped(), r"has no set/instances.json"),
    ],
)
def test_archive_that_is_none(site: Site, tmp_path: Path, content: bytes, reason: str) -> None:
    found = table(site.put("z", content), **FIELDS, members=MEMBERS)
    with pytest.raises(InputError, match=reason) as error:
        get(tmp_path, found)
    assert f"{tmp_path}/set.zip" in str(error.value) and "remove it" in str(error.value)
    assert all_files(tmp_path) == ["set.zip"]


def test_damaged_member(tmp_path: Path) -> None:
    """The first member is fine; nothing of it stays."""
    noise = os.urandom(5000)
    content = zipped(**{"set/a": b"fine", "set/b": noise})
    at = content.index(noise[:100])
    path = tmp_path / "set.zip"
    path.write_bytes(content[:at] + b"xxxx" + content[at + 4 :])
    with pytest.raises(InputError, match=r"cannot be unpacked \(Bad CRC"):
        archives.unpack(path, tmp_path / "set", "set/")
    assert all_files(tmp_path) == ["set.zip"] and not (tmp_path / "set").exists()


def test_no_room_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.zip"
    path.write_bytes(zipped(**{"set/a": os.urandom(102_400)}))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, 1000))
    with pytest.raises(InputError, match=r"unpacking set.zip needs 102 kB, but only 1 kB is free"):
        archives.unpack(path, tmp_path / "set", "set/")
    assert all_files(tmp_path) == ["set.zip"]


def test_leftovers_of_a_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    path.write_bytes(zipped(**REFS))
    old = tmp_path / "set.unpacking-set.zip"
    old.mkdir()
    (old / "instances.json").write_text("half")
    archives.unpack(path, tmp_path / "set", "set/")
    assert (tmp_path / "set/instances.json").read_bytes() == b"{}" and not old.exists()
