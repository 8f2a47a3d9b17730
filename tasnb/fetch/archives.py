"""Unpacks zip archives into folders: completely or not at all, and never outside the folder."""

from __future__ import annotations

import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tasnb.fetch.download import BLOCK, bar, check_room, size_text, writing
from tasnb.settings import InputError

SWELL = 30
"""Largest ratio of content to archive size; JSON has about 10, photographs 1."""


def done_mark(target: Path, archive: Path) -> Path:
    """The empty file that marks a folder as containing all of an archive."""
    return target / f".{archive.name}.unpacked"


def unpack(archive: Path, target: Path, inside: str = "", members: Sequence[str] = ()) -> None:
    """Unpacks a zip archive into a folder.

    It is first unpacked next to the folder. Files already in the folder are not changed.

    Args:
        archive: The file.
        target: The folder; created if it does not exist.
        inside: Prefix of the wanted members, such as "train2014/"; removed from the names in
            `target`.
        members: The names of the wanted members, if not all; each must be in the archive.

    Raises:
        InputError: The archive is damaged, suspicious or lacks a member, or the disk is full.
            Nothing is left behind in that case.
    """
    beside = target.with_name(f"{target.name}.unpacking-{archive.name}")
    shutil.rmtree(beside, ignore_errors=True)  # left by a process that was killed
    try:
        with zipfile.ZipFile(archive) as content:
            wanted = _wanted(content, archive, inside, members)
            total = sum(info.file_size for info in wanted.values())
            check_room(target, total, f"unpacking {archive.name}")
            with bar(f"{archive.name}, unpacking", total) as shown:
                for name, info in wanted.items():
                    _write(content, info, beside / name, shown)
        with writing(beside):
            done_mark(beside, archive).touch()
            _move(beside, target, last=done_mark(beside, archive).name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{archive} cannot be unpacked ({error}); remove it and run the same command again"
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _wanted(
    content: zipfile.ZipFile, archive: Path, inside: str, members: Sequence[str]
) -> dict[str, zipfile.ZipInfo]:
    """The members to unpack, by their names in the folder.

    A single suspicious member is enough to refuse the whole archive.
    """
    every = content.infolist()
    for info in every:
        if reason := _suspicious(info):
            raise InputError(
                f"{archive} is not unpacked: member {info.filename!r} {reason}; remove it"
            )
    size, total = archive.stat().st_size, sum(info.file_size for info in every)
    if total > SWELL * size:
        raise InputError(
            f"{archive} is not unpacked: its {size_text(size)} would expand to "
            f"{size_text(total)}; remove it"
        )
    wanted: dict[str, zipfile.ZipInfo] = {}
    for info in every:
        name = info.filename.removeprefix(inside)
        if (
            info.is_dir()
            or not info.filename.startswith(inside)
            or (members and name not in members)
        ):
            continue
        if name in wanted:
            raise InputError(
                f"{archive} is not unpacked: it contains {info.filename!r} twice; remove it"
            )
        wanted[name] = info
    lacking = [name for name in members if name not in wanted]
    if lacking or not wanted:
        raise InputError(
            f"{archive} has no {inside}{lacking[0] if lacking else ''}: this is the wrong archive; "
            "remove it"
        )
    return wanted


def _suspicious(info: zipfile.ZipInfo) -> str:
    """What is suspicious about a member; "" if nothing is."""
    name, mode = info.orig_filename, info.external_attr >> 16
    parts = name.removesuffix("/").split("/")
    if "\\" in name or "\0" in name or "" in parts or re.match(r"[A-Za-z]:", name):
        return "does not have a plain relative path"
    if ".." in parts:
        return "points outside the folder"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return ""


def _write(content: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, shown: tqdm[Any]) -> None:
    """Writes one member; zipfile never reads more than its stated size and checks its CRC."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    with file, content.open(info) as source:
        while block := source.read(BLOCK):
            with writing(path):
                file.write(block)
            shown.update(len(block))


def _move(beside: Path, target: Path, last: str) -> None:
    """Renames the unpacked folder, or moves its files into an existing folder."""
    if not target.exists():
        os.rename(beside, target)
        return
    files = [path for path in beside.rglob("*") if path.is_file() and path.name != last]
    for path in [*files, beside / last]:
        place = target / path.relative_to(beside)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.rename(path, place)
