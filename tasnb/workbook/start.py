"""The first call of every notebook: makes its pipeline and decides where its files are written.

Notebooks run by ``python -m tasnb run`` write into the run's folder. A notebook run by hand (in
JupyterLab or with plain papermill) never writes into the folder of such a run, since the tables and
figures would no longer match the report. It writes into a scratch folder, named after the settings
that differ from the profile, or into the folder given by its parameter ``out``. The store is shared
in either case, so nothing is computed twice.
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
from tasnb.workbook import times
from tasnb.workbook.parameters import CHANGES, settings_of
from tasnb.workbook.spare import RUN

_PLAIN = (str, int, float, bool, list, dict, type(None))
COURSE = "course.json"
"""A file next to the folder of a course's notebooks and its store, which these notebooks use."""
_LONGEST = 100  # characters of a scratch folder's name


def start(names: Mapping[str, Any]) -> Pipeline:
    """The pipeline for a notebook's parameters: ``pipeline = tasnb.start(globals())``.

    Prints version, profile and recipe and, if the notebook is run by hand, where tables and figures
    are written.

    Args:
        names: The notebook's variables. Settings among them are used, as are ``split`` (a
            single one of ``splits``) and ``changes`` (any other settings); all others, such as
            modules, are ignored.

    Raises:
        InputError: A setting is invalid, see ``make_settings``; or the notebook is run by hand and
            ``out`` contains a finished run.
    """
    taken = {*Settings.model_fields, "split", CHANGES}
    parameters = {
        name: value for name, value in names.items() if name in taken and isinstance(value, _PLAIN)
    }
    settings = settings_of(parameters)
    by_hand = os.environ.get(RUN) != "1"
    times.watch(settings.store)
    if by_hand:
        named = parameters.get("out") or parameters.get(CHANGES, {}).get("out")
        settings = settings.model_copy(update={"out": _place(settings, bool(named))})
        if not parameters.get("store") and (Path.cwd().parent / COURSE).is_file():
            settings = settings.model_copy(update={"store": Path.cwd().parent / "store"})
    # JupyterLab would render an expression with two dollar signs as a formula.
    pd.set_option("display.html.use_mathjax", False, "styler.html.mathjax", False)
    print(f"tasnb {__version__}, profile {settings.profile}, recipe {settings.recipe}")
    if by_hand:
        place = settings.out
        inside = place.is_relative_to(ROOT)
        print(f"tables and figures are saved in {place.relative_to(ROOT) if inside else place}")
    return Pipeline(settings)


def holds_run(folder: Path) -> bool:
    """Whether a folder contains a run of ``python -m tasnb run`` with any finished notebook."""
    return (folder / "run.json").is_file() or any(folder.glob("notebooks/*.run.json"))


def scratch_name(settings: Settings) -> str:
    """A folder name that shows how settings differ from their profile: "embedded-alpha=0.8".

    It has at most 100 characters, only letters, digits and ``_.,+=-``. If something had to be
    replaced or cut, eight digits of a digest keep names distinct.
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
    """Where a notebook run by hand writes: ``settings.out`` if given, else a scratch folder."""
    if not named:
        folder = ROOT / "runs" / "scratch"
        name = scratch_name(settings)
        tries = (folder / (f"{name}-{n}" if n > 1 else name) for n in count(1))
        return next(place for place in tries if not holds_run(place))
    if holds_run(settings.out):
        raise InputError(
            f"out = {settings.out}: this folder contains a finished run, which notebooks run by "
            'hand do not change; set out = "" for a scratch folder, choose another folder, or use '
            "`python -m tasnb run`"
        )
    return settings.out
