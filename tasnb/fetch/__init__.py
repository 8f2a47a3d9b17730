"""Fetching models and data sets: ``python -m tasnb fetch``.

Files are downloaded by ``transfers`` and unpacked by ``archives``. Hugging Face repositories,
open_clip's weights and spaCy's pipelines are downloaded by their own libraries, to the folders from
which these load them.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import invalidate_caches
from pathlib import Path

from tasnb.fetch.archives import unpack
from tasnb.fetch.download import Expected, check_room, size_text, writing
from tasnb.fetch.refusals import refusal
from tasnb.fetch.sources import File, Hub, Item, OpenClip, Piece, Sources, Spacy, load_sources
from tasnb.fetch.transfers import Patience, digest_of, part_of, transfer
from tasnb.settings import ROOT, InputError

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Environment variables that turn off all downloads, as they do for Hugging Face's libraries."""


def fetch(
    names: Iterable[str],
    to: str | Path | None = None,
    *,
    patience: Patience | None = None,
    sources: Sources | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Downloads the missing parts of items; interrupted downloads resume where they stopped.

    Args:
        names: Names of items and bundles in the table.
        to: The data folder; the repository's by default.
        patience: How often and how long to try.
        sources: Another table.
        say: Called with one line per item.

    Raises:
        InputError: A name is unknown, a file cannot be downloaded or written, or an existing file
            has the wrong content. It is raised after the other items have been downloaded.
    """
    to = Path(to).expanduser().absolute() if to is not None else ROOT / "data"
    items = (sources or load_sources()).select(names)
    if variable := offline():
        _refuse(items, to, variable)
    # Checked before the first byte, since otherwise the disk would fill up only after hours.
    waiting = [file for item in items for file in item.files if file.state(to) != "complete"]
    if waiting:
        needed = sum(_needed(file, to) for file in waiting)
        check_room(to, needed, items[0].name if len(items) == 1 else "this download")
    failures = []
    for item in items:
        try:
            new = [_fetch(piece, item, to, patience or Patience()) for piece in item.pieces]
        except InputError as error:  # download the others anyway
            failures.append(item.name)
            if len(items) == 1:
                raise
            say(str(error))
            continue
        places = ", ".join(dict.fromkeys(str(piece.where(to)) for piece in item.pieces))
        say(f"{item.name}: {places}" + ("" if any(new) else " (already there)"))
    if failures:
        raise InputError(
            f"{len(failures)} of {len(items)} downloads failed: {', '.join(failures)}; see the "
            "reasons above, and run the same command again to resume"
        )


def fetched_file(name: str, to: Path) -> Path:
    """The path of an item that is a single file, which is downloaded if it is missing.

    Raises:
        InputError: It is missing and cannot be downloaded.
    """
    file = load_sources().select([name])[0].files[0]
    if file.state(to) != "complete":
        fetch([name], to, say=lambda line: None)
    return file.where(to)


def listing(to: str | Path | None = None, *, sources: Sources | None = None) -> str:
    """A table of everything available, with what is already there, and the bundles below it.

    Args:
        to: The data folder; the repository's by default.
        sources: Another table.
    """
    to = Path(to).expanduser().absolute() if to is not None else ROOT / "data"
    sources = sources or load_sources()
    rows = [("name", "size", "state", "location")]
    state = {item.name: item.state(to) for item in sources.items}
    for item in sources.items:
        places = ", ".join(dict.fromkeys(_short(piece.where(to), to) for piece in item.pieces))
        size = size_text(item.size) if item.size else "?"
        rows.append((item.name, size, state[item.name], places))
    name, size, *_ = (max(map(len, column)) for column in zip(*rows, strict=True))
    notes = ["", *(f"{i.what} [{i.licence}]" if i.licence else i.what for i in sources.items)]
    lines = []
    for row, note in zip(rows, notes, strict=True):
        lines.append(f"{row[0]:<{name}}  {row[1]:>{size}}  {row[2]:<8}  {row[3]}")
        lines += [f"{'':{name}}  {note}"] if note else []
    lines += ["", f"Relative paths are in {to}.", ""]
    for bundle, names in sources.bundles.items():
        items = sources.select(names)
        total = sum(item.size for item in items)
        lacking = [item for item in items if state[item.name] != "complete"]
        rest = sum(item.size for item in lacking)
        left = f"up to {size_text(rest)} still to download" if lacking else "complete"
        missing = ", ".join(item.name for item in lacking)
        lines.append(f"{bundle}: {size_text(total)}, {left}" + (f": {missing}" if lacking else ""))
    return "\n".join(lines)


def offline() -> str:
    """The environment variable that turns off downloads; "" if none does."""
    yes = {"1", "ON", "YES", "TRUE"}
    return next((name for name in OFFLINE if os.environ.get(name, "").upper() in yes), "")


def _refuse(items: list[Item], to: Path, variable: str) -> None:
    """Raises an InputError that lists what is missing and where it should be."""
    missing = [
        f"{item.name} at {piece.where(to)}"
        for item in items
        for piece in item.pieces
        if piece.state(to) != "complete" and not _only_packed(piece, to)
    ]
    if missing:
        raise InputError(
            f"{variable} is set, so nothing is downloaded, and these are missing: "
            f"{', '.join(missing)}; put them there, or unset {variable}"
        )


def _only_packed(piece: Piece, to: Path) -> bool:
    """Whether it is an archive that has been downloaded but not unpacked yet."""
    return isinstance(piece, File) and bool(piece.unpack) and piece.comes_to(to).is_file()


def _needed(file: File, to: Path) -> int:
    """Bytes of disk space that a file still needs, including the content of an archive."""
    came = file.comes_to(to)
    have = sum(path.stat().st_size for path in (came, part_of(came)) if path.is_file())
    return max(file.size - have, 0) + (file.size if file.unpack else 0)


def _fetch(piece: Piece, item: Item, to: Path, patience: Patience) -> bool:
    """Downloads a piece if necessary; returns whether anything had to be done."""
    if isinstance(piece, File):
        return _fetch_file(piece, item.name, to, patience)
    if piece.state(to) == "complete":
        return False
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # otherwise it reports every attempt
    if isinstance(piece, Hub):
        _fetch_hub(piece)
    elif isinstance(piece, OpenClip):
        _fetch_open_clip(piece)
    else:
        _fetch_spacy(piece)
    # These libraries do not raise when a repository lacks a file.
    if lacking := piece.lacking(to):
        raise InputError(
            f"cannot download {item.name}: what was downloaded to {piece.where(to)} lacks "
            f"{', '.join(lacking)}, so the publisher may have changed it; update tasnb, or copy a "
            "complete folder there"
        )
    return True


def _fetch_file(file: File, name: str, to: Path, patience: Patience) -> bool:
    if _given(file, name, to):  # before anything is written: the folder may be read-only
        return False
    came = file.comes_to(to)
    with writing(came):
        came.parent.mkdir(parents=True, exist_ok=True)
    with _alone(came, name):
        if _given(file, name, to):  # another process finished it in the meantime
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
    """Whether a file, or the content of an archive, is there; checks size and digest of a file."""
    if file.unpack:
        return file.state(to) == "complete"
    path = file.where(to)
    if path.is_file():
        _check_given(path, file, name)
    return path.is_file()


def _check_given(path: Path, file: File, name: str) -> None:
    """Checks an existing file against the size and digest in the table, where these are known.

    Raises:
        InputError: It differs.
    """
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        raise InputError(
            f"{path} has {size} bytes instead of {file.bytes}: remove it and download {name} again"
        )
    if file.sha256 and (found := digest_of(path, name)) != file.sha256:
        raise InputError(
            f"{path} has SHA-256 {found} instead of {file.sha256}: remove it and download {name} "
            "again"
        )


def _fetch_hub(hub: Hub) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(hub.repo, allow_patterns=list(hub.allow) or None)
    except Exception as error:  # of many types, from several libraries
        raise _failed(f"{hub.repo} from the Hugging Face hub", error, hub.where(Path())) from None


def _fetch_open_clip(weights: OpenClip) -> None:
    from huggingface_hub import snapshot_download
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    try:
        download_pretrained(get_pretrained_cfg(weights.model, weights.tag))
        if weights.tokenizer:
            snapshot_download(weights.repo, allow_patterns=list(weights.tokenizer))
    except Exception as error:
        what = f"open_clip's {weights.model}/{weights.tag}"
        raise _failed(what, error, weights.where(Path())) from None


def _failed(what: str, error: Exception, where: Path) -> InputError:
    if said := refusal(error):
        return InputError(f"cannot download {what}: {said}")
    first = next(iter(str(error).split("\n")), "")[:160] or type(error).__name__
    return InputError(
        f"cannot download {what} ({first}); try again, or copy {where} from a machine that has it"
    )


def _fetch_spacy(pipeline: Spacy) -> None:
    command = ["-m", "spacy", "download", pipeline.name]
    # Its output goes to stderr: stdout is for our own lines.
    done = subprocess.run([sys.executable, *command], stdout=2, check=False)
    invalidate_caches()
    if done.returncode:
        raise InputError(
            f"cannot install {pipeline.name}: `python {' '.join(command)}` ended with status "
            f"{done.returncode}; run it in this environment with network access"
        )


def _short(path: Path, to: Path) -> str:
    """A path as shown in the listing: relative to the data folder or the home folder."""
    for base, mark in ((to, ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return mark + str(path.relative_to(base))
    return str(path)


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """Keeps other processes from downloading the same file at the same time.

    Raises:
        InputError: Another process is downloading it.
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
                f"another process is downloading {name} to {path}: wait for it, or stop it"
            ) from None
        except OSError:
            pass  # no locks on this file system (some network drives): go on without one
        # The previous owner may have removed the file after we opened it and before we locked it.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                break
        file.close()
    with file:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
