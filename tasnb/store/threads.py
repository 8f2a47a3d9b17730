"""The lock that lets only one thread at a time load a network, run one or compute a stage.

Networks have state (SAM its current image, encoders the hooks of the baselines), libraries load
weights with global switches, and two threads that need the same shard would compute it twice. More
threads would not be faster, since torch has its own.

There is only one lock, so that threads cannot deadlock. It is reentrant, since a stage may compute
other stages that it reads, and loads its model while it is being computed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ONE_THREAD = threading.RLock()


def in_one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Wraps a function so that callers in other threads wait until it returns."""

    @wraps(function)
    def alone(*arguments: P.args, **options: P.kwargs) -> T:
        with ONE_THREAD:
            return function(*arguments, **options)

    return alone


def _free_in_child() -> None:
    """Releases the lock in a forked process if a thread that exists only in its parent holds it."""
    if ONE_THREAD.acquire(blocking=False):  # it was free, or this thread holds it
        ONE_THREAD.release()
    else:
        ONE_THREAD._at_fork_reinit()


os.register_at_fork(after_in_child=_free_in_child)
