"""Atomic writes, locks, and digests that identify the content of files."""

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
_OLD = 3600.0  # seconds after which a temporary file counts as abandoned


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path next to `path`, with its suffix, and renames it to `path` at the end.

    If the body fails, `path` is unchanged and the temporary file is removed.

    Raises:
        InputError: The folder is not writable or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # Errors about other files, such as one that the body reads, are passed on.
        ours = {None, str(temporary), *map(str, [path, *path.parents])}
        if error.filename in ours:
            raise InputError(
                f"cannot write {path}: {error.strerror or error}; choose a folder that is "
                "writable and has free space"
            ) from error
        raise
    finally:
        with suppress(OSError):  # the folder could not be created, or is not a folder
            temporary.unlink(missing_ok=True)


def check_new(path: Path, option: str) -> None:
    """Raises an InputError if a file or folder exists, which is not to be overwritten.

    Empty folders count as new.

    Args:
        option: The option that names it, such as "--out".
    """
    if path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InputError(f"{option} {path} exists: remove it, or choose another name")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Locks a folder of results against other runs; a killed run leaves no lock behind.

    Raises:
        InputError: Another run is using the folder.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"another run is writing to {folder}: wait until it has finished, or choose another "
            "folder with --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_writable(folder: Path) -> None:
    """Raises an InputError unless `folder` is writable; creates it if necessary."""
    probe = folder / "writable"
    with atomic_write(probe) as temporary:
        temporary.write_bytes(b"")
    probe.unlink()


def sweep(folder: Path) -> None:
    """Removes old temporary files that killed runs left in a folder.

    Ones dated well into the future, by a wrong clock, are removed as well.
    """
    for file in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):  # already removed by its owner, or the folder is read-only
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
    """Size and modification time; if they are unchanged, a file need not be read again."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns
