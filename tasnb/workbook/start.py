"""The first call of every notebook: from its parameters to a pipeline, and where its files go.

Notebooks run by ``python -m tasnb run`` write into the run's own folder. By hand (in JupyterLab, by
plain papermill) a notebook never writes into a folder that holds such a run: its tables and
figures, and the notes under them, would no longer be those of the report. It gets a scratch folder,
named by what differs from the profile, or the folder that its parameter ``out`` names. The store is
shared either way, so nothing is computed twice.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from tasnb import __version__
from tasnb.method.pipeline import Pipeline
from tasnb.settings import ROOT, InputError, Settings
from tasnb.store.files import fingerprint
from tasnb.workbook.kernels import RUN
from tasnb.workbook.parameters import CHANGES, settings_of

_PLAIN = (str, int, float, bool, list, dict, type(None))
_LONGEST = 100  # characters of a scratch folder's name


def start(names: Mapping[str, Any]) -> Pipeline:
    """The pipeline that a notebook's parameters ask for: ``pipeline = tasnb.start(globals())``.

    Prints which version, profile and recipe it is and, by hand, where tables and figures go.

    Args:
        names: The notebook's variables. Those that are settings count, ``split`` stands for a
            single one of ``splits``, and ``changes`` holds any other settings; the rest (modules,
            what later cells have defined) is ignored.

    Raises:
        InputError: A setting is wrong, see ``make_settings``; or, by hand, ``out`` holds a run.
    """
    taken = {*Settings.model_fields, "split", CHANGES}
    parameters = {
        name: value for name, value in names.items() if name in taken and isinstance(value, _PLAIN)
    }
    settings = settings_of(parameters)
    by_hand = os.environ.get(RUN) != "1"
    if by_hand:
        named = parameters.get("out") or parameters.get(CHANGES, {}).get("out")
        settings = settings.model_copy(update={"out": _place(settings, bool(named))})
    # An expression with two dollar signs is no formula, but JupyterLab would read it as one.
    pd.set_option("display.html.use_mathjax", False, "styler.html.mathjax", False)
    print(f"tasnb {__version__}, profile {settings.profile}, recipe {settings.recipe}")
    if by_hand:
        place = settings.out
        inside = place.is_relative_to(ROOT)
        print(f"tables and figures go to {place.relative_to(ROOT) if inside else place}")
    return Pipeline(settings)


def holds_run(folder: Path) -> bool:
    """Whether ``python -m tasnb run`` has finished there, with all its notebooks or with some."""
    return (folder / "run.json").is_file() or any(folder.glob("notebooks/*.run.json"))


def scratch_name(settings: Settings) -> str:
    """A folder's name that says how settings differ from their profile: "embedded-alpha=0.8".

    Letters, digits and ``_.,+=-`` only, and at most 100 of them. Where something had to be replaced
    or cut, eight digits of a digest keep names apart.
    """
    changed = settings.changed
    parts = [settings.profile, *([settings.recipe] if settings.recipe != "published" else [])]
    for name, value in changed.items():
        values = value if isinstance(value, list | tuple) else [value]
        said = (one if isinstance(one, str) else json.dumps(one) for one in values)
        parts.append(f"{name}={','.join(said)}")
    name = "-".join(parts)
    safe = re.sub(r"[^\w.,+=-]+", "-", name, flags=re.ASCII)
    if safe == name and len(name) <= _LONGEST:
        return name
    digest = fingerprint([settings.profile, settings.recipe, changed])[:8]
    return f"{safe[: _LONGEST - 9]}-{digest}"


def _place(settings: Settings, named: bool) -> Path:
    """Where a notebook run by hand writes: into ``settings.out`` if that was named."""
    if not named:
        folder = ROOT / "runs" / "scratch"
        name = scratch_name(settings)
        tries = (folder / (f"{name}-{n}" if n > 1 else name) for n in count(1))
        return next(place for place in tries if not holds_run(place))
    if holds_run(settings.out):
        raise InputError(
            f"out = {settings.out}: there is a finished run, which notebooks run by hand do not "
            'change; set out = "" for a scratch folder, name another one, or use '
            "`python -m tasnb run`"
        )
    return settings.out
