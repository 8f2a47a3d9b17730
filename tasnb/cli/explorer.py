"""``python -m tasnb explore``: the explorer alone, in a browser."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Any

from tasnb.settings import InputError

HOST = "127.0.0.1"
SLOW = 120  # seconds until a server that does not answer is given up


def explore(arguments: argparse.Namespace) -> int:
    """Serves a notebook with nothing but the explorer, until Ctrl-C."""
    from tasnb.settings import make_settings
    from tasnb.workbook.parameters import settings_from_text

    overrides = {"profile": arguments.profile, **settings_from_text(dict(arguments.parameters))}
    make_settings(**overrides)
    image = arguments.image and str(Path(arguments.image).expanduser().absolute())
    if image:
        from tasnb.segmentation import pictures

        pictures.asked(image, make_settings(**overrides))  # unreadable ones are said here
    port = free_port(arguments.port)
    with tempfile.TemporaryDirectory() as folder:
        notebook = write_notebook(Path(folder), image, arguments.expression, overrides)
        server = serve(notebook, port)
        try:
            address = f"http://{HOST}:{port}"
            wait_for(address, server)
            print(f"explorer: {address} (Ctrl-C ends it)", flush=True)
            if not arguments.no_browser:
                webbrowser.open(address)
            server.wait()
        except KeyboardInterrupt:
            print()
            return 0
        finally:
            end(server)
    raise InputError("the explorer's server ended by itself; see its messages above")


def write_notebook(
    folder: Path, image: str | None, expression: str, overrides: dict[str, Any]
) -> Path:
    """A notebook with one cell, which shows the explorer."""
    import nbformat

    given = "".join(f", {name}={value!r}" for name, value in overrides.items())
    code = f"import tasnb\ntasnb.explore({image!r}, {expression!r}{given})"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata.title = "TAS explorer"
    path = folder / "explorer.ipynb"
    nbformat.write(notebook, path)
    return path


def serve(notebook: Path, port: int) -> subprocess.Popen[bytes]:
    """Starts Voilà, which runs a notebook for every visitor and shows only its output."""
    command = [sys.executable, "-m", "voila", str(notebook), "--no-browser", f"--port={port}"]
    command += [f"--Voila.ip={HOST}", "--port_retries=0", "--Voila.log_level=ERROR"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    return subprocess.Popen(command, env=environment, start_new_session=True)


def free_port(text: str) -> int:
    """The port asked for, or any free one if it is taken.

    Raises:
        InputError: It is not a port.
    """
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise InputError(f"--port {text!r}: should be a number from 1 to 65535")
    for port in (int(text), 0):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((HOST, port))
            except OSError:
                continue
            return int(tried.getsockname()[1])
    raise InputError(f"--port {text}: no port of {HOST} can be used")


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Returns once the server answers.

    Raises:
        InputError: It ended, or did not answer for ``SLOW`` seconds.
    """
    began = time.monotonic()
    while time.monotonic() - began < SLOW:
        if server.poll() is not None:
            raise InputError("the explorer's server could not be started; see its messages above")
        try:
            with urllib.request.urlopen(f"{address}/voila/static/", timeout=2):
                return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.3)
    raise InputError(f"the explorer's server did not answer for {SLOW} seconds")


def end(server: subprocess.Popen[bytes]) -> None:
    """Ends the server and its kernels."""
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
