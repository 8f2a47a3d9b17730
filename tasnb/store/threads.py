"""One thread at a time: the lock that all share who load a network, use one or compute a stage.

Networks keep what they are working on in themselves (SAM its picture, encoders the hooks of the
baselines), libraries load weights through global switches, and two threads at one shard would do
the work twice. More threads would not be faster anyway: torch has threads of its own.

There is a single lock, so that no two threads can each wait for the other, and it is reentrant,
since a stage computes those that it reads and loads its model on the way.
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
    """The same function; its callers in other threads wait until it returns."""

    @wraps(function)
    def alone(*arguments: P.args, **options: P.kwargs) -> T:
        with ONE_THREAD:
            return function(*arguments, **options)

    return alone


def _free_in_child() -> None:
    """A forked process has one thread; what others held in its parent nobody here would release."""
    if ONE_THREAD.acquire(blocking=False):  # it was free, or this very thread holds it
        ONE_THREAD.release()
    else:
        ONE_THREAD._at_fork_reinit()


os.register_at_fork(after_in_child=_free_in_child)
