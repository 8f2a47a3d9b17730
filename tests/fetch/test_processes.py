"""Two processes that fetch the same, and such as are interrupted or killed."""

from __future__ import annotations

import fcntl
import signal
import threading
import time
from pathlib import Path

import pytest
from loopback import (
    DATA,
    Handler,
    Site,
    all_files,
    child,
    etag,
    get,
    sha256,
    table,
)

from tasnb.settings import InputError


@pytest.mark.slow
def test_two_processes(site: Site, tmp_path: Path) -> None:
    """The second says that the first is at it, and the first is not disturbed."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(handler: Handler, content: bytes) -> None:
        handler.answer(200, content[:1000], Content_Length=len(content), ETag=etag(content))
        begun.set()
        assert go_on.wait(30)
        handler.wfile.write(content[1000:])

    found = table(site.put("a", DATA, slow), sha256=sha256(DATA))
    first = child(found, tmp_path)
    assert begun.wait(60)
    with pytest.raises(InputError, match=r"another process is downloading a to .*/a\.bin: wait"):
        get(tmp_path, found)
    go_on.set()
    out, err = first.communicate(timeout=60)
    assert (first.returncode, out) == (0, f"a: {tmp_path}/checkpoints/a.bin\n"), err
    assert all_files(tmp_path) == ["checkpoints/a.bin"]
    assert get(tmp_path, found)[0].endswith("(already there)")
    assert len(site.asked) == 1


def test_lock_of_a_killed_process(site: Site, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    lock = tmp_path / "checkpoints/a.bin.lock"
    lock.touch()
    found = table(site.put("a", DATA))
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            get(tmp_path, found)
        assert lock.exists()
    get(tmp_path, found)
    assert all_files(tmp_path) == ["checkpoints/a.bin"]


def test_lock_that_is_given_up_meanwhile(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process ends between our opening the lock and our locking it, its file complete."""
    path = tmp_path / "checkpoints/a.bin"
    real, calls = fcntl.flock, []

    def flock(descriptor: int, how: int) -> None:
        if not calls:
            path.with_name("a.bin.lock").unlink()
            path.write_bytes(DATA)
        calls.append(how)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert get(tmp_path, table(site.put("a", DATA)))[0].endswith("(already there)")
    assert len(calls) == 2 and not site.asked
    assert all_files(tmp_path) == ["checkpoints/a.bin"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupt(site: Site, tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C, or a killed process: the next call resumes from the part."""
    over = threading.Event()

    def waits(handler: Handler, content: bytes) -> None:
        handler.answer(200, content[:20_000], Content_Length=len(content), ETag=etag(content))
        over.wait(30)

    found = table(site.put("a", DATA, waits))
    process = child(found, tmp_path)
    part = tmp_path / "checkpoints/a.bin.part"
    while not (part.is_file() and part.stat().st_size > 8000):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    over.set()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines()[-1].startswith("tasnb: interrupted; run the same command again")
        assert part.stat().st_size == 20_000
    size = part.stat().st_size
    get(tmp_path, found)
    assert site.asked[-1] == ("/a", f"bytes={size}-", etag(DATA))
    assert (tmp_path / "checkpoints/a.bin").read_bytes() == DATA
    assert all_files(tmp_path) == ["checkpoints/a.bin"]
