"""Zip archives into folders, whole or not at all, and never outside of the folder."""

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
"""How many times an archive's size its content may have; JSON has about ten, photographs one."""


def done_mark(target: Path, archive: Path) -> Path:
    """The empty file in a folder that says that all of an archive is in it."""
    return target / f".{archive.name}.unpacked"


def unpack(archive: Path, target: Path, inside: str = "", members: Sequence[str] = ()) -> None:
    """Unpacks a zip archive into a folder.

    It is unpacked beside the folder first. What is in the folder already stays as it is.

    Args:
        archive: The file.
        target: The folder; made if there is none.
        inside: What the names of the wanted members begin with, as "train2014/"; left out of the
            names in `target`.
        members: Those names, if not all; each must be in the archive.

    Raises:
        InputError: The archive is damaged, lacks a member, or holds what no honest one does; or
            the disk is full. Nothing is left of it then.
    """
    beside = target.with_name(f"{target.name}.unpacking-{archive.name}")
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
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

    One bad member anywhere is enough to refuse the archive: it is not what it should be.
    """
    every = content.infolist()
    for info in every:
        if reason := _suspicious(info):
            raise InputError(f"{archive} is refused: member {info.filename!r} {reason}; remove it")
    size, total = archive.stat().st_size, sum(info.file_size for info in every)
    if total > SWELL * size:
        raise InputError(
            f"{archive} is refused: its {size_text(size)} say that they unpack to "
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
            raise InputError(f"{archive} is refused: it has {info.filename!r} twice; remove it")
        wanted[name] = info
    lacking = [name for name in members if name not in wanted]
    if lacking or not wanted:
        raise InputError(
            f"{archive} has no {inside}{lacking[0] if lacking else ''}: it is another archive; "
            "remove it"
        )
    return wanted


def _suspicious(info: zipfile.ZipInfo) -> str:
    """Why a member is none that an honest archive has; "" if it is."""
    name, mode = info.orig_filename, info.external_attr >> 16
    parts = name.removesuffix("/").split("/")
    if "\\" in name or "\0" in name or "" in parts or re.match(r"[A-Za-z]:", name):
        return "has no plain relative name"
    if ".." in parts:
        return "leads out of the folder"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return ""


def _write(content: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, shown: tqdm[Any]) -> None:
    """One member; zipfile reads no more bytes than the archive says and checks their CRC."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    with file, content.open(info) as source:
        while block := source.read(BLOCK):
            with writing(path):
                file.write(block)
            shown.update(len(block))


def _move(beside: Path, target: Path, last: str) -> None:
    """Gives the folder its name, or moves its files into the one that has it."""
    if not target.exists():
        os.rename(beside, target)
        return
    files = [path for path in beside.rglob("*") if path.is_file() and path.name != last]
    for path in [*files, beside / last]:
        place = target / path.relative_to(beside)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.rename(path, place)
