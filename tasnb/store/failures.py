"""Items that could not be computed and were skipped: ``failures.json`` in a stage's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tasnb.settings import InputError, shown
from tasnb.store.files import atomic_write

NAME = "failures.json"


def note(
    folder: Path, failed: Mapping[str, str], missing: Callable[[Iterable[str]], list[str]]
) -> None:
    """Records in the file which keys failed, in this run or before, and are still not stored.

    Args:
        folder: The folder of the stage.
        failed: Key -> error in this run; usually empty.
        missing: Returns those of the given keys that are not stored.
    """
    file = folder / NAME
    noted: dict[str, str] = {}
    with suppress(OSError, ValueError, TypeError):  # usually there is no such file
        noted |= json.loads(file.read_bytes())
    noted |= failed
    left = missing(noted) if noted else []
    if left:
        with atomic_write(file) as temporary:
            text = json.dumps({key: noted[key] for key in left}, indent=2, ensure_ascii=False)
            temporary.write_text(f"{text}\n", encoding="utf-8")
    elif noted:
        file.unlink(missing_ok=True)


def error_of(stage: str, folder: Path, failed: Mapping[str, str], count: int) -> InputError:
    """The error that summarizes all failures of a stage in one line.

    Args:
        stage: The name of the stage.
        folder: The folder of the stage.
        failed: Key -> error.
        count: The number of keys that were to be computed.
    """
    some = "; ".join(f"{shown(key)} ({error})" for key, error in list(failed.items())[:3])
    more = f"; {len(failed) - 3} more" if len(failed) > 3 else ""
    return InputError(
        f"stage {stage}: {len(failed)} of {count} failed: {some}{more}; all are listed in "
        f"{folder / NAME}; the rest is stored, and the same command retries only these"
    )
