"""Where the missing shards of a stage are computed: here, in other processes, or by Dask workers.

A Dask task is one shard of one stage. Since workers write their shards to the store, the store must
be on a disk that all of them share.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasnb.settings import InputError, Settings
from tasnb.store.clients import connect
from tasnb.store.processes import Processes
from tasnb.store.shards import Backend, Finished, Stage, Work
from tasnb.store.tasks import DELAY, Handed, handed_over

if TYPE_CHECKING:
    from distributed import Client, Future

HOPELESS = 10  # give up after so many failures without a success: the images are not the cause


def backend_of(settings: Settings) -> Backend | None:
    """The backend that ``settings.backend`` selects; None: this process, one shard at a time.

    Raises:
        InputError: A scheduler is given without the Dask backend, or Dask is not installed.
    """
    if settings.backend == "dask":
        if not importlib.util.find_spec("distributed"):
            raise InputError('backend = dask needs distributed: `pip install "tasnb[dask]"`')
        return Dask(settings.scheduler, settings.workers)
    if settings.scheduler:
        raise InputError(f"scheduler = {settings.scheduler} needs backend = dask")
    return Processes(settings.workers) if settings.backend == "processes" else None


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
    concurrent = True

    def __call__(self, stage: Stage, work: Work, shards: Sequence[list[str]]) -> Finished:
        from distributed import as_completed

        client, threads = connect(self.scheduler, self.workers)
        done: list[str] = []
        failures = 0
        suspects: list[str] = []  # of shards whose workers died
        futures: dict[Future, list[str]] = {}

        with handed_over(stage, work) as handed:

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
    """``tasks.compute`` in a form that also runs on workers without this package.

    A function of this module would be pickled by name. A worker that cannot import it exits without
    an error, and the task waits for the next worker. A nested function is pickled as code.
    """

    def task(keys: list[str], handed: Handed, threads: int) -> tuple[str, str]:
        try:
            from tasnb.store.clients import use_threads
            from tasnb.store.tasks import compute
        except ImportError as error:
            from socket import gethostname

            text = f"a worker on {gethostname()} does not have this package ({error})"
            return "input", f"{text}; start it in the environment of this process"
        use_threads(threads)
        return compute(keys, handed)

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
