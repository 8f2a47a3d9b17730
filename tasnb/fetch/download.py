"""One request for a file: its bytes go to a part, anew or from where an earlier one was cut.

A small JSON beside the part says which address and which version of the file (its ETag or date)
the bytes are of. Only with that, or with a digest that is checked in the end, are they gone on
from.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tasnb import __version__
from tasnb.settings import InputError
from tasnb.store.files import atomic_write

BLOCK = 1 << 20
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # a server's errors that may pass


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it comes, and what its bar and its errors call it."""

    name: str
    size: int | None = None
    sha256: str | None = None
    reserve: int = 0  # bytes of the disk that are needed for more than the file itself


class Failed(Exception):
    """An address did not give the file.

    Attributes:
        again: Whether another try at the same address may help.
        spoilt: Whether what has come so far is worthless.
    """

    def __init__(self, reason: str, again: bool = False, spoilt: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        self.spoilt = spoilt


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but to nothing less safe than the address was."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = newurl.partition(":")[0].lower()
        if scheme != "https" and scheme != req.type:
            raise Failed(f"redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def receive(url: str, part: Path, expected: Expected, timeout: float) -> None:
    """One request: goes on with the part or starts it anew, up to the last byte."""
    have, note = size_of(part), _read_note(part)
    if note.get("url") != url:
        note = {}
    if not (note.get("version") or expected.sha256):
        have = 0  # nothing could tell whether the rest is of the same file
    if have and have == expected.size and expected.sha256:
        return  # complete, only not checked yet
    headers = {"User-Agent": f"tasnb/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if note.get("version"):
            headers["If-Range"] = note["version"]
    try:
        request = urllib.request.Request(url, headers=headers)
        opener = urllib.request.build_opener(_Redirects)
        with opener.open(request, timeout=timeout) as response:
            start, total = _agreed(response, have, note, expected)
            check_room(part.parent, (total or start) - start + expected.reserve, expected.name)
            note = {"url": url, "version": _version(response.headers), "total": total}
            _fill(part, response, start, total, note, expected.name)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:
            if error.headers.get("Content-Range") != f"bytes */{have}":
                raise Failed("has fewer bytes than came before", True, spoilt=True) from None
            if not _same(error.headers, note):
                raise Failed("has another file by now", True, spoilt=True) from None
            return  # nothing was left to send
        text = " ".join(f"{error.code} {error.reason}".split())
        raise Failed(text, error.code in _PASSING) from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        text = " ".join(str(cause).split()) or type(cause).__name__
        final = isinstance(cause, socket.gaierror | ssl.SSLCertVerificationError)
        raise Failed(text, again=not final) from None


def _agreed(
    response: Any, have: int, note: dict[str, Any], expected: Expected
) -> tuple[int, int | None]:
    """Where the answer starts and how large the whole file is, if both make sense."""
    headers = response.headers
    if headers.get_content_type() == "text/html":
        raise Failed("a web page came instead of the file")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise Failed(f"sends it encoded as {headers['Content-Encoding']}")
    length = headers.get("Content-Length", "")
    start, total = 0, int(length) if length.isdecimal() else None
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("Content-Range", ""))
        first, last, whole = map(int, found.groups()) if found else (-1, -1, -1)
        fits = first == have > 0 and last == whole - 1 and total in (None, whole - have)
        if not fits or not _same(headers, note) or note.get("total") not in (None, whole):
            raise Failed("went on at another place or with another file", True, spoilt=True)
        start, total = have, whole
    elif response.status != 200:
        raise Failed(f"status {response.status}")
    chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
    if total is None and not (expected.size or expected.sha256 or chunked):
        raise Failed("does not say how large the file is")
    if expected.size and total not in (None, expected.size):
        raise Failed(f"has {total} bytes instead of {expected.size}")
    return start, expected.size if total is None else total


def _fill(
    part: Path, response: Any, start: int, total: int | None, note: dict[str, Any], name: str
) -> None:
    """Writes what comes into the part, after its first `start` bytes."""
    came = start
    with writing(part):
        file = part.open("ab" if start else "wb")
    with file, bar(name, total, start) as shown:
        # Only now, since the note must never stand beside bytes of an older version.
        with atomic_write(_note_of(part)) as temporary:
            temporary.write_text(json.dumps(note), encoding="utf-8")
        while block := response.read1(BLOCK):
            came += len(block)
            if total is not None and came > total:
                raise Failed(f"sends more than {total} bytes", spoilt=True)
            with writing(part):
                file.write(block)
            shown.update(len(block))
        with writing(part):
            file.flush()
            os.fsync(file.fileno())
    if total is not None and came < total:
        raise Failed(f"the transfer was cut after {came} of {total} bytes", again=True)


def discard(part: Path) -> None:
    """Removes a part and what is known about it."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def check_room(folder: Path, needed: int, name: str) -> None:
    """Whether so many bytes are free where `folder` is or will be.

    Raises:
        InputError: They are not.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{name} needs {size_text(needed)} and the disk of {folder} has {size_text(free)} "
            "left; make room, or name a folder on another disk with --to"
        )


def size_text(size: float) -> str:
    """Such as "2.6 GB", in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def bar(title: str, total: int | None, initial: int = 0) -> tqdm[Any]:
    """A progress bar that counts bytes."""
    return tqdm(desc=title, total=total, initial=initial, unit="B", unit_scale=True)


def _version(headers: Any) -> str:
    """What tells versions of a file apart well enough for If-Range: a strong ETag, or a date."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _same(headers: Any, note: dict[str, Any]) -> bool:
    """Whether an answer may be of the version that the note is of."""
    now, before = _version(headers), note.get("version")
    return not (now and before) or now == before


def size_of(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> dict[str, Any]:
    """What is known of a part; nothing if the note is damaged."""
    try:
        note = json.loads(_note_of(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tells the disk's errors from the network's, which are of the same type."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; what has come is kept, the same "
            "command goes on from it"
        ) from None
