"""Computes the missing shards of a stage: in this process, or with Dask workers.

A Dask task is one shard of one stage. The worker writes the shard to the store, as this process
would, and returns only a status line; results are not sent over the network. The store must
therefore be on a disk that all workers share.
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

DELAY = 30.0  # seconds until a file is visible to other machines on a slow network disk
HOPELESS = 10  # give up after so many failures without a success: the images are not the cause
_WEEK = 7 * 24 * 3600.0


def backend_of(settings: Settings) -> Backend | None:
    """The backend that ``settings.backend`` selects; None for the serial one.

    Raises:
        InputError: A scheduler is given without the Dask backend, or Dask is not installed.
    """
    if settings.backend == "dask":
        if not importlib.util.find_spec("distributed"):
            raise InputError('backend = dask needs distributed: `pip install "tasnb[dask]"`')
        return Dask(settings.scheduler, settings.workers)
    if settings.scheduler:
        raise InputError(f"scheduler = {settings.scheduler} needs backend = dask")
    return None


@dataclass(frozen=True)
class Dask:
    """Computes shards as Dask tasks, in any order; failures do not stop the others.

    If a worker dies, its shard is given to another one. If a shard fails, it is retried key by key,
    so that only the keys that cause the failure are left out.

    Attributes:
        scheduler: Address of a running scheduler; "": this process starts and stops workers.
        workers: Number of workers to start; None: one per GPU, or else one per core.
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
                # Not pure: the tasks write files.
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
                            f"stage {stage.name}: {failures} shards failed and none succeeded, "
                            f"so the run was stopped; the last error: {error}"
                        )
                    if died:
                        suspects += keys
                    elif len(keys) > 1:
                        arriving.update(start([[key] for key in keys]))
                    else:
                        yield keys, error
                # A dying worker also takes down tasks that were only queued on it. These keys are
                # therefore computed alone, one after the other.
                for key in suspects:
                    [task] = start([[key]])
                    error, _ = _outcome(task, client)
                    done += [key] if not error else []
                    yield futures.pop(task), error
            finally:
                with suppress(Exception):  # the scheduler may be gone
                    client.cancel(list(futures))
        _wait_for(stage, done)


# --- In this process -----------------------------------------------------------------------------


@contextmanager
def _handed_over(stage: Stage, work: Work) -> Iterator[tuple[str, str]]:
    """Yields path and SHA-256 of a file in the stage's folder with the work for the workers.

    Sent through the scheduler, the work would be copied for every shard. Besides, a worker that
    cannot find the file does not share the disk.
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
    """The error of a task ("" if it succeeded), and whether its workers died."""
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
            "the Dask scheduler was lost; stored results are kept, and the same command resumes"
        ) from None
    if isinstance(error, KilledWorker):
        return "its worker died every time, perhaps for lack of memory", True
    raise InputError(
        f"the workers of {client.scheduler.address} cannot work ({type(error).__name__}: "
        f"{' '.join(str(error).split())[:200]}); start them in the environment of this process"
    )


def _by_value() -> Callable[..., tuple[str, str]]:
    """``_task`` in a form that also runs on workers without this package.

    A function of this module would be pickled by name. A worker that cannot import it exits without
    an error, and the task waits for the next worker. A nested function is pickled as code.
    """

    def task(keys: list[str], handed: tuple[str, str], threads: int) -> tuple[str, str]:
        try:
            from tasnb.store.backends import _task as inner
        except ImportError as error:
            from socket import gethostname

            text = f"a worker on {gethostname()} does not have this package ({error})"
            return "input", f"{text}; start it in the environment of this process"
        return inner(keys, handed, threads)

    return task


def _wait_for(stage: Stage, keys: Sequence[str]) -> None:
    """Waits until shards written by workers on other machines are visible on this one."""
    end = time.monotonic() + DELAY
    while stage.missing(keys):
        if time.monotonic() > end:
            raise InputError(
                f"workers report results in {stage.folder} that are not there: the store must be "
                "on a disk that all workers share; choose another with -p store"
            )
        time.sleep(1)


# --- In a worker ---------------------------------------------------------------------------------


def _task(keys: list[str], handed: tuple[str, str], threads: int) -> tuple[str, str]:
    """Computes and stores a shard.

    Returns:
        The status ("done", "input" for an ``InputError``, or "failed") and the error as text, since
        not every exception can be pickled.
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
    """Reads stage and work from the file of ``_handed_over``, once per worker.

    The digest from the scheduler is checked first, so that write access to the store is not enough
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
