"""Checkpoints that the workbook carries: where they lie, and whether they are what their card says."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from tasnb.settings import InputError, Settings
from tasnb.store import file_digest, fingerprint

EMBEDDED = "embedded/"


def is_embedded(name: str) -> bool:
    """True for the name of a checkpoint that lies under ``data/embedded/checkpoints``."""
    return name.startswith(EMBEDDED)


def embedded_folder(name: str, settings: Settings) -> Path:
    """The verified folder of an embedded checkpoint such as ``"embedded/clip-vit"``.

    Raises:
        InputError: There is no such checkpoint, or one of its files is not what its card says.
    """
    root = settings.data / "embedded" / "checkpoints"
    folder = root / name.removeprefix(EMBEDDED)
    if not (folder / "card.json").is_file():
        known = ", ".join(sorted(EMBEDDED + path.parent.name for path in root.glob("*/card.json")))
        raise InputError(f"no checkpoint '{name}' in {root}; there are: {known or 'none'}")
    weights_digest(folder)
    return folder


@lru_cache(maxsize=32)
def weights_digest(folder: Path) -> str:
    """SHA-256 over a checkpoint's files, each held against the one on the card.

    Args:
        folder: A folder with ``card.json``, whose ``files`` map names to SHA-256 digests.

    Raises:
        InputError: A file is missing or differs from the card.
    """
    files: dict[str, str] = json.loads((folder / "card.json").read_text())["files"]
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing; restore it with `git checkout -- {folder}`")
        found = file_digest(path)
        if found != expected:
            raise InputError(
                f"{path} has SHA-256 {found[:12]}..., its card says {expected[:12]}...; "
                f"restore it with `git checkout -- {folder}`"
            )
    return fingerprint(files)
