"""What a run has tried in vain and gone on without: ``failures.json`` in a stage's folder."""

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
    """Keeps in the file what failed, now or before, and is still not stored.

    Args:
        folder: The stage's.
        failed: Key -> error of this run; mostly nothing.
        missing: Tells which keys are not stored.
    """
    file = folder / NAME
    noted: dict[str, str] = {}
    with suppress(OSError, ValueError, TypeError):  # mostly there is no such file
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
    """The one line about all failures of a stage.

    Args:
        stage: Its name.
        folder: Its folder.
        failed: Key -> error.
        count: How many keys were to be computed.
    """
    some = "; ".join(f"{shown(key)} ({error})" for key, error in list(failed.items())[:3])
    more = f"; {len(failed) - 3} more" if len(failed) > 3 else ""
    return InputError(
        f"stage {stage}: {len(failed)} of {count} failed: {some}{more}; all are in "
        f"{folder / NAME}; the rest is stored, the same command tries only these again"
    )
