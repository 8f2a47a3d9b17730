"""The plan of a sweep: its variants, checked before anything runs, in the order in which they run.

A sweep is a grid of settings, or a list of named variants, from a TOML file::

    notebooks = ["05"]        # optional; 05 by default
    [base]                    # optional: settings of all variants
    limit = 20
    [grid]                    # every combination is a variant
    alpha = [0, 0.1, 0.2]
    captioner = ["blip2:embedded/blip2", "git:embedded/git"]

or, instead of ``[grid]``, one table per variant::

    [variants.without-P]
    alpha = 0
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasnb.profiles import file_part, short_digest
from tasnb.reruns.finished import SWEEP
from tasnb.settings import PLACES, ROOT, InputError, Settings, shown, unknown
from tasnb.store.files import check_new
from tasnb.workbook import runner
from tasnb.workbook.parameters import CHANGES, Notebook, from_text, parameters_of, settings_of

KEYS = ("notebooks", "base", "grid", "variants", "out", "store")
FIGURES = "figures"
EVALUATION = "05"  # the notebook that writes the results per sentence


@dataclass(frozen=True)
class Variant:
    """One run of a sweep.

    Attributes:
        name: Its folder's name, such as "alpha=0.2".
        values: The settings that distinguish it from the other variants, by name.
        overrides: All parameters of the run, as for ``runner.run``.
    """

    name: str
    values: dict[str, Any]
    overrides: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return settings_of(self.overrides).out


@dataclass(frozen=True)
class Plan:
    """A sweep that can run.

    Attributes:
        out: The folder of the sweep, which contains a folder for each variant.
        notebooks: What each variant runs.
        variants: In the order in which they run.
        base: The parameters that all variants share.
    """

    out: Path
    notebooks: list[Notebook]
    variants: list[Variant]
    base: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The settings that distinguish the variants, in the order of the pipeline."""
        names = dict.fromkeys(name for variant in self.variants for name in variant.values)
        return sorted(names, key=_place)

    def content(self) -> dict[str, Any]:
        """What sweep.json records."""
        return {
            "notebooks": [book.name for book in self.notebooks],
            "base": self.base,
            "variants": {variant.name: variant.values for variant in self.variants},
        }


def from_file(file: str | Path, out: str = "", overrides: Mapping[str, Any] | None = None) -> Plan:
    """The sweep that a TOML file describes.

    Args:
        out: The folder of the sweep; "" for that given in the file, or runs/sweeps/<file>.
        overrides: Parameters from the command line, which take precedence over ``[base]``.

    Raises:
        InputError: The file cannot be read, or the sweep is invalid.
    """
    file = Path(file)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not valid TOML: {' '.join(str(error).split())}") from None
    for name in content:
        if name in Settings.model_fields and name not in KEYS:
            raise InputError(
                f"{file}: {name} belongs below [base] for all variants, or below [grid] with a list"
            )
        if name not in KEYS:
            raise unknown("key of a sweep", name, KEYS)
    if ("grid" in content) == ("variants" in content):
        raise InputError(f"{file} should have either a table [grid] or tables [variants.NAME]")
    for name in ("base", "grid", "variants"):
        if not isinstance(content.get(name, {}), dict):
            raise InputError(f"{file}: {name} should be a table, such as [{name}]")
    names = content.get("notebooks", [EVALUATION])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f'{file}: notebooks should be a list, such as ["05"]')
    base = dict(content.get("base", {}))
    for name in ("out", "store"):
        if not isinstance(content.get(name, ""), str):
            raise InputError(f"{file}: {name} should be the path of a folder")
    if "store" in content:
        base["store"] = content["store"]
    if "grid" in content:
        found = {"": {}} if not content["grid"] else _grid(content["grid"])
    else:
        found = content["variants"]
    target = out or content.get("out") or str(ROOT / "runs" / "sweeps" / file_part(file.stem))
    return make(names or [EVALUATION], {**base, **(overrides or {})}, found, target)


def from_arguments(
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    out: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> Plan:
    """The grid given by options ``-p NAME VALUE [VALUE ...]``; a single value is for all variants.

    Raises:
        InputError: As from ``from_file``.
    """
    notebooks = runner.select(names or [EVALUATION])
    base, grid = dict(overrides or {}), {}
    for name, *values in texts:
        if not values:
            raise InputError(f"-p {name}: give at least one value, such as -p alpha 0 0.1 0.2")
        if name in grid or name in base:
            raise InputError(f"-p {name} is given twice: give all values to one -p")
        read = [_flat(from_text(notebooks, {name: text}))[name] for text in values]
        if len(read) > 1:
            grid[name] = read
        else:
            base[name] = read[0]
    found = {"": {}} if not grid else _grid(grid)
    folder = file_part("-".join(sorted(grid, key=_place))) if grid else ""
    return make(names or [EVALUATION], base, found, out or str(ROOT / "runs" / "sweeps" / folder))


def make(names: Sequence[str], base: Mapping[str, Any], found: Mapping[str, Any], out: str) -> Plan:
    """Checks a sweep and puts its variants in order.

    Variants that share the settings of early stages (proposals, then captions, then embeddings) run
    one after another, so that each stage is computed by the first of them and read by the others.

    Args:
        names: Of the notebooks.
        base: Parameters of all variants.
        found: Name of a variant -> its own parameters.
        out: The folder of the sweep.

    Raises:
        InputError: There are fewer than two variants, a parameter is unknown or invalid, or two
            variants are the same.
    """
    notebooks = runner.select(names)
    target = Path(out).expanduser().absolute()
    if len(found) < 2:
        raise InputError(
            "a sweep needs two variants or more: give several values of a setting, such as "
            "-p alpha 0 0.1 0.2, or use `python -m tasnb run` for a single run"
        )
    variants = []
    for name, values in found.items():
        if not isinstance(values, dict):
            raise InputError(f"variant {name} should be a table of settings")
        for setting in values:
            if setting in PLACES:
                raise InputError(
                    f"{setting} does not change results, so it cannot be swept: give it to all "
                    "variants"
                )
        folder = _folder(name)
        try:
            arranged = _arranged(notebooks, {**base, **values}) | {"out": str(target / folder)}
            for book in notebooks:
                parameters_of(book, arranged)
        except InputError as error:  # of a list of names, which does not say where to look
            raise InputError(f"variant {name}: {error}") from None
        variants.append(Variant(folder, dict(values), arranged))
    seen: dict[str, str] = {}
    for variant in variants:
        settings = settings_of(variant.overrides).model_dump(mode="json", exclude={"out"})
        others = (*Settings.model_fields, CHANGES)
        own = {name: v for name, v in variant.overrides.items() if name not in others}
        key = json.dumps([settings, own], sort_keys=True)
        if key in seen:
            raise InputError(f"variants {seen[key]} and {variant.name} are the same")
        seen[key] = variant.name
    plan = Plan(target, notebooks, _ordered(variants), dict(base))
    _check_place(plan)
    return plan


def _check_place(plan: Plan) -> None:
    """Raises an InputError unless the folder is new or contains this sweep, which is resumed."""
    record = plan.out / SWEEP
    if not record.is_file():
        check_new(plan.out, "--out")
        return
    try:
        before = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    now = json.loads(json.dumps(plan.content()))
    old = before.get("variants", {})
    other = any(now["variants"].get(name, values) != values for name, values in old.items())
    if other or any(_shared(before, name) != _shared(now, name) for name in ("notebooks", "base")):
        raise InputError(
            f"{plan.out} contains another sweep, which differs in what all variants share: choose "
            "another folder with --out"
        )


def _shared(content: Mapping[str, Any], name: str) -> Any:
    """What all variants share, without the places on which results do not depend."""
    found = content.get(name)
    if isinstance(found, dict):
        return {setting: value for setting, value in found.items() if setting not in PLACES}
    return found


def _grid(grid: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every combination of the values, named after them."""
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{name} = {shown(values)}: a grid needs a list of values, not empty")
    names = sorted(grid, key=_place)
    found: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*(grid[name] for name in names)):
        own = dict(zip(names, values, strict=True))
        called = ",".join(f"{name}={_said(value)}" for name, value in own.items())
        if called in found:
            raise InputError(f"{called} occurs twice in the grid")
        found[called] = own
    return found


def _folder(name: str) -> str:
    """A variant's name as that of its folder, unchanged if it is safe."""
    safe = re.fullmatch(r"[\w(+][\w.()+=, -]*", name) and len(name.encode()) <= 100
    if safe and name != FIGURES:
        return name
    slug = re.sub(r"[^\w.()+=, -]+", "-", name).strip(". -")[:40]
    return f"{slug}-{short_digest(name)}".lstrip("-")


def _said(value: Any) -> str:
    """A value in a folder's name: models without library, lists joined by "+"."""
    if isinstance(value, list):
        return "+".join(map(_said, value)) or "none"
    if isinstance(value, str):
        return value.partition(":")[2].removeprefix("embedded/") or value
    return json.dumps(value)


def _place(name: str) -> int:
    """The place of a setting in the pipeline: data, models, proposals, captions, weights."""
    order = [*Settings.model_fields]
    return order.index(name) if name in order else len(order)


def _ordered(variants: Sequence[Variant]) -> list[Variant]:
    names = sorted({name for variant in variants for name in variant.values}, key=_place)

    def value(variant: Variant, name: str) -> str:
        return json.dumps(variant.values.get(name), sort_keys=True)

    first = {name: list(dict.fromkeys(value(v, name) for v in variants)) for name in names}
    return sorted(variants, key=lambda v: [first[name].index(value(v, name)) for name in names])


def _arranged(notebooks: Sequence[Notebook], values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name; settings that no notebook declares are put into ``changes``."""
    declared = {name for book in notebooks for name in book.kinds}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name == CHANGES or name == "out":
            raise InputError(f"{name} cannot be given to a sweep: write settings by their names")
        if name in declared:
            found[name] = value
        elif name in Settings.model_fields and CHANGES in declared:
            found.setdefault(CHANGES, {})[name] = value
        else:
            raise unknown("setting", name, sorted({*declared, *Settings.model_fields}))
    return found


def _flat(read: Mapping[str, Any]) -> dict[str, Any]:
    """What ``from_text`` found, without the level of ``changes``."""
    return {**{n: v for n, v in read.items() if n != CHANGES}, **read.get(CHANGES, {})}
