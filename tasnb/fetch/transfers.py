"""Downloads a file from one of several addresses: retries, resumes, checks, and then renames it."""

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
    """How often and how long to try.

    Attributes:
        tries: Attempts per address that make no progress.
        wait: Seconds before the second attempt; each later wait is twice as long.
        timeout: Seconds without a response or a byte.
    """

    tries: int = 5
    wait: float = 1.0
    timeout: float = 30.0


def part_of(path: Path) -> Path:
    """The file that holds an unfinished download."""
    return path.with_name(path.name + ".part")


def transfer(urls: Sequence[str], path: Path, expected: Expected, patience: Patience) -> None:
    """Downloads a file, or resumes doing so; it gets its name once it is complete and checked.

    Args:
        urls: Addresses, tried in this order.
        path: Where it goes; its folder exists.
        expected: What is known about it.
        patience: How often and how long to try.

    Raises:
        InputError: No address delivers it, or it cannot be written.
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
        f"cannot download {expected.name}: tried {', '.join(tried)}; try again later, or get the "
        f"file elsewhere and save it as {path}"
    )


def digest_of(path: Path, name: str) -> str:
    """SHA-256 (64 hex digits) of a file, with a progress bar, since large files take a while."""
    digest = hashlib.sha256()
    with path.open("rb") as file, bar(f"{name}, checking", path.stat().st_size) as shown:
        while block := file.read(BLOCK):
            digest.update(block)
            shown.update(len(block))
    return digest.hexdigest()


def _from_one(url: str, part: Path, expected: Expected, patience: Patience) -> None:
    """Downloads from one address, with as many attempts as is sensible.

    Raises:
        Failed: All attempts failed.
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
                if resumed:  # perhaps only the older bytes were bad: restart once
                    continue
            if not error.again:
                raise
            # Attempts that make progress do not count: large files get through bad lines, too.
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
