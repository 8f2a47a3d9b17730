"""Folders that a command writes as a whole, and replaces as a whole if it is run again.

A file in the folder, its mark, lists the digests of all others. A folder without this mark, or in
which a file was added, changed or removed since, is never replaced: somebody may need its content.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasnb.settings import InputError
from tasnb.store.files import check_new, file_digest


def check_output(path: Path, mark: str, option: str = "--out") -> None:
    """Raises an InputError if a path exists and is not an earlier output, unchanged.

    Empty folders count as new.

    Args:
        path: A folder.
        mark: The name of the file in it that lists the others.
        option: The option that names the folder.
    """
    try:
        listed = json.loads((path / mark).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        listed = None
    if path.is_symlink() or not isinstance(listed, dict):
        check_new(path, option)
        return
    there = _digests(path, mark)
    changed = sorted(n for n in {*there, *listed} if there.get(n) != listed.get(n))
    if changed:
        raise InputError(
            f"{option} {path} exists, and {changed[0]} in it was changed since it was "
            "written: remove the folder, or choose another name"
        )


@contextmanager
def output_folder(
    path: Path, mark: str, content: Mapping[str, Any], option: str = "--out"
) -> Iterator[Path]:
    """Yields a temporary folder, and at the end gives it the mark and the name `path`.

    An earlier output at `path` is replaced; if the body fails, it is left as it was.

    Args:
        path: A folder, see `check_output`.
        mark: The name of the file that lists all others.
        content: What else this file states.
        option: The option that names the folder.

    Raises:
        InputError: `path` exists and is not an earlier output, or cannot be written.
    """
    check_output(path, mark, option)
    number = uuid.uuid4().hex[:8]
    temporary, old = (path.with_name(f".tmp-{number}-{k}-{path.name}") for k in ("new", "old"))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        text = json.dumps({**content, "files": _digests(temporary, mark)}, indent=2)
        (temporary / mark).write_text(f"{text}\n", encoding="utf-8")
        check_output(path, mark, option)  # again, since the body may have taken minutes
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        reason = error.strerror or error
        raise InputError(f"cannot write {path}: {reason}; choose another folder") from error
    finally:
        for one in (temporary, old):
            shutil.rmtree(one, ignore_errors=True)


def _digests(folder: Path, mark: str) -> dict[str, str]:
    """SHA-256 of every file below a folder but the mark, by path relative to the folder."""
    files = sorted(file for file in folder.rglob("*") if not file.is_dir())
    names = {file.relative_to(folder).as_posix(): file for file in files}
    return {name: file_digest(file) for name, file in names.items() if name != mark}
