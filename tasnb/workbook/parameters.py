"""The parameters cell of a notebook, and checks of the values that override it.

The cell tagged `parameters` contains plain assignments of JSON-compatible literals, such as
``alpha: float = 0.1``. The default None leaves a setting to the profile and the recipe. papermill
accepts an unknown or mistyped parameter and runs with the default; here it is an error, raised
before a kernel starts.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import GenericAlias
from typing import Any, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tasnb.settings import InputError, Settings, make_settings, shown, unknown
from tasnb.store.files import fingerprint

CHANGES = "changes"
"""The parameter that accepts any setting by name, `changes: dict = {}`."""

_KINDS = {kind.__name__: kind for kind in (str, int, float, bool, list, dict)}


@dataclass(frozen=True)
class Notebook:
    """A source notebook and the parameters it declares.

    Attributes:
        path: the .ipynb file.
        defaults: parameter -> value in its parameters cell.
        kinds: parameter -> type, as annotated there (``list[float]``), or else of its default.
        digest: SHA-256 of its cells (type, text, tags) without outputs.
    """

    path: Path
    defaults: dict[str, Any]
    kinds: dict[str, Any]
    digest: str

    @property
    def name(self) -> str:
        """File name without suffix, such as 05_full_eval."""
        return self.path.stem


def load_notebook(path: Path) -> Notebook:
    """Reads a notebook's parameters cell without running it.

    Raises:
        InputError: it is not a notebook, or its parameters cell has other than literal assignments.
    """
    try:
        parts = [
            (cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", []))
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} cannot be read as a notebook") from None
    defaults: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    source = next((text for _, text, tags in parts if "parameters" in tags), "")
    try:
        for node in ast.parse(source).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            if isinstance(node, ast.AnnAssign):
                target, kind = node.target, _kind(node.annotation)
            elif isinstance(node, ast.Assign) and len(node.targets) == 1:
                target, kind = node.targets[0], None
            else:
                raise ValueError(ast.unparse(node))
            if not isinstance(target, ast.Name) or node.value is None:
                raise ValueError(ast.unparse(node))
            defaults[target.id] = ast.literal_eval(node.value)
            kinds[target.id] = kind or _kind(ast.Name(type(defaults[target.id]).__name__))
            if defaults[target.id] is not None:
                _check(target.id, defaults[target.id], kinds[target.id])
    except (SyntaxError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise InputError(
            f"{path.name}: the parameters cell may only assign literals of the types "
            f"{', '.join(_KINDS)}: {line}"
        ) from None
    return Notebook(path, defaults, kinds, fingerprint(parts))


def from_text(notebooks: Iterable[Notebook], texts: Mapping[str, str]) -> dict[str, Any]:
    """Values from the command line, converted to the types that the notebooks declare.

    A list is JSON or separated by commas. A value that cannot be converted stays text, which
    `parameters_of` rejects. A setting that no notebook declares is put into `changes`.

    Raises:
        InputError: a name is neither declared by any of `notebooks` nor a setting.
    """
    kinds = {name: kind for book in notebooks for name, kind in book.kinds.items()}
    found: dict[str, Any] = {}
    for name, text in sorted(texts.items(), key=lambda item: item[0] != CHANGES):
        if name in kinds:
            found[name] = _read(text, kinds[name])
        elif name in Settings.model_fields and CHANGES in kinds:
            found.setdefault(CHANGES, {})[name] = _read(text, _kind_of_setting(name))
        else:
            settings = Settings.model_fields if CHANGES in kinds else ()
            raise unknown("parameter", name, sorted({*kinds, *settings}))
    return found


def settings_from_text(texts: Mapping[str, str]) -> dict[str, Any]:
    """Settings from the command line, converted to their types; `make_settings` checks the values.

    Raises:
        InputError: a name is not a setting.
    """
    for name in texts:
        if name not in Settings.model_fields:
            raise unknown("setting", name, Settings.model_fields)
    return {name: _read(text, _kind_of_setting(name)) for name, text in texts.items()}


def parameters_of(notebook: Notebook, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The `overrides` that the notebook declares, checked together with its defaults.

    Raises:
        InputError: a value has the wrong type or is rejected by `make_settings`.
    """
    mine = {name: value for name, value in overrides.items() if name in notebook.defaults}
    for name, value in mine.items():
        if value is not None or notebook.defaults[name] is not None:
            _check(name, value, notebook.kinds[name])
    settings_of({**notebook.defaults, **mine})
    return mine


def settings_of(parameters: Mapping[str, Any]) -> Settings:
    """The settings given by parameters; a `split` is used as the only one of `splits`.

    A notebook's own parameters are ignored, and so are settings that are None but cannot be;
    `changes` are applied.

    Raises:
        InputError: a setting is given twice or is rejected by `make_settings`.
    """
    fields = {
        name: value
        for name, value in parameters.items()
        if name in Settings.model_fields and (value is not None or _may_be_none(name))
    }
    if parameters.get("split"):
        fields["splits"] = [parameters["split"]]
    changes = parameters.get(CHANGES, {})
    _check(CHANGES, changes, dict)
    for name, value in changes.items():
        if name in fields:
            raise InputError(f"{CHANGES} contains {name}, which is a parameter: use -p {name} ...")
        fields[name] = value
    return make_settings(**fields)


def _may_be_none(name: str) -> bool:
    return type(None) in get_args(Settings.model_fields[name].annotation)


def _kind_of_setting(name: str) -> Any:
    """How to read a setting from text: as a list of strings, a string, or JSON."""
    field = Settings.model_fields[name]
    shown = str(field.annotation)
    if "tuple[str" in shown:
        return list
    return str if field.annotation is str or "Path" in shown or "Literal" in shown else Any


def _kind(annotation: ast.expr) -> Any:
    """The type of an annotation such as list[float]."""
    match annotation:
        case ast.Name(id=name) if name in _KINDS:
            return _KINDS[name]
        case ast.Subscript(value=ast.Name(id="list" | "dict") as outer, slice=inner):
            inside = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return GenericAlias(_kind(outer), tuple(map(_kind, inside)))
    raise ValueError(f"not {ast.unparse(annotation)}")


def _check(name: str, value: Any, kind: Any) -> None:
    adapter = TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
    try:
        adapter.validate_python(value)
    except ValidationError:
        label = str(kind) if get_args(kind) else kind.__name__
        raise InputError(f"parameter {name} = {shown(value)}: should be of type {label}") from None


def _read(text: str, kind: Any) -> Any:
    if kind is str:
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if (get_origin(kind) or kind) is list and not text.lstrip().startswith("["):
        of = (get_args(kind) or (str,))[0]
        return [_read(item.strip(), of) for item in text.split(",") if item.strip()]
    try:
        return json.loads(text)
    except ValueError:
        return text
