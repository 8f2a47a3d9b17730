"""Reads what runs have written to disk, and damages it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Shards = dict[str, dict[str, tuple[int, int, str]]]


def sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def finished(place: Path) -> Shards:
    """The files of finished shards: file -> (inode, modification time, digest)."""
    found: Shards = {}
    for note in sorted((place / "store").glob("*/*/shard-*.json")):
        record = json.loads(note.read_text())  # never half-written
        files = [note, *(note.parent / name for name in record["files"])]
        for file in files[1:]:
            assert sha(file) == record["files"][file.name]
        stats = [file.stat() for file in files]
        found[str(note.relative_to(place))] = {
            file.name: (stat.st_ino, stat.st_mtime_ns, sha(file))
            for file, stat in zip(files, stats, strict=True)
        }
    return found


def keys(place: Path, stage: str) -> set[str]:
    """The keys in finished shards of a stage."""
    notes = (place / "store" / stage).glob("*/shard-*.json")
    return {key for note in notes for key in json.loads(note.read_text())["keys"]}


def content(place: Path) -> dict[str, Any]:
    """All files of a run, except temporary ones and what depends on the clock."""
    found: dict[str, Any] = {}
    for file in sorted(p for p in place.rglob("*") if p.is_file()):
        if file.name.startswith(".tmp-"):
            continue
        name = str(file.relative_to(place))
        found[name] = sha(file)
        if file.match("store/*/*/shard-*.json"):
            record = json.loads(file.read_text())
            found[name] = {key: record[key] for key in ("keys", "parts", "files", "rows")}
    return found


def results(place: Path) -> dict[str, Any]:
    """Only tables and scores."""
    return {name: sha_ for name, sha_ in content(place).items() if name.startswith("out/")}


def temporaries(place: Path) -> list[Path]:
    return list(place.rglob(".tmp-*"))


def totals(said: str) -> dict[str, int]:
    """How many keys each stage was to compute, by the title of its progress bar."""
    return {bar: int(n) for bar, n in re.findall(r"([^\r\n]+?):   0%\|[^|]*\| 0/(\d+)", said)}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def alter(file: Path) -> None:
    """Flips one bit in the middle and keeps the modification time."""
    data, stat = bytearray(file.read_bytes()), file.stat()
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def change(name: str, value: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Changes a field of a shard's JSON."""

    def damage(file: Path) -> None:
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, name: value(record[name])}))

    damage.__name__ = f"other {name}"
    return damage


@contextmanager
def mounted(where: Path, *options: str) -> Iterator[None]:
    """Mounts a folder while the body runs; skips the test where mounting is not allowed."""
    where.mkdir(exist_ok=True)
    command = ["mount", *options, str(where)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip(f"mounting is not allowed: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


def check_full(status: int, said: str, reason: str) -> None:
    """Checks for one line that says what to do, instead of a traceback."""
    assert status == 2, said
    line = said.splitlines()[-1]
    assert re.fullmatch(rf"InputError: cannot write .*: .*{reason}.*; choose a folder .*", line)
    assert "Traceback" not in said
