"""Reads the files in which datasets are published: JSON and pickles of plain data."""

from __future__ import annotations

import json
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasnb.profiles import DATASETS
from tasnb.settings import InputError
from tasnb.store.files import size_and_time


class _Plain(pickle.Unpickler):
    """Reads containers, strings and numbers only; anything that would load code is refused.

    A pickle can call any function while it is read, and a refs file may come from anywhere.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it would load {module}.{name}")


def read_pickle(path: Path) -> Any:
    """Reads a pickle of plain containers, strings and numbers, written by Python 2 or 3.

    Raises:
        InputError: It contains anything else, or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Plain(file, encoding="utf-8", errors="replace").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise InputError(
            f"{path} is not a pickle of plain data ({str(error) or type(error).__name__}); nothing "
            "in it was executed; fetch it again from a source that you trust"
        ) from None


def read(path: Path) -> Any:
    """The content of a JSON file (UTF-8 or UTF-16) or a pickle; read again only if it changes.

    Raises:
        InputError: It is missing, or is neither of the two.
    """
    try:
        return _parsed(path, size_and_time(path))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {mend(path)}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # also raised for bytes that are not text
        raise InputError(f"{path} is not JSON ({error}); {mend(path)}") from None


@lru_cache(maxsize=16)
def _parsed(path: Path, _changed: tuple[int, int]) -> Any:
    return read_pickle(path) if path.suffix == ".p" else json.loads(path.read_bytes())


def mend(path: Path) -> str:
    """What to do about a dataset's file that is missing or damaged."""
    if "embedded" in path.parts:
        return "restore it with `git checkout -- data`"
    known = {**dict.fromkeys(DATASETS), "train2014": "coco-train2014"}
    known["visual_genome"] = "visual-genome"
    item = next((known[part] or part for part in reversed(path.parts) if part in known), None)
    return f"`python -m tasnb fetch {item}`" if item else "see README.md for the dataset layout"
