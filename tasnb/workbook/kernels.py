"""Runs a notebook in its own kernel and shows its progress bars in this terminal."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from tasnb.settings import InputError
from tasnb.workbook.spare import KERNEL, Kernel

SAVED = 5.0  # seconds for which a saved notebook is recent enough, while it runs
CELL_SECONDS = 12 * 3600  # a cell may take hours on the paper's data, but a hung one must end


def check_kernel() -> None:
    """Raises an InputError unless the kernel "python3" is the Python of this environment."""
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # rather than one in the user's home
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    mend = f"run: {sys.executable} -m ipykernel install --sys-prefix"
    try:
        command = KernelSpecManager().get_kernel_spec(KERNEL).argv[0]
    except NoSuchKernel:
        raise InputError(f'there is no Jupyter kernel "{KERNEL}"; {mend}') from None
    # A bare "python" is this Python. Links are not resolved, since they distinguish environments.
    own = command in ("python", "python3") or Path(command).parent == Path(sys.executable).parent
    if not own:
        raise InputError(
            f'the Jupyter kernel "{KERNEL}" is {command}, not {sys.executable}; {mend}'
        )


def execute(
    source: Path, target: Path, parameters: Mapping[str, Any], kernel: Kernel | None = None
) -> Any:
    """Runs a notebook with papermill, and shows its progress bars in this terminal.

    Args:
        source: the notebook.
        target: the executed notebook, also saved every few seconds while it runs.
        parameters: checked values, injected after the cell tagged `parameters`.
        kernel: runs the cells in its folder, and is shut down. None: only inject the parameters
            without running anything.

    Returns:
        The executed notebook, an nbformat node.

    Raises:
        PapermillExecutionError: a cell raised.
        RuntimeError: the kernel died or did not start.
        TimeoutError: a cell took longer than `CELL_SECONDS`.
    """
    import papermill  # takes a second
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # errors are reported once, by us

    def literal(path: Path) -> str:  # papermill formats {...} in a path
        return str(path).replace("{", "{{").replace("}", "}}")

    try:
        with _away_from_terminal() as terminal:
            return papermill.execute_notebook(
                literal(source),
                literal(target),
                parameters=dict(parameters),
                engine_name=_engine(),
                kernel_name=KERNEL,
                language="python",  # also for a notebook whose metadata does not state it
                execution_timeout=CELL_SECONDS,
                start_timeout=300,
                prepare_only=kernel is None,
                progress_bar=False,
                stderr_file=ProgressBars(terminal),
                coalesce_streams=True,  # the saved notebook keeps only the last state of a bar
                km=kernel and kernel.manager,
            )
    except DeadKernelError as error:
        words = kernel.words() if kernel else []
        raise RuntimeError(" ".join([str(error), *words])[:300]) from None
    finally:
        if kernel:
            kernel.close()


@cache
def _engine() -> str:
    """Registers papermill's engine for kernels that have been started already; its name."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(
            cls,
            nb_man: Any,
            kernel_name: str,
            start_timeout: float = 60,
            execution_timeout: float | None = None,
            input_path: str | None = None,
            **options: Any,
        ) -> Any:
            nb_man.save = _seldom(nb_man.save)
            client = PapermillNotebookClient(
                nb_man,
                kernel_name=kernel_name,
                startup_timeout=start_timeout,
                timeout=execution_timeout,
                log=logging.getLogger("papermill"),
                **options,
            )
            try:
                return client.execute(cleanup_kc=True)  # shuts the kernel down as if its own
            finally:
                del nb_man.save  # the last call is papermill's own, after this

    papermill_engines.register("tasnb", Engine)
    return "tasnb"


def _seldom(save: Callable[[], None]) -> Callable[[], None]:
    """A function that saves a notebook like ``save``, but not again within ``SAVED`` seconds.

    papermill writes a notebook with all of its figures before and after every cell, during which
    the kernel waits.
    """
    saved = -math.inf

    def call(**options: Any) -> None:
        nonlocal saved
        if time.monotonic() - saved >= SAVED:
            save(**options)
            saved = time.monotonic()

    return call


@contextmanager
def _away_from_terminal() -> Iterator[TextIO]:
    """Hides what libraries write to stderr, such as on interruption; yields the terminal."""
    sys.stderr.flush()
    with (
        os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as terminal,
        open(os.devnull, "w") as hidden,
    ):
        os.dup2(hidden.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stderr.flush()
            os.dup2(terminal.fileno(), 2)


class ProgressBars:
    """A file for a kernel's stderr that passes on tqdm's progress bars only, one line per bar.

    In a terminal the line is updated in place; elsewhere it is printed twice a minute and when the
    bar is full.
    """

    PERIOD = 30.0  # seconds

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal
        self.moving = terminal.isatty()
        self.shown = time.monotonic()
        self.full = ""  # title of the last full bar, which tqdm draws twice

    def write(self, text: str) -> None:
        """Accepts any part of the kernel's stderr."""
        for line in re.split(r"[\r\n]+", text):
            if not (bar := re.match(r"(.*?)\s*(\d+)%\|", line)):
                continue
            title, full = bar[1], bar[2] == "100"
            if full and title == self.full:
                continue
            self.full = title if full else ""
            if self.moving:
                width = shutil.get_terminal_size().columns
                self.terminal.write("\r" + f"  {line}"[: width - 1] + "\x1b[K" + "\n" * full)
            elif full or time.monotonic() - self.shown > self.PERIOD:
                self.terminal.write(f"  {line}\n")
                self.shown = time.monotonic()

    def flush(self) -> None:
        """Flushes the terminal."""
        self.terminal.flush()
