"""Fetching models and data sets: ``python -m tasnb fetch``.

Files come by ``transfers`` and are unpacked by ``archives``; repositories of Hugging Face's hub,
open_clip's weights and spaCy's pipelines come by their own libraries, into their own folders, where
a later load finds them.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import invalidate_caches
from pathlib import Path

from tasnb.fetch.archives import unpack
from tasnb.fetch.download import Expected, check_room, size_text, writing
from tasnb.fetch.sources import File, Hub, Item, OpenClip, Piece, Sources, Spacy, load_sources
from tasnb.fetch.transfers import Patience, digest_of, part_of, transfer
from tasnb.settings import ROOT, InputError

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Variables of the environment that forbid any fetching, as for Hugging Face's libraries."""


def fetch(
    names: Iterable[str],
    to: str | Path | None = None,
    *,
    patience: Patience | None = None,
    sources: Sources | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Fetches what is missing of some items; what was begun goes on where it was.

    Args:
        names: Items and bundles of the table.
        to: The data folder; the repository's by default.
        patience: How often and how long to try.
        sources: Another table.
        say: Takes a line about each item.

    Raises:
        InputError: A name is unknown, something cannot be fetched or written, or lies there with
            another content than it should have. The other items are fetched before it is raised.
    """
    to = Path(to).expanduser().absolute() if to is not None else ROOT / "data"
    items = (sources or load_sources()).select(names)
    if variable := offline():
        _refuse(items, to, variable)
    # Before the first byte, since the disk would only be full after hours.
    waiting = [file for item in items for file in item.files if file.state(to) != "there"]
    if waiting:
        needed = sum(_needed(file, to) for file in waiting)
        check_room(to, needed, items[0].name if len(items) == 1 else "all of it")
    failures = []
    for item in items:
        try:
            new = [_fetch(piece, item, to, patience or Patience()) for piece in item.pieces]
        except InputError as error:  # the others are worth having all the same
            failures.append(item.name)
            if len(items) == 1:
                raise
            say(str(error))
            continue
        places = ", ".join(dict.fromkeys(str(piece.where(to)) for piece in item.pieces))
        say(f"{item.name}: {places}" + ("" if any(new) else " is there already"))
    if failures:
        raise InputError(
            f"{len(failures)} of {len(items)} are not here: {', '.join(failures)}; the reasons are "
            "above, the same command goes on with them"
        )


def fetched_file(name: str, to: Path) -> Path:
    """The path of an item that is one file, fetched if it is nowhere yet.

    Raises:
        InputError: It is missing and cannot be fetched.
    """
    file = load_sources().select([name])[0].files[0]
    if file.state(to) != "there":
        fetch([name], to, say=lambda line: None)
    return file.where(to)


def listing(to: str | Path | None = None, *, sources: Sources | None = None) -> str:
    """A table of all that can be fetched, with what is there of it, and the bundles below it.

    Args:
        to: The data folder; the repository's by default.
        sources: Another table.
    """
    to = Path(to).expanduser().absolute() if to is not None else ROOT / "data"
    sources = sources or load_sources()
    rows = [("name", "size", "state", "where")]
    state = {item.name: item.state(to) for item in sources.items}
    for item in sources.items:
        places = ", ".join(dict.fromkeys(_short(piece.where(to), to) for piece in item.pieces))
        size = size_text(item.size) if item.size else "?"
        rows.append((item.name, size, state[item.name], places))
    name, size, *_ = (max(map(len, column)) for column in zip(*rows, strict=True))
    notes = ["", *(f"{i.what} [{i.licence}]" if i.licence else i.what for i in sources.items)]
    lines = []
    for row, note in zip(rows, notes, strict=True):
        lines.append(f"{row[0]:<{name}}  {row[1]:>{size}}  {row[2]:<7}  {row[3]}")
        lines += [f"{'':{name}}  {note}"] if note else []
    lines += ["", f"Relative places lie in {to}.", ""]
    for bundle, names in sources.bundles.items():
        items = sources.select(names)
        total = sum(item.size for item in items)
        lacking = [item for item in items if state[item.name] != "there"]
        rest = sum(item.size for item in lacking)
        left = f"up to {size_text(rest)} to come" if lacking else "all there"
        missing = ", ".join(item.name for item in lacking)
        lines.append(f"{bundle}: {size_text(total)}, {left}" + (f": {missing}" if lacking else ""))
    return "\n".join(lines)


def offline() -> str:
    """The variable of the environment that forbids fetching, "" if none does."""
    yes = {"1", "ON", "YES", "TRUE"}
    return next((name for name in OFFLINE if os.environ.get(name, "").upper() in yes), "")


def _refuse(items: list[Item], to: Path, variable: str) -> None:
    """Raises InputError for what is missing, with the place where each of it should be."""
    missing = [
        f"{item.name} at {piece.where(to)}"
        for item in items
        for piece in item.pieces
        if piece.state(to) != "there" and not _only_packed(piece, to)
    ]
    if missing:
        raise InputError(
            f"{variable} is set, so nothing is fetched, and these are missing: "
            f"{', '.join(missing)}; put them there, or unset {variable}"
        )


def _only_packed(piece: Piece, to: Path) -> bool:
    """Whether it is an archive that has come and waits to be unpacked."""
    return isinstance(piece, File) and bool(piece.unpack) and piece.comes_to(to).is_file()


def _needed(file: File, to: Path) -> int:
    """Bytes of the disk that a file still takes, an archive's content included."""
    came = file.comes_to(to)
    have = sum(path.stat().st_size for path in (came, part_of(came)) if path.is_file())
    return max(file.size - have, 0) + (file.size if file.unpack else 0)


def _fetch(piece: Piece, item: Item, to: Path, patience: Patience) -> bool:
    """Makes a piece be there; returns whether anything had to be done."""
    if isinstance(piece, File):
        return _fetch_file(piece, item.name, to, patience)
    if piece.state(to) == "there":
        return False
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # it would announce each of its attempts
    if isinstance(piece, Hub):
        _fetch_hub(piece)
    elif isinstance(piece, OpenClip):
        _fetch_open_clip(piece)
    else:
        _fetch_spacy(piece)
    # To these libraries a file that a repository does not have is no error.
    if lacking := piece.lacking(to):
        raise InputError(
            f"cannot fetch {item.name}: what came to {piece.where(to)} lacks {', '.join(lacking)}, "
            "so its publisher has changed it; update tasnb, or copy it from where it is complete"
        )
    return True


def _fetch_file(file: File, name: str, to: Path, patience: Patience) -> bool:
    if _given(file, name, to):  # before anything is written: the folder may be somebody else's
        return False
    came = file.comes_to(to)
    with writing(came):
        came.parent.mkdir(parents=True, exist_ok=True)
    with _alone(came, name):
        if _given(file, name, to):  # meanwhile
            return False
        if file.unpack and came.is_file():
            _check_given(came, file, name)
        else:
            reserve = file.size if file.unpack else 0
            transfer(file.urls, came, Expected(name, file.bytes, file.sha256, reserve), patience)
        if file.unpack:
            unpack(came, to / file.path, file.inside, file.members)
            came.unlink()
    return True


def _given(file: File, name: str, to: Path) -> bool:
    """Whether it is there, of an archive the content; what is there is held against the table."""
    if file.unpack:
        return file.state(to) == "there"
    path = file.where(to)
    if path.is_file():
        _check_given(path, file, name)
    return path.is_file()


def _check_given(path: Path, file: File, name: str) -> None:
    """Whether a file that lies there already is the one that is meant, as far as is known."""
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        raise InputError(
            f"{path} has {size} bytes instead of {file.bytes}: remove it and fetch {name} again"
        )
    if file.sha256 and (found := digest_of(path, name)) != file.sha256:
        raise InputError(
            f"{path} has SHA-256 {found} instead of {file.sha256}: remove it and fetch {name} again"
        )


def _fetch_hub(hub: Hub) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(hub.repo, allow_patterns=list(hub.allow) or None)
    except Exception as error:  # many kinds, of several libraries
        raise _failed(f"{hub.repo} from Hugging Face's hub", error, hub.where(Path())) from None


def _fetch_open_clip(weights: OpenClip) -> None:
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    try:
        download_pretrained(get_pretrained_cfg(weights.model, weights.tag))
    except Exception as error:
        what = f"open_clip's {weights.model}/{weights.tag}"
        raise _failed(what, error, weights.where(Path())) from None


def _failed(what: str, error: Exception, where: Path) -> InputError:
    first = next(iter(str(error).split("\n")), "")[:160] or type(error).__name__
    return InputError(
        f"cannot fetch {what} ({first}); try again, or copy {where} from where it has been fetched"
    )


def _fetch_spacy(pipeline: Spacy) -> None:
    command = ["-m", "spacy", "download", pipeline.name]
    # What it says goes to standard error: standard output is for our own lines.
    done = subprocess.run([sys.executable, *command], stdout=2, check=False)
    invalidate_caches()
    if done.returncode:
        raise InputError(
            f"cannot install {pipeline.name}: `python {' '.join(command)}` ended with status "
            f"{done.returncode}; run it in this environment with a network in reach"
        )


def _short(path: Path, to: Path) -> str:
    """A path as the listing shows it: relative to the data folder, or to the user's own."""
    for base, mark in ((to, ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return mark + str(path.relative_to(base))
    return str(path)


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """Keeps other processes from fetching the same file meanwhile.

    Raises:
        InputError: One is at it.
    """
    lock = path.with_name(f"{path.name}.lock")
    while True:
        with writing(lock):
            file = lock.open("w")
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise InputError(
                f"another process is fetching {name} to {path}: wait for it, or end it"
            ) from None
        except OSError:
            pass  # a file system without locks, as some network drives: as well as can be
        # Its last owner may have removed the file between our opening and our locking it.
        if lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat()):
            break
        file.close()
    with file:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
