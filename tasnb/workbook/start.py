"""The first call of every notebook: from its parameters to a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasnb import __version__
from tasnb.method.pipeline import Pipeline
from tasnb.settings import Settings
from tasnb.workbook.parameters import CHANGES, settings_of

_PLAIN = (str, int, float, bool, list, dict, type(None))


def start(names: Mapping[str, Any]) -> Pipeline:
    """The pipeline that a notebook's parameters ask for: ``pipeline = tasnb.start(globals())``.

    Prints which version, profile and recipe it is.

    Args:
        names: The notebook's variables. Those that are settings count, ``split`` stands for a
            single one of ``splits``, and ``changes`` holds any other settings; the rest (modules,
            what later cells have defined) is ignored.

    Raises:
        InputError: A setting is wrong; see ``make_settings``.
    """
    taken = {*Settings.model_fields, "split", CHANGES}
    parameters = {
        name: value for name, value in names.items() if name in taken and isinstance(value, _PLAIN)
    }
    pipeline = Pipeline(settings_of(parameters))
    settings = pipeline.settings
    print(f"tasnb {__version__}, profile {settings.profile}, recipe {settings.recipe}")
    return pipeline
