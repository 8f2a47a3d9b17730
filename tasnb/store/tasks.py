"""A shard as a task for another process: what is handed to it, and what it does there.

The process writes the shard to the store, as this one would, and returns only a status; results are
not sent back.
"""

from __future__ import annotations

import hashlib
import pickle
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasnb.settings import InputError
from tasnb.store.files import atomic_write
from tasnb.store.shards import Stage, Work
from tasnb.store.threads import ONE_THREAD

DELAY = 30.0  # seconds until a file is visible to other machines on a slow network disk
_WEEK = 7 * 24 * 3600.0

Handed = tuple[str, str]
"""Path and SHA-256 of the file with a stage and its work."""


@contextmanager
def handed_over(stage: Stage, work: Work) -> Iterator[Handed]:
    """Yields path and SHA-256 of a file in the stage's folder with the work for the workers.

    Sent with each task, the work would be copied for every shard. Besides, a worker that cannot
    find the file does not share the disk.
    """
    import cloudpickle

    for old in stage.folder.glob(".work-*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _WEEK:  # its run was killed
                old.unlink()
    content = cloudpickle.dumps((stage, work))
    path = stage.folder / f".work-{uuid.uuid4().hex[:8]}"
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    try:
        yield str(path), hashlib.sha256(content).hexdigest()
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def compute(keys: list[str], handed: Handed) -> tuple[str, str]:
    """Computes and stores a shard.

    Returns:
        The status ("done", "input" for an ``InputError``, or "failed") and the error as text, since
        not every exception can be pickled.
    """
    with ONE_THREAD:  # of which a worker may have several
        try:
            stage, work = _taken_over(*handed)
            stage.compute_shard(keys, work)
        except InputError as error:
            return "input", str(error)
        except Exception as error:
            return "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    return "done", ""


@lru_cache(maxsize=2)
def _taken_over(path: str, digest: str) -> tuple[Any, Any]:
    """Reads stage and work from the file of ``handed_over``, once per worker.

    The digest is checked first, so that write access to the store is not enough
    to run code on a worker.
    """
    end = time.monotonic() + DELAY
    while True:
        try:
            content = Path(path).read_bytes()
            break
        except OSError:
            if time.monotonic() > end:
                raise InputError(
                    f"a worker on {socket.gethostname()} cannot find {Path(path).parent}: the "
                    "store must be on a disk that all workers share; choose another with -p store"
                ) from None
            time.sleep(1)
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{path} was modified; run the same command again")
    return pickle.loads(content)
