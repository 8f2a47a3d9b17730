"""Settings from the arguments of a command, and its words for what went wrong."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tasnb.profiles import DATASETS
from tasnb.settings import InputError


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that have options of their own in ``run`` and ``sweep``, if they are given."""
    overrides: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("profile", "recipe", "splits")
        if getattr(arguments, name) is not None
    }
    for name in ("out", "store"):  # as typed in this shell; notebooks run elsewhere
        if getattr(arguments, name) is not None:
            overrides[name] = str(Path(getattr(arguments, name)).expanduser().absolute())
    if arguments.datasets is not None:
        overrides["datasets"] = [
            name if name in DATASETS or not Path(name).is_dir() else str(Path(name).absolute())
            for name in arguments.datasets
        ]
    if arguments.limit is not None:
        overrides["limit"] = whole("--limit", arguments.limit, ", 0 for all")
    return overrides


def given_for_pictures(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that ``segment`` and ``explore`` are given; ``-p`` has the last word."""
    from tasnb.workbook.parameters import settings_from_text

    recipe = {} if arguments.recipe is None else {"recipe": arguments.recipe}
    changed = settings_from_text(dict(arguments.parameters))
    return {"profile": arguments.profile, **recipe, **changed}


def whole(name: str, text: str, hint: str = "") -> int:
    """The whole number, at least 0, that an option was given.

    Raises:
        InputError: It is none.
    """
    try:
        if (number := int(text)) >= 0:
            return number
    except ValueError:
        pass
    raise InputError(f"{name} {text!r}: should be a whole number{hint}")


def say(message: object, status: int) -> int:
    """Prints one line to stderr and returns the exit status."""
    print(f"tasnb: {message}", file=sys.stderr)
    return status
