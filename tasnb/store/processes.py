"""Computes shards in other processes of this machine, each with one thread.

Small networks are not faster with two threads, but twice as fast in two processes. Starting these
takes seconds, so short work stays in this process, until so much of it has come together that the
processes would have paid. Then they are started, and also take short work as long as they run.
"""

from __future__ import annotations

import math
import signal
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field

from tasnb.settings import InputError
from tasnb.store.memory import seldom_collected
from tasnb.store.shards import Finished, Stage, Work, serial
from tasnb.store.tasks import Handed, compute, handed_over

MOST = 8  # processes by default, each of which takes up to a gigabyte of memory
STARTING = 6.0  # seconds that it takes to start processes and to load what they need
RUNNING = 1.0  # seconds that it takes processes that are running to load what a stage needs
KEPT = 240.0  # seconds after which processes that have nothing to do end; joblib waits 300

probe: Callable[[], float] | None = None
"""Counts something in a process, such as seconds in networks. If this is set, processes call it
before and after each shard."""

probed: list[float] = []
"""What ``probe`` counted in other processes, by shard."""


@dataclass
class Pool:
    """What this process knows about its processes.

    Attributes:
        lost: Seconds that they would have saved so far, had they been running.
        until: When they may have ended (``time.monotonic``).
        pace: Stage -> seconds that one of its shards took here.
        size: Number of processes; not fewer than before, for which joblib would end some.
    """

    lost: float = 0.0
    until: float = -math.inf
    pace: dict[str, float] = field(default_factory=dict)
    size: int = 0

    @property
    def running(self) -> bool:
        """Whether there are processes that have been used recently."""
        return time.monotonic() < self.until

    def pays(self, saved: float) -> bool:
        """Whether to use processes for work on which they save some seconds.

        Until they run, all such work counts together: it costs at most twice as much as if it had
        been known from the start how much there will be.
        """
        if self.running:
            return saved > RUNNING
        self.lost += saved
        return self.lost > STARTING and saved > RUNNING


pool = Pool()


@dataclass(frozen=True)
class Processes:
    """Computes shards in processes if that is likely to save time.

    How long a stage takes per shard is found by computing the first one here. As in this process,
    the first error ends the computation. Shards of a process that dies are computed here.

    Attributes:
        workers: Number of processes; None: one per core, at most ``MOST``.
    """

    workers: int | None = None
    concurrent = False

    def __call__(self, stage: Stage, work: Work, shards: Sequence[list[str]]) -> Finished:
        import joblib

        left = list(shards)
        if not pool.running or stage.name not in pool.pace:
            began = time.perf_counter()
            yield from serial(stage, work, left[:1])
            pool.pace[stage.name] = time.perf_counter() - began
            left = left[1:]
        workers = min(self.workers or min(joblib.cpu_count(), MOST), len(left))
        saved = pool.pace[stage.name] * len(left) * (1 - 1 / max(workers, 1))
        if workers < 2 or _has_gpu() or not pool.pays(saved):
            yield from serial(stage, work, left)
            return
        options = {"return_as": "generator_unordered", "batch_size": 1, "pre_dispatch": "all"}
        try:
            with (
                handed_over(stage, work) as handed,
                joblib.parallel_config("loky", inner_max_num_threads=1),
            ):
                tasks = (joblib.delayed(_compute)(keys, handed, probe) for keys in left)
                pool.size = max(pool.size, workers) if pool.running else workers
                pool.until = -math.inf  # an error ends them
                results = joblib.Parallel(pool.size, **options)(tasks)
                with _quietly_closing(results) as finished:
                    for keys, kind, text, counted in finished:
                        if kind == "input":
                            raise InputError(text)
                        if kind == "failed":  # again, for the error itself
                            yield from serial(stage, work, [keys])
                            continue
                        probed.append(counted)
                        yield keys, ""
                pool.until = time.monotonic() + KEPT
        except BrokenProcessPool:
            warnings.warn(
                f"{stage.name}: a process died, perhaps for lack of memory; the rest is computed "
                "without it, and -p workers takes fewer",
                stacklevel=2,
            )
            lost = set(stage.missing([key for keys in left for key in keys]))
            yield from serial(stage, work, [keys for keys in left if lost.intersection(keys)])


@contextmanager
def _quietly_closing(results: Generator) -> Iterator[Generator]:
    """Closes what joblib returns, without its warning about results that nobody waited for."""
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.close()


def _compute(
    keys: list[str], handed: Handed, counter: Callable[[], float] | None
) -> tuple[list[str], str, str, float]:
    """In a process: the shard's keys, the status and error of ``tasks.compute``, and the count."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes
    before = counter() if counter else 0.0
    with seldom_collected():  # it imports libraries with the first shard
        kind, text = compute(keys, handed)
    return keys, kind, text, counter() - before if counter else 0.0


def _has_gpu() -> bool:
    """Whether networks run on a GPU, which several processes would only share."""
    import torch

    return torch.cuda.is_available()
