"""Files that are whole or not there, and digests by which their content is known."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasnb.settings import InputError

_TEMPORARY = ".tmp-"
_OLD = 3600.0  # seconds after which a temporary file belongs to nobody


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, with its suffix, that is renamed to it at the end.

    If the body fails, `path` stays as it was and the temporary file is removed.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # An error about some other file (one that the body read) is not ours to explain.
        ours = {None, str(temporary), *map(str, [path, *path.parents])}
        if error.filename in ours:
            raise InputError(
                f"cannot write {path}: {error.strerror or error}; choose a folder that can be "
                "written, with space left"
            ) from error
        raise
    finally:
        with suppress(OSError):  # the folder itself could not be made, or is no folder
            temporary.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps a second run out of a folder of results; one that was killed keeps nobody out.

    Raises:
        InputError: Another run is in it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"another run writes into {folder}: wait until it has finished, or name another folder "
            "by --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_writable(folder: Path) -> None:
    """Raises an InputError unless files can be made in `folder`, which is made if need be."""
    probe = folder / "writable"
    with atomic_write(probe) as temporary:
        temporary.write_bytes(b"")
    probe.unlink()


def sweep(folder: Path) -> None:
    """Removes the temporary files that killed runs left in a folder, by whichever clock."""
    for file in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):  # its owner was faster, or the folder is only to be read
            if abs(time.time() - file.stat().st_mtime) > _OLD:
                file.unlink()


def fingerprint(content: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of `content`; tuples count as lists."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_and_time(file: Path) -> tuple[int, int]:
    """Size and time of the last change: while they stay, a file need not be read again."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns
