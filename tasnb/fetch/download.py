"""One request for a file, written to a .part file: from the start, or resuming an earlier request.

A small JSON file next to the part records the address and the version of the file (its ETag or
date). A download resumes only if that is known, or if a digest is checked at the end.
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
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # server errors that may be temporary


@dataclass(frozen=True)
class Expected:
    """What is known about a file in advance, and its name in progress bars and errors."""

    name: str
    size: int | None = None
    sha256: str | None = None
    reserve: int = 0  # bytes of disk space needed in addition to the file itself


class Failed(Exception):
    """An address did not deliver the file.

    Attributes:
        again: Whether another attempt at the same address may succeed.
        spoilt: Whether the bytes received so far are useless.
    """

    def __init__(self, reason: str, again: bool = False, spoilt: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        self.spoilt = spoilt


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to something less secure."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = newurl.partition(":")[0].lower()
        if scheme != "https" and scheme != req.type:
            raise Failed(f"redirects to the insecure address {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def receive(url: str, part: Path, expected: Expected, timeout: float) -> None:
    """Makes one request, which resumes or restarts the part, and reads to the last byte."""
    have, note = size_of(part), _read_note(part)
    if note.get("url") != url:
        note = {}
    if not (note.get("version") or expected.sha256):
        have = 0  # no way to tell whether the rest belongs to the same file
    if have and have == expected.size and expected.sha256:
        return  # complete, but not checked yet
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
                raise Failed("the file is now shorter than the part", True, spoilt=True) from None
            if not _same(error.headers, note):
                raise Failed("the file has changed", True, spoilt=True) from None
            return  # nothing left to send
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
    """Start of the response and size of the whole file, after checking that both make sense."""
    headers = response.headers
    if headers.get_content_type() == "text/html":
        raise Failed("sent a web page instead of the file")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise Failed(f"sent the file encoded as {headers['Content-Encoding']}")
    length = headers.get("Content-Length", "")
    start, total = 0, int(length) if length.isdecimal() else None
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers.get("Content-Range", ""))
        first, last, whole = map(int, found.groups()) if found else (-1, -1, -1)
        fits = first == have > 0 and last == whole - 1 and total in (None, whole - have)
        if not fits or not _same(headers, note) or note.get("total") not in (None, whole):
            raise Failed("resumed at the wrong byte or with another file", True, spoilt=True)
        start, total = have, whole
    elif response.status != 200:
        raise Failed(f"unexpected status {response.status}")
    chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
    if total is None and not (expected.size or expected.sha256 or chunked):
        raise Failed("does not state the size of the file")
    if expected.size and total not in (None, expected.size):
        raise Failed(f"has {total} bytes instead of {expected.size}")
    return start, expected.size if total is None else total


def _fill(
    part: Path, response: Any, start: int, total: int | None, note: dict[str, Any], name: str
) -> None:
    """Writes the response to the part, after its first `start` bytes."""
    came = start
    with writing(part):
        file = part.open("ab" if start else "wb")
    with file, bar(name, total, start) as shown:
        # Only now, since the note must never accompany bytes of an older version.
        with atomic_write(_note_of(part)) as temporary:
            temporary.write_text(json.dumps(note), encoding="utf-8")
        while block := response.read1(BLOCK):
            came += len(block)
            if total is not None and came > total:
                raise Failed(f"sent more than {total} bytes", spoilt=True)
            with writing(part):
                file.write(block)
            shown.update(len(block))
        with writing(part):
            file.flush()
            os.fsync(file.fileno())
    if total is not None and came < total:
        raise Failed(f"the transfer broke off after {came} of {total} bytes", again=True)


def discard(part: Path) -> None:
    """Removes a part and its note."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def check_room(folder: Path, needed: int, name: str) -> None:
    """Checks that there is enough disk space where `folder` is or will be.

    Raises:
        InputError: Fewer than `needed` bytes are free.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{name} needs {size_text(needed)}, but only {size_text(free)} is free on the disk of "
            f"{folder}; free some space, or name a folder on another disk with --to"
        )


def size_text(size: float) -> str:
    """A size such as "2.6 GB", in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def bar(title: str, total: int | None, initial: int = 0) -> tqdm[Any]:
    """A progress bar that counts bytes."""
    return tqdm(desc=title, total=total, initial=initial, unit="B", unit_scale=True)


def _version(headers: Any) -> str:
    """What identifies the version of a file for If-Range: a strong ETag, or a date."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _same(headers: Any, note: dict[str, Any]) -> bool:
    """Whether a response may be of the version recorded in the note."""
    now, before = _version(headers), note.get("version")
    return not (now and before) or now == before


def size_of(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> dict[str, Any]:
    """The note of a part; empty if it is missing or damaged."""
    try:
        note = json.loads(_note_of(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Distinguishes errors of the disk from those of the network, which have the same type."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; what has been downloaded is kept, "
            "and the same command resumes from there"
        ) from None
