"""Dask clients, for a scheduler that is already running or for workers that this process starts."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import signal
import warnings
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from tasnb.settings import InputError

if TYPE_CHECKING:
    from distributed import Client, SpecCluster, Worker, WorkerPlugin

CONNECT = 10.0  # seconds after which a scheduler counts as unreachable


def connect(scheduler: str = "", workers: int | None = None) -> tuple[Client, int]:
    """The client of this process, and the number of threads per worker (0: as set by Dask).

    Args:
        scheduler: Address of a running scheduler; "": start local workers, which end with this
            process.
        workers: Number of local workers; None: one per GPU, or else one per core.

    Raises:
        InputError: No scheduler answers at the address, or workers cannot be started.
    """
    connected = _connect(scheduler, workers)
    if connected[0].status != "running":  # the scheduler is gone
        _connect.cache_clear()
        connected = _connect(scheduler, workers)
    return connected


@lru_cache(maxsize=4)
def _connect(address: str, workers: int | None) -> tuple[Client, int]:
    """Cached, since starting workers takes seconds."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    for name in ("client", "comm", "core", "nanny", "scheduler", "worker"):
        logging.getLogger(f"distributed.{name}").setLevel(logging.CRITICAL)
    if not address:
        cluster, threads = _local_cluster(workers)
        client = Client(cluster, set_as_default=False)
        client.register_plugin(_uninterrupted(), name="uninterrupted")
        atexit.register(_close, client, cluster)
        return client, threads
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"no Dask scheduler answers at {address} ({reason[:200]}); use the address that it "
            "printed when it started, or none to start workers on this machine"
        ) from None
    atexit.register(_close, client)
    if not client.scheduler_info(n_workers=-1)["workers"]:
        warnings.warn(
            f"the scheduler at {address} has no workers yet; waiting for them", stacklevel=2
        )
    return client, 0


def _local_cluster(workers: int | None) -> tuple[SpecCluster, int]:
    """Starts worker processes on this machine, each with its own GPU if there are any."""
    import dask
    import torch
    from dask.system import CPU_COUNT
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = [str(i) for i in range(torch.cuda.device_count())]
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = given.split(",")[: len(gpus)] if given else gpus
    workers = workers or len(gpus) or CPU_COUNT
    options = {
        "nthreads": 1,
        # Dask's default limit, memory divided by cores, may be less than a model needs.
        "memory_limit": 0,
        "host": "127.0.0.1",
        "silence_logs": logging.CRITICAL,
    }
    envs = [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(workers)]
    scheduler = {
        "host": "127.0.0.1",
        "port": 0,
        "dashboard": importlib.util.find_spec("bokeh") is not None,
        "dashboard_address": "127.0.0.1:0",
    }
    try:
        with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
            cluster = SpecCluster(
                workers={
                    i: {"cls": Nanny, "options": {**options, "env": env}}
                    for i, env in enumerate(envs)
                },
                scheduler={"cls": Scheduler, "options": scheduler},
                silence_logs=logging.CRITICAL,
            )
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot start workers ({reason[:200]}); in a script, run them below "
            "`if __name__ == '__main__':`"
        ) from None
    return cluster, max(1, CPU_COUNT // workers)


def _uninterrupted() -> WorkerPlugin:
    """Keeps workers alive on Ctrl-C, which a terminal sends to all of its processes."""
    from distributed import WorkerPlugin

    class Uninterrupted(WorkerPlugin):
        def setup(self, worker: Worker) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Uninterrupted()


def _close(*closed: Client | SpecCluster) -> None:
    for one in closed:
        with suppress(Exception):  # the process is ending; there is nothing to be done about it
            one.close(timeout=5)


@lru_cache(maxsize=1)
def use_threads(threads: int) -> None:
    """Limits torch and OpenCV to this many threads in a worker; 0: as set by Dask."""
    import cv2
    import torch
    from distributed import get_worker

    threads = threads or get_worker().state.nthreads
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
