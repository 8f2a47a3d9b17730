"""A local server that truncates, delays and misreports, for the tests of ``tasnb.fetch``."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasnb import fetch
from tasnb.fetch.sources import File, Item, Sources
from tasnb.fetch.transfers import Patience

ROOT = Path(__file__).resolve().parents[2]
DATA = bytes(range(256)) * 400  # 102,400 bytes
OTHER = DATA[::-1]
MEMBERS = ("instances.json", "refs(unc).p")
Usage = namedtuple("Usage", "total used free")
SHORT = Patience(tries=3, wait=0.01, timeout=0.15)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Site:
    """A server: `files` by path, and for each path how to answer the next requests.

    `asked` lists the requests: path, Range, If-Range.
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
        """Sends a response; the declared length is that of the body unless another is given."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)


def etag(content: bytes) -> str:
    return f'"{sha256(content)[:8]}"'


def serve(handler: Handler, content: bytes, cut: int | None = None) -> None:
    """Serves a file correctly; with `cut`, at most this many bytes."""
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
    time.sleep(0.19)  # longer than the client waits


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
    """Fetches everything in a table; returns the output."""
    said: list[str] = []
    names = [item.name for item in found.items]
    fetch.fetch(names, to, sources=found, patience=patience, say=said.append)
    return said


def all_files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


CHILD = """
import sys
from pathlib import Path
from tasnb.cli.arguments import main
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
