"""Runs that a test may kill, starve or start twice, at the cost of one fork each.

A server, started as ``python tests/helpers/warm_runs.py``, imports torch, loads the embedded models
once, and forks a child for every run, which thus starts as a fresh process with loaded models.
Tests use it through `Warm`.
"""

from __future__ import annotations

import gc
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENCODER = "open_clip:embedded/clip-vit"
COLUMN = ("refscenes", "val")
WORDS = ["be", "a", "sea", "it", "is", "at", "on"]


# --- in the tests


class Warm:
    """Starts runs in a server and waits for them."""

    def __init__(self, folder: Path, models: bool) -> None:
        self.folder = folder
        self._logs: dict[int, Path] = {}
        one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        self._server = subprocess.Popen(
            [sys.executable, __file__, *["models"] * models],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **one, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert self._answer() == "ready"

    def _answer(self) -> Any:
        line = self._server.stdout.readline()
        assert line, "the server of warm runs died"
        return json.loads(line)

    def _ask(self, **request: Any) -> Any:
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def start(self, place: Path, **job: Any) -> int:
        """Starts a run with its store and results below a folder.

        Args:
            job: Arguments of `_child`; all others are settings.

        Returns:
            The process id.
        """
        log = self.folder / f"{len(self._logs)}.log"
        pid = self._ask(job={"place": str(place), **job}, log=str(log))
        self._logs[pid] = log
        return pid

    def wait(self, pid: int) -> tuple[int, str]:
        """The exit status (minus the number of the signal that ended the run) and all output."""
        return self._ask(wait=pid), self._logs[pid].read_text(errors="replace")

    def run(self, place: Path, **job: Any) -> tuple[int, str]:
        """Starts a run and waits for it."""
        return self.wait(self.start(place, **job))

    def killed(self, place: Path, after: float, by: int = signal.SIGKILL, **job: Any) -> int:
        """Starts a run, sends a signal after some seconds, and returns the exit status."""
        pid = self.start(place, **job)
        time.sleep(after)
        os.kill(pid, by)  # a run that has ended can still be waited for
        return self.wait(pid)[0]

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(60)


@contextmanager
def warm(folder: Path, models: bool) -> Iterator[Warm]:
    """A server that runs as long as the body."""
    server = Warm(folder, models)
    try:
        yield server
    finally:
        server.close()


# --- in the server


def _table(place: Path, **overrides: Any) -> None:
    """The three own rows of Table 1 on the first images of one column."""
    import pandas as pd

    from tasnb.method.pipeline import Pipeline
    from tasnb.results import shown, tables

    pipeline = Pipeline(_settings(store=place / "store", out=place / "out", **overrides))
    rows = [
        tables.rows(
            "table1", name, ENCODER, *COLUMN, tables.outcome(pipeline, name, ENCODER, *COLUMN)
        )
        for name in tables.OWN
    ]
    shown.save(pd.concat(rows, ignore_index=True), "table1", pipeline.settings)


def _letters(place: Path, shard_size: int = 2) -> None:
    """A stage with every kind of part, and a table of its results."""
    import numpy as np
    import pandas as pd

    from tasnb.store.files import atomic_write
    from tasnb.store.shards import Store

    def work(words: list[str]) -> dict[str, Any]:
        pairs = [(word, letter) for word in words for letter in word]
        return {
            "letters": pd.DataFrame(pairs, columns=["key", "letter"]),
            "length": np.array([len(word) for word in words], dtype=np.float32),
        }

    stage = Store(place / "store").stage("letters", 1, {})
    stage.compute(WORDS, work, shard_size)
    with atomic_write(place / "out" / "letters.csv") as path:
        stage.read(WORDS, "letters").to_csv(path, index=False)


def _settings(**overrides: Any) -> Any:
    from tasnb.settings import make_settings

    few = {"limit": 6, "shard_size": 1, "points_per_side": 4, "encoders": [ENCODER]}
    column = {"datasets": [COLUMN[0]], "splits": [COLUMN[1]]}
    return make_settings(**{**few, **column, **overrides})


def _load() -> None:
    import torch

    from tasnb.method import language
    from tasnb.models import captioners, encoders, parsers
    from tasnb.models.proposal_networks import load_proposal_network
    from tasnb.results import shown, tables  # noqa: F401

    torch.set_num_threads(1)  # a process with threads must not be forked
    settings = _settings()
    load_proposal_network(settings)
    captioners.load_captioner(settings)
    encoders.load_encoder(ENCODER, settings)
    parsers.load_parser(settings.spacy_model)
    wordnet = parsers.load_wordnet(settings.data / "wordnet" / "wordnet.zip")
    language.are_synonyms("dog", "cat", wordnet)  # forks share the position in the archive's file


def _die_at(step: int, place: str) -> None:
    """Kills itself at the step-th file change below a folder: before it, or half-way through."""
    left = step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        changes = event in ("os.rename", "os.mkdir", "os.remove") or (
            event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
        )
        if changes and str(arguments[0]).startswith(place):
            left -= 1
            if left == 0:
                if event == "open":  # opened, nothing written yet
                    os.close(os.open(arguments[0], os.O_CREAT | os.O_TRUNC | os.O_WRONLY))
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _child(
    place: str,
    work: str = "table",
    die_at: int | None = None,
    file_size: int | None = None,
    **job: Any,
) -> int:
    """One run.

    Args:
        place: Contains its store and out.
        work: "table" or "letters".
        die_at: See `_die_at`.
        file_size: Maximum size of a file (bytes); larger ones fail as on a full disk.

    Returns:
        The exit status, as on the command line: 2 for an InputError, 130 after Ctrl-C.
    """
    from tasnb.settings import InputError

    if die_at:
        _die_at(die_at, place)
    if file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        sys.stderr = io.StringIO()  # later, output also goes to a file
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
    try:
        {"table": _table, "letters": _letters}[work](Path(place), **job)
    except InputError as error:
        print(f"\nInputError: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            os.write(2, sys.stderr.getvalue().encode())
    return 0


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import numpy  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import tqdm  # noqa: F401

    import tasnb.store.shards  # noqa: F401

    if "models" in sys.argv:
        _load()
    # Or else a child begins by looking for garbage among all of this, for half a second, and a
    # Ctrl-C that arrives in a destructor meanwhile is ignored.
    gc.collect()
    gc.freeze()
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            found: int = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            found = os.fork()
            if not found:
                log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(log, 1)
                os.dup2(log, 2)
                status = 1
                try:
                    status = _child(**request["job"])
                    sys.stderr.flush()
                finally:
                    os._exit(status)
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
