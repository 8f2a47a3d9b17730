"""Checks whether everything that a profile needs is installed: ``python -m tasnb doctor``."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tasnb import __version__
from tasnb.datasets.splits import check_complete, check_there, columns
from tasnb.fetch import offline
from tasnb.fetch.download import size_text
from tasnb.fetch.sources import load_sources
from tasnb.models.captioners import CAPTIONERS
from tasnb.models.checkpoints import checkpoint_folder, is_elsewhere, registered
from tasnb.models.encoders import ENCODERS
from tasnb.models.parsers import installed_parser, load_wordnet
from tasnb.models.proposal_networks import PROPOSAL_NETWORKS
from tasnb.profiles import title
from tasnb.settings import InputError, Settings
from tasnb.workbook.kernels import check_kernel
from tasnb.workbook.records import versions


class Finding(NamedTuple):
    """One line of the output.

    Attributes:
        verdict: "ok"; "note" for what works, but not as well as it could; "missing" for what the
            profile cannot run without.
        what: The requirement that was checked.
        text: What is there, or what to do.
    """

    verdict: str
    what: str
    text: str


NEEDS = {"embedded": (3, 2), "lite": (8, 6), "paper": (20, 12), "modern": (16, 10)}
"""Profile -> memory needed in GB: main memory, and that of a GPU if there is one. Without a GPU,
the paper's BLIP-2 uses 32 bits per weight: 15 GB."""

SUBSTITUTED = ("en_core_web_trf",)
"""Items for which there is a fallback."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Checks everything that a run with these settings needs, and yields a finding for each."""
    yield Finding("ok", "tasnb", f"{__version__}, Python {platform.python_version()}")
    yield from _packages()
    yield _tried("kernel", check_kernel, 'the Jupyter kernel "python3" is this Python')
    yield from _memory(settings)
    yield _disk(settings)
    yield from _models(settings)
    yield from _data(settings)
    if variable := offline():
        yield Finding("note", "network", f"{variable} is set: nothing will be downloaded")


def check_named(settings: Settings) -> None:
    """Quick checks before a run starts: the models are known and the data exist.

    Raises:
        InputError: A model is unknown, or a dataset is missing.
    """
    named = (
        ("proposal network", PROPOSAL_NETWORKS, settings.proposal_network, settings.other_network),
        ("captioner", CAPTIONERS, settings.captioner, settings.other_captioner),
        ("encoder", ENCODERS, *settings.encoders, *settings.other_encoders),
    )
    for what, registry, *models in named:
        for model in models:
            registered(what, model, registry)
            if not is_elsewhere(model):
                checkpoint_folder(model, settings)
    try:
        check_there(settings)
    except InputError as error:
        command = f"python -m tasnb doctor --profile {settings.profile}"
        raise InputError(f"{error}; `{command}` lists everything that is missing") from None


def _packages() -> Iterator[Finding]:
    found = versions()
    lacking = [name for name, number in found.items() if number == "not installed"]
    if lacking:
        command = f"pip install {' '.join(lacking)}"
        yield Finding("missing", "packages", f"not installed: {command}")
    else:
        yield Finding("ok", "packages", f"all {len(found) - 2} that affect the results")


def _memory(settings: Settings) -> Iterator[Finding]:
    import torch

    of_machine, of_gpu = NEEDS[settings.profile]
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    cores = len(os.sched_getaffinity(0))
    if torch.cuda.is_available():
        name, size = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[1] / 1e9
        enough = "ok" if size >= of_gpu else "missing"
        yield Finding(enough, "GPU", f"{name}, {size:.0f} GB, {settings.profile} needs {of_gpu}")
    elif settings.profile in ("paper", "modern"):
        yield Finding("note", "GPU", "none: an image takes minutes instead of seconds")
    else:
        yield Finding("ok", "GPU", f"none, not needed for {settings.profile}")
    enough = "ok" if have >= 0.95 * of_machine else "missing"
    text = f"{have:.0f} GB, {settings.profile} needs {of_machine}; {cores} cores"
    yield Finding(enough, "memory", text)


def _disk(settings: Settings) -> Finding:
    folder = settings.store
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if not os.access(folder, os.W_OK):
        return Finding("missing", "store", f"{settings.store} is not writable; choose another one")
    verdict = "ok" if free > 1 else "note"
    return Finding(verdict, "store", f"{settings.store}, {free:.0f} GB free")


def _models(settings: Settings) -> Iterator[Finding]:
    named = dict.fromkeys(
        [
            settings.proposal_network,
            settings.captioner,
            *settings.encoders,
            settings.other_network,
            settings.other_captioner,
            *settings.other_encoders,
        ]
    )
    for model in named:
        if ":" in model and not is_elsewhere(model):
            text = "complete, matches its card"
            yield _tried(model, lambda model=model: checkpoint_folder(model, settings), text)
    known = load_sources()
    for item in known.select(known.bundles.get(settings.profile, ())):
        if _is_data(item.name):
            continue
        state = item.state(settings.data)
        verdict = "note" if item.name in SUBSTITUTED else "missing"
        text = "complete"
        if state != "complete":
            part = "incomplete; " if state == "partial" else ""
            text = f"{part}python -m tasnb fetch {item.name}: {size_text(item.size)}"
        if state != "complete" and verdict == "note":
            text += f"; until then {installed_parser(item.name)} is used instead"
        yield Finding("ok" if state == "complete" else verdict, item.name, text)
    wordnet = settings.data / "wordnet" / "wordnet.zip"
    yield _tried("WordNet", lambda: load_wordnet(wordnet), str(wordnet))


def _is_data(name: str) -> bool:
    """Whether an item is a dataset, which `_data` checks in more detail."""
    return name.startswith(("refcoco", "coco-", "phrasecut", "visual-genome"))


def _data(settings: Settings) -> Iterator[Finding]:
    # lite and modern also serve for the user's own pictures, so they can do without.
    verdict = "note" if settings.profile in ("lite", "modern") else "missing"
    for dataset in settings.datasets:
        name = title(dataset, settings.datasets)
        try:
            found = [s for d, s in columns(settings) if d == dataset]
            for split in found:
                check_complete(settings, dataset, split)
        except InputError as error:
            yield Finding(verdict, name, str(error))
        else:
            yield Finding("ok", name, f"complete: {', '.join(found)}")


def _tried(what: str, check: Callable[[], object], text: str) -> Finding:
    try:
        check()
    except InputError as error:
        return Finding("missing", what, str(error))
    return Finding("ok", what, text)


def line(finding: Finding, width: int) -> str:
    """A finding as printed, with its subject padded to a width."""
    home = str(Path.home())
    text = finding.text.replace(home, "~") if home != "/" else finding.text
    return f"{finding.verdict:8}{finding.what:{width}}  {text}"
