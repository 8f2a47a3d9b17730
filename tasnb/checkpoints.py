"""Checkpoints that the workbook carries: where they lie, and whether their cards tell the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from tasnb.settings import ROOT, InputError, Settings, unknown
from tasnb.store import file_digest, fingerprint

EMBEDDED = "embedded/"

T = TypeVar("T")


def registered(what: str, model: str, registry: Mapping[str, T]) -> T:
    """The entry of a registry for a model such as ``"open_clip:embedded/clip-vit"``.

    Raises:
        InputError: The kind, before the colon, is none of the registry's.
    """
    kind = model.partition(":")[0]
    if kind not in registry:
        raise unknown(f"kind of {what}", kind, registry)
    return registry[kind]


def checkpoint_folder(model: str, settings: Settings) -> Path:
    """The verified folder of a model such as ``"open_clip:embedded/clip-vit"``.

    Raises:
        InputError: There is no such checkpoint, or one of its files is not what its card says.
    """
    name = model.partition(":")[2]
    root = settings.data / "embedded" / "checkpoints"
    folder = root / name.removeprefix(EMBEDDED)
    if not name.startswith(EMBEDDED) or not (folder / "card.json").is_file():
        known = sorted(EMBEDDED + path.parent.name for path in root.glob("*/card.json"))
        raise unknown("checkpoint", name, known or ["none: data/ is incomplete"])
    weights_digest(folder)
    return folder


def model_digest(model: str, settings: Settings) -> str:
    """What identifies the weights of a model, found without loading them.

    Of a file or a folder that is named by its path, its content; of a model of a hub, its name; ""
    for a method that has no weights.
    """
    kind, _, name = model.partition(":")
    if not name:
        return ""
    if is_elsewhere(model):
        path = ROOT / Path(name.partition("/")[2] if kind == "open_clip" else name).expanduser()
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return fingerprint([name, {f.name: file_digest(f) for f in files if f.is_file()}])
    return weights_digest(checkpoint_folder(model, settings))


def is_elsewhere(model: str) -> bool:
    """Whether a model is none of the workbook's own: on a hub, or named by its path."""
    kind, _, name = model.partition(":")
    named = kind in ("hf", "file") or (kind == "open_clip" and "/" in name)
    return named and not name.startswith(EMBEDDED)


@contextmanager
def loading(model: str, instead: str, *errors: type[Exception]) -> Iterator[None]:
    """Turns what a library raises while it loads a model into one line.

    Args:
        instead: What to name, as "a folder".
        errors: What the library raises.

    Raises:
        InputError: The library raised one of them.
    """
    try:
        yield
    except errors as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"cannot load {model} ({first}); name {instead} with a network in reach"
        ) from None


def model_source(model: str, settings: Settings) -> str:
    """What ``from_pretrained`` of transformers takes: a folder, or a hub's name as it stands."""
    if not is_elsewhere(model):
        return str(checkpoint_folder(model, settings))
    name = model.partition(":")[2]
    folder = ROOT / Path(name).expanduser()
    return str(folder) if folder.is_dir() else name


@lru_cache(maxsize=32)
def weights_digest(folder: Path) -> str:
    """SHA-256 over a checkpoint's files, each held against the one on the card.

    Args:
        folder: A folder with ``card.json``, whose ``files`` map names to SHA-256 digests.

    Raises:
        InputError: A file is missing or differs from the card.
    """
    try:
        card = json.loads((folder / "card.json").read_text())
        files: dict[str, str] = {str(name): str(sha) for name, sha in card["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{folder / 'card.json'} is no card; restore it with `git checkout -- {folder}`"
        ) from None
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
