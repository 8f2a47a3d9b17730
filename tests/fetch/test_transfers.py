"""Files from a server that cuts, delays, changes them and lies."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from loopback import (
    DATA,
    OTHER,
    Handler,
    Site,
    all_files,
    chunked,
    cut,
    etag,
    get,
    says,
    serve,
    sha256,
    stalls,
    table,
    without_range,
)

from tasnb.fetch import download
from tasnb.fetch.transfers import Patience
from tasnb.settings import InputError


@pytest.mark.parametrize("known", [{}, {"bytes": len(DATA)}, {"sha256": sha256(DATA)}])
def test_plain(site: Site, tmp_path: Path, known: dict[str, Any]) -> None:
    found = table(site.put("a", DATA), **known)
    assert get(tmp_path, found) == [f"a: {tmp_path}/checkpoints/a.bin"]
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert all_files(tmp_path) == ["checkpoints/a.bin"]
    assert get(tmp_path, found) == [f"a: {tmp_path}/checkpoints/a.bin (already there)"]
    assert site.asked == [("/a", None, None)]


@pytest.mark.parametrize("known", [{}, {"sha256": sha256(DATA)}])
def test_cut_transfers_go_on(site: Site, tmp_path: Path, known: dict[str, Any]) -> None:
    """Four cuts with three tries: every one got further."""
    cuts = [cut(20_000)] * 4
    get(tmp_path, table(site.put("a", DATA, *cuts), **known))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    ranges = [None, *(f"bytes={n}-" for n in (20_000, 40_000, 60_000, 80_000))]
    assert [asked for _, asked, _ in site.asked] == ranges
    assert {only_if for _, _, only_if in site.asked[1:]} == {etag(DATA)}
    assert all_files(tmp_path) == ["checkpoints/a.bin"]


def test_tries_end(site: Site, tmp_path: Path) -> None:
    """Tries that get no further are few; the part stays for another day."""
    found = table(site.put("a", DATA, cut(500), *[cut(0)] * 9))
    with pytest.raises(InputError) as error:
        get(tmp_path, found)
    assert len(site.asked) == 1 + 2
    path = tmp_path / "checkpoints/a.bin"
    assert str(error.value) == (
        f"cannot download a: tried {site.address}a (the transfer broke off after 500 of 102400 "
        f"bytes); try again later, or get the file elsewhere and save it as {path}"
    )
    assert all_files(tmp_path) == ["checkpoints/a.bin.part", "checkpoints/a.bin.part.json"]
    assert found.items[0].state(tmp_path) == "partial"
    site.steps["/a"] = []
    get(tmp_path, found)
    assert site.asked[-1] == ("/a", "bytes=500-", etag(DATA))
    assert path.read_bytes() == DATA


def test_nothing_ever_came(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="broke off after 0 of 102400 bytes"):
        get(tmp_path, table(site.put("a", DATA, *[cut(0)] * 9)))
    assert all_files(tmp_path) == []


def test_waits_double(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tasnb.fetch.transfers.time.sleep", waits.append)
    found = table(site.put("a", DATA, *[says(503)] * 4))
    get(tmp_path, found, Patience(tries=5, wait=1.5))
    assert waits == [1.5, 3.0, 6.0, 12.0]


def test_stalled(site: Site, tmp_path: Path) -> None:
    get(tmp_path, table(site.put("a", DATA, stalls)))
    assert [asked for _, asked, _ in site.asked] == [None, "bytes=1000-"]
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA


def test_changed_meanwhile(site: Site, tmp_path: Path) -> None:
    """The file changes between two tries: nothing of the first is in the result."""

    def cut_and_change(handler: Handler, content: bytes) -> None:
        handler.site.files["/a"] = OTHER
        serve(handler, content, 20_000)

    get(tmp_path, table(site.put("a", DATA, cut_and_change)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == OTHER
    assert site.asked[1] == ("/a", "bytes=20000-", etag(DATA))


def test_range_of_another_version(site: Site, tmp_path: Path) -> None:
    """A server that ignores If-Range and resumes with the changed file is not believed."""

    def goes_on(handler: Handler, content: bytes) -> None:
        handler.site.files["/a"] = OTHER
        span = f"bytes 20000-{len(OTHER) - 1}/{len(OTHER)}"
        handler.answer(206, OTHER[20_000:], Content_Range=span, ETag=etag(OTHER))

    site.put("a", DATA, cut(20_000), goes_on)
    get(tmp_path, table(site.address + "a"))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == OTHER
    assert [asked for _, asked, _ in site.asked] == [None, "bytes=20000-", None]


def test_range_ignored(site: Site, tmp_path: Path) -> None:
    get(tmp_path, table(site.put("a", DATA, cut(20_000), without_range)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert len(site.asked) == 2


@pytest.mark.parametrize(
    "span", ["bytes 19999-102398/102400", "bytes 20000-102399/102401", "bytes 20000-30000/*", ""]
)
def test_wrong_content_range(site: Site, tmp_path: Path, span: str) -> None:
    def wrong(handler: Handler, content: bytes) -> None:
        handler.answer(206, content[20_000:], Content_Range=span, ETag=etag(content))

    get(tmp_path, table(site.put("a", DATA, cut(20_000), wrong)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert [asked for _, asked, _ in site.asked] == [None, "bytes=20000-", None]


def test_range_of_a_longer_file(site: Site, tmp_path: Path) -> None:
    """Without an ETag in the answer, another size tells that the file has changed."""

    def longer(handler: Handler, content: bytes) -> None:
        span = f"bytes 20000-{len(content)}/{len(content) + 1}"
        handler.answer(206, OTHER[20_000:] + b"x", Content_Range=span)

    get(tmp_path, table(site.put("a", DATA, cut(20_000), longer)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert len(site.asked) == 3


@pytest.mark.parametrize("date", ["Sat, 21 Nov 2026 10:00:00 GMT", None])
def test_weak_etag(site: Site, tmp_path: Path, date: str | None) -> None:
    """A weak one does not tell bytes apart; the date of the file does, well enough."""

    def weak(handler: Handler, content: bytes) -> None:
        handler.answer(
            200, content[:500], Content_Length=len(content), ETag='W/"1"', Last_Modified=date
        )

    get(tmp_path, table(site.put("a", DATA, weak)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert site.asked[1] == ("/a", date and "bytes=500-", date)


def test_no_etag(site: Site, tmp_path: Path) -> None:
    """Without anything that names the version a part is worth nothing, unless a digest decides."""

    def bare(handler: Handler, content: bytes) -> None:
        handler.answer(200, content[:20_000], Content_Length=len(content))

    get(tmp_path, table(site.put("a", DATA, bare)))
    get(tmp_path, table(site.put("b", DATA, bare), path="b", sha256=sha256(DATA)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert (tmp_path / "b").read_bytes() == DATA
    assert [asked for _, asked, _ in site.asked] == [None, None, None, "bytes=20000-"]


def test_part_of_another_mirror(site: Site, tmp_path: Path) -> None:
    """Taken over with a digest, not without."""
    for name, known, ranged in (("a", {}, None), ("b", {"sha256": sha256(DATA)}, "bytes=500-")):
        first = site.put(f"1{name}", DATA, cut(500), *[cut(0)] * 2)
        second = site.put(f"2{name}", DATA)
        get(tmp_path, table(first, second, path=name, **known))
        assert (tmp_path / name).read_bytes() == DATA
        assert site.asked[-1] == (f"/2{name}", ranged, None)


def test_spoilt_part(site: Site, tmp_path: Path) -> None:
    """A part with other bytes than the file's costs one more transfer, not the mirror."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/a.bin.part").write_bytes(OTHER[:20_000])
    get(tmp_path, table(site.put("a", DATA), sha256=sha256(DATA)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert [asked for _, asked, _ in site.asked] == ["bytes=20000-", None]


@pytest.mark.parametrize("known", [{}, {"sha256": sha256(DATA)}])
@pytest.mark.parametrize("surplus", [0, 100])
def test_part_that_is_complete(
    site: Site, tmp_path: Path, surplus: int, known: dict[str, Any]
) -> None:
    """Killed before the part got its name; or it is larger than the file is by now."""
    url = site.put("a", DATA)
    (tmp_path / "checkpoints").mkdir()
    part = tmp_path / "checkpoints/a.bin.part"
    part.write_bytes(DATA + bytes(surplus))
    note = {"url": url, "version": etag(DATA), "total": len(DATA)}
    part.with_name(part.name + ".json").write_text(json.dumps(note))
    get(tmp_path, table(url, **known))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert len(site.asked) == (2 if surplus else 1)
    assert all_files(tmp_path) == ["checkpoints/a.bin"]


def test_complete_part_of_another_version(site: Site, tmp_path: Path) -> None:
    """Of the same size, and the server says only that nothing is left to send."""
    over = says(416, Content_Range=f"bytes */{len(DATA)}", ETag=etag(OTHER))
    url = site.put("a", OTHER, over)
    (tmp_path / "checkpoints").mkdir()
    part = tmp_path / "checkpoints/a.bin.part"
    part.write_bytes(DATA)
    note = {"url": url, "version": etag(DATA), "total": len(DATA)}
    part.with_name(part.name + ".json").write_text(json.dumps(note))
    get(tmp_path, table(url))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == OTHER


def test_damaged_note(site: Site, tmp_path: Path) -> None:
    found = table(site.put("a", DATA, cut(500), *[cut(0)] * 2))
    with pytest.raises(InputError):
        get(tmp_path, found)
    (tmp_path / "checkpoints/a.bin.part.json").write_text("[")
    get(tmp_path, found)
    assert site.asked[-1][1] is None
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA


def test_wrong_digest(site: Site, tmp_path: Path) -> None:
    """The next mirror is asked; if none is right, nothing stays."""
    wrong, right = site.put("1", OTHER), site.put("2", DATA)
    get(tmp_path, table(wrong, right, sha256=sha256(DATA)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert [path for path, _, _ in site.asked] == ["/1", "/2"]
    assert site.asked[1][1] is None

    with pytest.raises(InputError) as error:
        get(tmp_path / "new", table(wrong, sha256=sha256(DATA)))
    assert sha256(DATA) in str(error.value) and sha256(OTHER) in str(error.value)
    assert all_files(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (says(404), "404 Not Found"),
        (says(403), "403 Forbidden"),
        (says(200, b"<html>", Content_Type="text/html; charset=utf-8"), "sent a web page"),
        (says(200, DATA[1:]), "has 102399 bytes instead of 102400"),
        (says(200, DATA + b"x"), "has 102401 bytes instead of 102400"),
        (says(200, DATA, Content_Length=102_401), "has 102401 bytes instead of 102400"),
        (says(200, DATA, Content_Length=102_399), "has 102399 bytes instead of 102400"),
        (says(200, DATA, Content_Encoding="gzip"), "sent the file encoded as gzip"),
        (says(204, Content_Length=None), "unexpected status 204"),
        (says(302, Location="file:///etc/hostname"), "302 Found - Redirection to url"),
        (
            says(302, Location="ftp://127.0.0.1/a"),
            "redirects to the insecure address ftp://127.0.0.1/a",
        ),
        (lambda handler, content: chunked(handler, content + b"x"), "sent more than 102400 by"),
    ],
)
def test_wrong_answers(site: Site, tmp_path: Path, step: Any, reason: str) -> None:
    """Each is asked once, then the next mirror."""
    first, second = site.put("1", DATA, step), site.put("2", DATA)
    get(tmp_path, table(first, second, bytes=len(DATA)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert [path for path, _, _ in site.asked] == ["/1", "/2"]
    site.steps["/1"] = [step]
    with pytest.raises(InputError) as error:
        get(tmp_path / "new", table(first, bytes=len(DATA)))
    assert f"({reason}" in str(error.value) and "\n" not in str(error.value)
    assert all_files(tmp_path / "new") == []


def test_length_that_lies(site: Site, tmp_path: Path) -> None:
    """With nothing else known, a body shorter than was said never passes for the file."""
    lie = says(200, DATA, Content_Length=len(DATA) + 1)
    with pytest.raises(InputError, match=r"broke off after 102400 of 102401 bytes"):
        get(tmp_path, table(site.put("a", DATA, *[lie] * 9)))
    assert not (tmp_path / "checkpoints/a.bin").exists()
    # A length too short cuts the file; its digest tells.
    lie = says(200, DATA, Content_Length=len(DATA) - 1)
    with pytest.raises(InputError, match="SHA-256"):
        get(tmp_path, table(site.put("b", DATA, *[lie] * 9), path="b", sha256=sha256(DATA)))
    assert not (tmp_path / "b").exists()


def test_no_length(site: Site, tmp_path: Path) -> None:
    """Chunks end visibly; a body that just ends may have been cut."""
    get(tmp_path, table(site.put("a", DATA, chunked)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    endless = says(200, DATA, Content_Length=None)
    with pytest.raises(InputError, match="does not state the size of the file"):
        get(tmp_path, table(site.put("b", DATA, endless), path="b"))
    get(tmp_path, table(site.put("c", DATA, endless), path="c", bytes=len(DATA)))
    assert (tmp_path / "c").read_bytes() == DATA
    short = [lambda handler, content: chunked(handler, content[1:])] * 9
    with pytest.raises(InputError, match="broke off after 102399 of 102400 bytes"):
        get(tmp_path, table(site.put("d", DATA, *short), path="d", bytes=len(DATA)))


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_errors(site: Site, tmp_path: Path, status: int) -> None:
    get(tmp_path, table(site.put("a", DATA, says(status), says(status))))
    assert len(site.asked) == 3


def test_redirect(site: Site, tmp_path: Path) -> None:
    """The Range goes along."""
    url = site.put("a", b"", *[says(302, Location=site.put("b", DATA, cut(20_000)))] * 2)
    get(tmp_path, table(url))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert site.asked[-1] == ("/b", "bytes=20000-", etag(DATA))


def test_redirects_that_are_not_followed(site: Site, tmp_path: Path) -> None:
    again = [says(302, Location="/a")] * 99
    with pytest.raises(InputError, match=r"\(302 .* infinite loop") as error:
        get(tmp_path, table(site.put("a", DATA, *again)))
    assert "\n" not in str(error.value)
    secure = urllib.request.Request("https://localhost/a")
    with pytest.raises(
        download.Failed, match=r"redirects to the insecure address http://localhost/b"
    ):
        download._Redirects().redirect_request(secure, None, 302, "", {}, "http://localhost/b")


def test_no_server(tmp_path: Path, site: Site) -> None:
    nobody = "http://127.0.0.1:9/a"
    with pytest.raises(InputError, match=r"tried http://127.0.0.1:9/a \(.*refused\)"):
        get(tmp_path, table(nobody))
    get(tmp_path, table(nobody, site.put("a", DATA)))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA


def test_bar(site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    get(tmp_path, table(site.put("a", DATA), sha256=sha256(DATA)))
    err = capfd.readouterr().err
    assert re.search(r"a: 100%.* 102k/102k ", err) and "a, checking: 100%" in err
