"""The last proof of a profile on this machine, kept in the user's cache for reports."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasnb.profiles import file_part
from tasnb.proof.prove import Line, models_of
from tasnb.proof.weights import stamp
from tasnb.settings import Settings
from tasnb.store.files import atomic_write

LIBRARIES = (
    *("tasnb", "torch", "torchvision", "segment-anything", "open_clip_torch", "transformers"),
    *("numpy", "pillow"),
)
"""Packages whose versions may change a model's answer."""


def place(profile: str) -> Path:
    """The record's file; home folders may be shared, so its name contains that of the machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "tasnb" / f"proof-{profile}-{file_part(platform.node() or 'machine')}.json"


def write(settings: Settings, lines: Iterable[Line], versions: Mapping[str, str]) -> None:
    """Replaces the record of a profile.

    Args:
        versions: Versions of packages by name, of which ``LIBRARIES`` are kept.
    """
    lines = list(lines)
    names = [model for _, model in models_of(settings)]
    content = {
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "versions": {name: versions[name] for name in LIBRARIES if name in versions},
        "models": {
            name: {
                "verdicts": [line.verdict for line in lines if line.model == name],
                "stamp": stamp(name, settings),
            }
            for name in names
        },
    }
    with atomic_write(place(settings.profile)) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read(profile: str) -> dict[str, Any] | None:
    try:
        found = json.loads(place(profile).read_text(encoding="utf-8"))
        assert all(isinstance(found[part], dict) for part in ("versions", "models"))
        return {**found, "finished": str(found["finished"])}
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        return None


def sentence(settings: Settings, versions: Mapping[str, str]) -> str:
    """When the profile was last proven here and with what; "" for the embedded profile.

    Args:
        settings: Of the run, whose models may differ from the profile's.
        versions: Versions of packages in the run, by name.
    """
    if settings.profile == "embedded":
        return ""
    command = f"python -m tasnb doctor --profile {settings.profile} --prove"
    record = _read(settings.profile)
    if record is None:
        return f"The models were never proven on this machine; {command} does so."
    then = {name: str(number) for name, number in record["versions"].items()}
    asked: dict[str, str] = {}
    for _, name in models_of(settings):
        own = record["models"].get(name, {})
        verdicts = own.get("verdicts", [])
        if not verdicts or {"missing", "incomplete"} & set(verdicts):
            asked[name] = "not asked"
        elif not set(verdicts) <= {"agrees", "holds"}:
            asked[name] = "in disagreement"
        elif own.get("stamp") != stamp(name, settings):
            asked[name] = "with other weights since"
    when = record["finished"].replace("T", " ")
    using = ", ".join(f"{name} {number}" for name, number in then.items())
    text = f"Last proven on this machine on {when} with {using}"
    changed = [
        f"{n} {then[n]}, now {versions[n]}" for n in then if versions.get(n, then[n]) != then[n]
    ]
    problems = [f"other versions ({'; '.join(changed)})"] if changed else []
    problems += [f"{name} {how}" for name, how in asked.items()]
    if not problems:
        return f"{text}: all models answered as expected."
    return f"{text}, but: {', '.join(problems)}. {command} proves them again."
