"""The files of a model: whether they are all there, unchanged and undamaged."""

from __future__ import annotations

import re
from pathlib import Path

from tasnb.fetch.sources import File, Hub, OpenClip, Piece, load_sources
from tasnb.models.checkpoints import checkpoint_folder, is_elsewhere, placed
from tasnb.settings import InputError, Settings
from tasnb.store.files import file_digest, fingerprint, size_and_time


def lacking(model: str, settings: Settings) -> str:
    """What is missing of a model and how to download it; "" if it is complete.

    A model given by its path is complete if the path exists: what else it lacks, loading it says.
    """
    if not is_elsewhere(model):
        try:
            checkpoint_folder(model, settings)
        except InputError as error:
            return str(error)
        return ""
    if _given(model, settings) is not None:
        return ""
    item, pieces = _pieces(model)
    for piece in pieces:
        state = piece.state(settings.data)
        if state != "complete":
            missing = [] if isinstance(piece, File) else piece.lacking(settings.data)
            part = state if state == "missing" else f"incomplete, lacks {', '.join(missing)}"
            if isinstance(piece, File) and state == "partial":
                part = f"incomplete: {piece.where(settings.data)}"
            fix = f"python -m tasnb fetch {item}" if item else f"hf download {piece.repo}"
            return f"{part}; `{fix}`"
    return ""


def stamp(model: str, settings: Settings) -> str:
    """Identifies a model's files by their names, sizes and times, without reading them."""
    found = [(path.name, *size_and_time(path)) for path in files_of(model, settings)]
    return fingerprint(sorted(found))


def damaged(model: str, settings: Settings) -> str:
    """The first file whose content differs from its published digest; "" if none does.

    Reads all files for which a digest is known, which takes seconds per gigabyte.
    """
    known = {}
    if is_elsewhere(model) and _given(model, settings) is None:
        known = {
            piece.where(settings.data).name: piece.sha256
            for piece in _pieces(model)[1]
            if isinstance(piece, File) and piece.sha256
        }
    for path in files_of(model, settings):
        # The hub's cache names the content of a large file after its SHA-256.
        blob = path.resolve().name
        digest = blob if re.fullmatch(r"[0-9a-f]{64}", blob) else known.get(path.name)
        if digest and file_digest(path) != digest:
            return path.name
    return ""


def files_of(model: str, settings: Settings) -> list[Path]:
    """The files of a model on this machine; none for a method without weights."""
    if not is_elsewhere(model):
        return _files(settings.data / "embedded" / "checkpoints" / Path(model).name)
    given = _given(model, settings)
    if given is not None:
        return _files(given)
    found = []
    for piece in _pieces(model)[1]:
        if isinstance(piece, Hub | OpenClip):
            found += (piece.hub if isinstance(piece, OpenClip) else piece).files(settings.data)
        else:
            found += _files(piece.where(settings.data))
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    return [path] if path.is_file() else []


def _given(model: str, settings: Settings) -> Path | None:
    """The path in a model's name, if it has one that exists and is not a download of ours."""
    kind, _, name = model.partition(":")
    given = name.partition("/")[2] if kind in ("open_clip", "sam") else name
    path = placed(given, settings.data)
    return path if given and path.exists() and not _pieces(model)[1] else None


def _pieces(model: str) -> tuple[str, tuple[Piece, ...]]:
    """The item of the table of downloads that is a model, with its pieces; or the hub's cache."""
    kind, _, name = model.partition(":")
    architecture, _, tag = name.partition("/")
    for item in load_sources().items:
        for piece in item.pieces:
            if isinstance(piece, OpenClip):
                same = kind == "open_clip" and piece.tag == tag
                found = same and piece.model in (architecture, f"{architecture}-quickgelu")
            elif isinstance(piece, Hub):
                found = kind not in ("open_clip", "sam") and piece.repo == name
            elif isinstance(piece, File):
                own = f"sam-{name.replace('_', '-')}" if kind == "sam" else ""
                found = item.name == own or piece.path == f"checkpoints/{name}"
            else:
                found = False
            if found:
                return item.name, item.pieces
    if kind in ("open_clip", "sam", "felzenszwalb", "file", "fastsam") or not name:
        return "", ()
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        return "", ()
    return "", (Hub(repo=name, needs=("config.json",)),)
