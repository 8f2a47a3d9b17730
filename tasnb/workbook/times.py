"""What a notebook's kernel spends time on, and which stored results it uses.

Time is counted in stages, and in passes through networks.

The entry points are those of ``python -m tasnb bench``. For the baselines of Table 1, which take
networks apart, they are the functions that compute a map or vectors from pixels. What a library
does between passes, such as SAM's non-maximum suppression, does not count; the beam search around
a captioner's passes does, since one call does both.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

from IPython import get_ipython

from tasnb.models import devices, parsers
from tasnb.store import processes, shards
from tasnb.store.shards import Stage

HANDLE = "TASNB_TIMES"
"""Environment variable with the number of an open file, to which a kernel writes what it counts."""


class Timer:
    """Seconds spent in functions of one kind; calls of one inside another count once.

    Only the main thread counts, which runs the cells. Workers of a Dask cluster do not count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._running = False

    def wrap(self, owner: Any, attribute: str) -> None:
        """Counts the calls of a function or method of ``owner``, and the steps of a generator."""
        function = getattr(owner, attribute)
        if getattr(function, "timed", False):
            return

        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            found = self._timed(lambda: function(*arguments, **options))
            return self._steps(found) if isinstance(found, Iterator) else found

        call.timed = True  # type: ignore[attr-defined]
        setattr(owner, attribute, call)

    def _timed(self, work: Callable[[], Any]) -> Any:
        if self._running or threading.current_thread() is not threading.main_thread():
            return work()
        self._running = True
        began = time.perf_counter()
        try:
            found = work()
            devices.wait()
            return found
        finally:
            self.seconds += time.perf_counter() - began
            self._running = False

    def _steps(self, steps: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while (step := self._timed(lambda: next(steps, end))) is not end:
            yield step


def watch(store: Path) -> None:
    """From now on, writes what this process counts to the file ``HANDLE``, if there is one.

    The file holds a JSON object: seconds in ``stages`` and in ``passes``, and the ``shards`` of the
    store that were used, as paths relative to it. A kernel writes it after every cell, since a
    kernel that ends slowly is killed; other processes write it when they end.
    """
    handle = os.environ.pop(HANDLE, None)
    if handle is None:
        return
    file, root = int(handle), store.absolute()
    stages, passes = Timer(), _passes()
    stages.wrap(Stage, "_compute")
    processes.probe = seconds_in_passes

    def write(*_: Any) -> None:
        among = passes.seconds + sum(processes.probed)
        files = [file.absolute() for file in shards.used]
        content = {
            "stages": round(stages.seconds, 2),
            "passes": round(among, 2),
            "shards": sorted(str(f.relative_to(root)) for f in files if f.is_relative_to(root)),
        }
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(content).encode(), 0)

    if shell := get_ipython():
        shell.events.register("post_run_cell", write)
    else:
        atexit.register(write)


def seconds_in_passes() -> float:
    """Seconds that this process has spent in passes since it was first asked."""
    return _passes().seconds


@lru_cache(maxsize=1)
def _passes() -> Timer:
    """The timer of all passes in this process, which counts from the first call on."""
    passes = Timer()
    devices.built.append(lambda model: _time_passes(passes, model))
    load = parsers.load_parser

    @wraps(load)
    def load_parser(*arguments: Any) -> Any:
        parser = load(*arguments)
        passes.wrap(parser, "pipe")
        return parser

    parsers.load_parser = load_parser
    return passes


def _time_passes(passes: Timer, loaded: Any) -> None:
    """Times the passes of a model that has just been loaded."""
    for owner, attribute in devices.entry_points(loaded):
        passes.wrap(owner, attribute)
    if hasattr(getattr(loaded, "model", None), "visual"):  # an encoder of open_clip
        from tasnb.baselines import region_features
        from tasnb.models.clip import activation_maps, towers

        for module, names in (
            (activation_maps, ("score_map", "clip_surgery", "gem", "grad_cam")),
            (region_features, ("region_tokens", "global_features", "fused_features")),
            (towers, ("encode",)),  # of Global-Local's crops
        ):
            for name in names:
                passes.wrap(module, name)
