"""Starts the kernel of the next notebook while another one runs.

A kernel needs a second to start and five more to import the libraries that most notebooks use. With
a second core, this costs no time if it is done before the notebook's turn.
"""

from __future__ import annotations

import gc
import json
import os
import select
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType

from tasnb.store.memory import seldom_collected
from tasnb.workbook.times import HANDLE

KERNEL = "python3"
RUN = "TASNB_RUN"
"""Environment variable that is "1" in kernels started here. Otherwise a notebook is run by hand,
and `tasnb.workbook.start` makes sure that it does not write into a finished run."""

LIBRARIES = (
    "tasnb.workbook.start",  # with pandas
    "matplotlib.pyplot",
    "torch",
    "torchvision",
    "transformers.models.blip_2.modeling_blip_2",
    "open_clip",
    "nltk.corpus.reader",
    "spacy",
)
"""What a kernel imports before its notebook's turn, in the order in which notebooks do."""


class Kernel:
    """A kernel process, which runs in a folder and belongs to this process."""

    def __init__(self, folder: Path, early: bool = False) -> None:
        """Starts the process.

        Args:
            folder: Its working directory.
            early: Whether to import ``LIBRARIES`` until the notebook's turn has come.
        """
        from jupyter_client import KernelManager

        self.folder = folder
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (its stderr, which `close` closes)
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 (see `tasnb.workbook.times`)
        # Known when it has ended:
        self.times: dict[str, float] = {}
        self.shards: list[str] = []
        self._waiting: int | None = None
        # As papermill would start it, with a history in memory only.
        options = ["--HistoryManager.hist_file=:memory:"]
        passed = [self._told.fileno()]
        if early:
            end, self._waiting = os.pipe()
            passed.append(end)
            call = f"__import__({__name__!r}, fromlist=['load']).load({end})"
            options.append(f"--IPKernelApp.exec_lines={call}")
        self.manager = KernelManager(
            kernel_name=KERNEL, client_class="jupyter_client.asynchronous.AsyncKernelClient"
        )
        try:
            self.manager.start_kernel(
                extra_arguments=options,
                cwd=str(folder),
                env={**os.environ, RUN: "1", HANDLE: str(passed[0])},
                stderr=self._said,
                pass_fds=passed,
            )
        except BaseException:
            self.close()
            raise
        finally:
            for handle in passed[1:]:
                os.close(handle)
        self.pid: int = self.manager.provisioner.pid

    def its_turn(self) -> None:
        """Ends the early imports, after the one in progress."""
        if self._waiting is not None:
            os.close(self._waiting)
            self._waiting = None

    def words(self) -> list[str]:
        """The lines that the process has written to its stderr: what it died of, if it did."""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").splitlines()
        return [line for line in lines if line and not line.startswith("[IPKernelApp]")]

    def close(self) -> None:
        """Kills the process if it is still running."""
        self.its_turn()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self._said.close()
        if not self._told.closed:
            self._told.seek(0)
            with suppress(ValueError):  # nothing: it did not call `tasnb.start`
                told = json.loads(self._told.read())
                self.shards = told.pop("shards", [])
                self.times = told
            self._told.close()


class Kernels:
    """The kernels of a run: each notebook has its own, and one may be in reserve.

    None of them is left when the context ends.
    """

    def __init__(self) -> None:
        self._spare: Kernel | None = None
        self._taken: Kernel | None = None

    def __enter__(self) -> Kernels:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for kernel in (self._taken, self._spare):
            if kernel:
                kernel.close()

    def reserve(self, folder: Path) -> None:
        """Starts the kernel of the next notebook in a folder, if there is a core for it."""
        if not self._spare and len(os.sched_getaffinity(0)) > 1:
            self._spare = Kernel(folder, early=True)

    def take(self, folder: Path) -> Kernel:
        """The kernel in reserve if it can be used, or else a new one."""
        spare, self._spare = self._spare, None
        if spare and (spare.folder != folder or not spare.manager.is_alive()):
            spare.close()
            spare = None
        if self._taken:
            self._taken.close()
        self._taken = spare or Kernel(folder)
        self._taken.its_turn()
        return self._taken


# --- in the kernel


def load(handle: int) -> None:
    """Imports ``LIBRARIES`` one by one until the pipe is closed at its other end.

    That is the case when the notebook's turn has come, or when the process of the run has died.

    Args:
        handle: The end of the pipe from which this process may read.
    """
    with seldom_collected():
        for name in LIBRARIES:
            if select.select([handle], [], [], 0)[0]:
                break
            with suppress(ImportError):  # reported by the cell that needs it
                import_module(name)
    gc.freeze()  # what libraries are made of is never garbage, so later searches leave it out
    os.close(handle)
