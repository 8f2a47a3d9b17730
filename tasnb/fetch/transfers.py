"""A file from one of several addresses: tries again, goes on, checks what came, then names it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasnb.fetch.download import BLOCK, Expected, Failed, bar, discard, receive, size_of, writing
from tasnb.settings import InputError


@dataclass(frozen=True)
class Patience:
    """How long to bear with a server.

    Attributes:
        tries: At one address, without getting any further.
        wait: Seconds before the second try; each later wait is twice the one before.
        timeout: Seconds without any answer or any byte.
    """

    tries: int = 5
    wait: float = 1.0
    timeout: float = 30.0


def part_of(path: Path) -> Path:
    """Where the bytes of a file lie until all of them have come."""
    return path.with_name(path.name + ".part")


def transfer(urls: Sequence[str], path: Path, expected: Expected, patience: Patience) -> None:
    """Fetches a file, or goes on fetching it; it gets its name when it is complete and checked.

    Args:
        urls: Where it is to be had, tried in this order.
        path: Where it goes; its folder exists.
        expected: What is known of it.
        patience: How often and how long to try.

    Raises:
        InputError: No address has it, or it cannot be written.
    """
    part = part_of(path)
    tried = []
    for url in urls:
        try:
            _from_one(url, part, expected, patience)
        except Failed as error:
            tried.append(f"{url} ({error})")
            continue
        with writing(path):
            part.replace(path)
        discard(part)
        return
    if not size_of(part):
        discard(part)
    raise InputError(
        f"cannot fetch {expected.name}: tried {', '.join(tried)}; try again later, or get it by "
        f"other means and put it at {path}"
    )


def digest_of(path: Path, name: str) -> str:
    """SHA-256 (64 hex digits) of a file, with a bar, since large ones take a while."""
    digest = hashlib.sha256()
    with path.open("rb") as file, bar(f"{name}, checking", path.stat().st_size) as shown:
        while block := file.read(BLOCK):
            digest.update(block)
            shown.update(len(block))
    return digest.hexdigest()


def _from_one(url: str, part: Path, expected: Expected, patience: Patience) -> None:
    """Tries one address as often as is sensible.

    Raises:
        Failed: To no avail.
    """
    furthest = size_of(part)
    failures = 0
    while True:
        resumed = size_of(part) > 0
        try:
            receive(url, part, expected, patience.timeout)
            _check(part, expected)
            return
        except Failed as error:
            if error.spoilt:
                discard(part)
                if resumed:  # perhaps only the older bytes were bad: from the start, once
                    continue
            if not error.again:
                raise
            # Whoever gets any further may try on: large files come over bad lines too.
            failures = 1 if size_of(part) > furthest else failures + 1
            furthest = max(furthest, size_of(part))
            if failures >= patience.tries:
                raise
        time.sleep(patience.wait * 2 ** (failures - 1))


def _check(part: Path, expected: Expected) -> None:
    size = size_of(part)
    if expected.size and size != expected.size:
        raise Failed(f"sent {size} bytes instead of {expected.size}", spoilt=True)
    if expected.sha256:
        found = digest_of(part, expected.name)
        if found != expected.sha256:
            raise Failed(
                f"sent a file with SHA-256 {found} instead of {expected.sha256}", spoilt=True
            )
