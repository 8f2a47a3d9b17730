"""Where the missing shards of a stage are computed: in this process, or by the workers of Dask.

A task of Dask is one shard of one stage. The worker writes the shard into the store, as this
process would, and answers with one line: what is on disk counts, no result travels. So the store
must lie on a disk that all workers share.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasnb.settings import InputError, Settings
from tasnb.store.clients import connect, use_threads
from tasnb.store.files import atomic_write
from tasnb.store.shards import Backend, Finished, Stage, Work
from tasnb.store.threads import ONE_THREAD

if TYPE_CHECKING:
    from distributed import Client, Future

DELAY = 30.0  # seconds until a file is seen on other machines, on slow network disks
HOPELESS = 10  # shards that fail with none done: the cause is not in the images
_WEEK = 7 * 24 * 3600.0


def backend_of(settings: Settings) -> Backend | None:
    """What ``settings.backend`` names; None for the serial one.

    Raises:
        InputError: A scheduler is named but not used, or Dask is not installed.
    """
    if settings.backend == "dask":
        if not importlib.util.find_spec("distributed"):
            raise InputError('backend = dask needs distributed: `pip install "tasnb[dask]"`')
        return Dask(settings.scheduler, settings.workers)
    if settings.scheduler:
        raise InputError(f"scheduler = {settings.scheduler}: takes backend = dask, too")
    return None


@dataclass(frozen=True)
class Dask:
    """Shards as tasks of Dask, in any order; what fails is left out and the rest goes on.

    A shard whose worker dies is given to another one. A shard that fails is tried again key by
    key, so that only those fail that must.

    Attributes:
        scheduler: Address of a running one; "" for workers that this process starts and ends.
        workers: How many it starts; None: one a GPU, or else one a core.
    """

    scheduler: str = ""
    workers: int | None = None

    def __call__(self, stage: Stage, work: Work, shards: Sequence[list[str]]) -> Finished:
        from distributed import as_completed

        client, threads = connect(self.scheduler, self.workers)
        done: list[str] = []
        failures = 0
        suspects: list[str] = []  # of shards whose workers died
        futures: dict[Future, list[str]] = {}

        with _handed_over(stage, work) as handed:

            def start(some: Sequence[list[str]]) -> list[Future]:
                # Nothing here is a function of its arguments alone: it writes files.
                tasks = client.map(
                    _by_value(), some, pure=False, key=stage.name, handed=handed, threads=threads
                )
                futures.update(zip(tasks, some, strict=True))
                return tasks

            try:
                arriving = as_completed(start(shards), loop=client.loop)
                for task in arriving:
                    keys = futures.pop(task)
                    error, died = _outcome(task, client)
                    if not error:
                        done += keys
                        yield keys, ""
                        continue
                    failures += 1
                    if failures == HOPELESS and not done:
                        raise InputError(
                            f"stage {stage.name}: {failures} shards failed and none was done, "
                            f"the last one so: {error}; nothing more was tried"
                        )
                    if died:
                        suspects += keys
                    elif len(keys) > 1:
                        arriving.update(start([[key] for key in keys]))
                    else:
                        yield keys, error
                # A dying worker takes with it what was only waiting there. So these have the
                # workers to themselves, one after the other.
                for key in suspects:
                    [task] = start([[key]])
                    error, _ = _outcome(task, client)
                    done += [key] if not error else []
                    yield futures.pop(task), error
            finally:
                with suppress(Exception):  # there may be no scheduler any more
                    client.cancel(list(futures))
        _wait_for(stage, done)


# --- In the process that asks --------------------------------------------------------------------


@contextmanager
def _handed_over(stage: Stage, work: Work) -> Iterator[tuple[str, str]]:
    """Yields path and SHA-256 of a file in the stage's folder that tells workers what to do.

    Through the scheduler, all of it would travel with every shard. And a worker that does not find
    the file does not share the disk.
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


def _outcome(task: Future, client: Client) -> tuple[str, bool]:
    """Why a task failed, "" if it did not, and whether it was because its workers died."""
    from distributed import CancelledError, KilledWorker

    try:
        error = task.exception()  # waits
        if error is None:
            kind, text = task.result()
            if kind == "input":
                raise InputError(text)
            return text, False
    except CancelledError:
        raise InputError(
            "lost the Dask scheduler; what is stored stays, the same command goes on from there"
        ) from None
    if isinstance(error, KilledWorker):
        return "its worker died every time; out of memory?", True
    raise InputError(
        f"the workers of {client.scheduler.address} cannot work ({type(error).__name__}: "
        f"{' '.join(str(error).split())[:200]}); start them in the environment of this process"
    )


def _by_value() -> Callable[..., tuple[str, str]]:
    """``_task`` for workers that may not have this package.

    A function of this module would travel as its name. A worker that cannot find it ends without a
    word, and the task waits for the next one. A function made here travels as its code.
    """

    def task(keys: list[str], handed: tuple[str, str], threads: int) -> tuple[str, str]:
        try:
            from tasnb.store.backends import _task as inner
        except ImportError as error:
            from socket import gethostname

            text = f"a worker on {gethostname()} does not have this package ({error}); start it in"
            return "input", f"{text} the environment of this process"
        return inner(keys, handed, threads)

    return task


def _wait_for(stage: Stage, keys: Sequence[str]) -> None:
    """Until this machine, too, sees what workers on others have written."""
    end = time.monotonic() + DELAY
    while stage.missing(keys):
        if time.monotonic() > end:
            raise InputError(
                f"workers say that they have written to {stage.folder}, but it is not there: the "
                "store must lie on a disk that all workers share, give another with -p store"
            )
        time.sleep(1)


# --- In a worker ---------------------------------------------------------------------------------


def _task(keys: list[str], handed: tuple[str, str], threads: int) -> tuple[str, str]:
    """Computes and stores a shard.

    Returns:
        What became of it ("done", "input" for an ``InputError``, "failed"), and the error. Not the
        exception itself, since not every one survives pickling.
    """
    with ONE_THREAD:  # of which a worker may have several
        try:
            use_threads(threads)
            stage, work = _taken_over(*handed)
            stage.compute_shard(keys, work)
        except InputError as error:
            return "input", str(error)
        except Exception as error:
            return "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    return "done", ""


@lru_cache(maxsize=2)
def _taken_over(path: str, digest: str) -> tuple[Any, Any]:
    """Stage and work from the file of ``_handed_over``, once a worker.

    Only if it is what the scheduler says: whoever can write into the store must not be able to run
    code here.
    """
    end = time.monotonic() + DELAY
    while True:
        try:
            content = Path(path).read_bytes()
            break
        except OSError:
            if time.monotonic() > end:
                raise InputError(
                    f"a worker on {socket.gethostname()} does not find {Path(path).parent}: the "
                    "store must lie on a disk that all workers share, give another with -p store"
                ) from None
            time.sleep(1)
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{path} was altered; run the same command again")
    return pickle.loads(content)
