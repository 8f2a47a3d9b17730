"""Runs a notebook in its own kernel and shows its progress bars in this terminal."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tasnb.settings import InputError

KERNEL = "python3"
RUN = "TASNB_RUN"
"""Environment variable that is "1" in kernels started here. Otherwise a notebook is run by hand,
and `tasnb.workbook.start` makes sure that it does not write into a finished run."""
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
    source: Path, target: Path, parameters: Mapping[str, Any], prepare_only: bool = False
) -> Any:
    """Runs a notebook with papermill, and shows its progress bars in this terminal.

    Args:
        source: the notebook; its cells run in its folder.
        target: the executed notebook, saved after every cell.
        parameters: checked values, injected after the cell tagged `parameters`.
        prepare_only: inject the parameters without running anything.

    Returns:
        The executed notebook, an nbformat node.

    Raises:
        PapermillExecutionError: a cell raised.
        RuntimeError: the kernel died or did not start.
        TimeoutError: a cell took longer than `CELL_SECONDS`.
    """
    import papermill  # takes a second

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # errors are reported once, by us

    def literal(path: Path) -> str:  # papermill formats {...} in a path
        return str(path).replace("{", "{{").replace("}", "}}")

    with _away_from_terminal() as terminal, _environment({RUN: "1"}):
        return papermill.execute_notebook(
            literal(source),
            literal(target),
            parameters=dict(parameters),
            kernel_name=KERNEL,
            language="python",  # also for a notebook whose metadata does not state it
            cwd=source.parent,
            execution_timeout=CELL_SECONDS,
            start_timeout=300,
            prepare_only=prepare_only,
            progress_bar=False,
            stderr_file=ProgressBars(terminal),
            coalesce_streams=True,  # the saved notebook keeps only the last state of a bar
        )


@contextmanager
def _environment(names: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for processes started while the body runs."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _away_from_terminal() -> Iterator[TextIO]:
    """Hides what a kernel process writes to the stderr that it inherits; yields the terminal.

    These are warnings on startup and tracebacks on interruption, but also the last messages of a
    kernel that died, which are added to the error.
    """
    from nbclient.exceptions import DeadKernelError

    sys.stderr.flush()
    with (
        os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as terminal,
        tempfile.TemporaryFile() as hidden,
    ):
        os.dup2(hidden.fileno(), 2)
        try:
            yield terminal
        except DeadKernelError as error:
            hidden.seek(0)
            lines = hidden.read().decode(errors="replace").splitlines()
            words = [line for line in lines if line and not line.startswith("[IPKernelApp]")]
            raise RuntimeError(" ".join([str(error), *words])[:300]) from None
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
