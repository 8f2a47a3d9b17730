"""Checkpoints that the workbook carries: where they lie, and whether their cards tell the truth."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeVar

from tasnb.settings import ROOT, InputError, Settings, unknown
from tasnb.store.files import atomic_write, file_digest, fingerprint, size_and_time

if TYPE_CHECKING:
    from torch import Tensor, nn

EMBEDDED = "embedded/"

# Of a repository that has only a .bin, transformers would have a thread fetch somebody's conversion
# of it besides, gigabytes that nothing reads.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

T = TypeVar("T")
Network = TypeVar("Network", bound="nn.Module")


def registered(what: str, model: str, registry: Mapping[str, T]) -> T:
    """The entry of a registry for a model such as ``"open_clip:embedded/clip-vit"``.

    Raises:
        InputError: The kind, before the colon, is none of the registry's.
    """
    kind = model.partition(":")[0]
    if kind not in registry:
        raise unknown(f"kind of {what}", kind, registry)
    return registry[kind]


def checkpoint_folder(model: str, settings: Settings) -> Path:
    """The verified folder of a model such as ``"open_clip:embedded/clip-vit"``.

    Raises:
        InputError: There is no such checkpoint, or one of its files is not what its card says.
    """
    name = model.partition(":")[2]
    root = settings.data / "embedded" / "checkpoints"
    folder = root / name.removeprefix(EMBEDDED)
    if not name.startswith(EMBEDDED) or not (folder / "card.json").is_file():
        known = sorted(EMBEDDED + path.parent.name for path in root.glob("*/card.json"))
        raise unknown("checkpoint", name, known or ["none: data/ is incomplete"])
    weights_digest(folder)
    return folder


def model_digest(model: str, settings: Settings) -> str:
    """What identifies the weights of a model, found without loading them.

    Of a file or a folder that is named by its path, its content; of a model of a hub, its name; ""
    for a method that has no weights.
    """
    kind, _, name = model.partition(":")
    if not name:
        return ""
    if is_elsewhere(model):
        # After the architecture stands a file, a tag or nothing.
        given = name.partition("/")[2] if kind in ("open_clip", "sam") else name
        path = placed(given, settings.data)
        files = sorted(path.iterdir()) if given and path.is_dir() else [path]
        digests = {f.name: _digest(f, *size_and_time(f)) for f in files if f.is_file()}
        return fingerprint([name, digests])
    return weights_digest(checkpoint_folder(model, settings))


def is_elsewhere(model: str) -> bool:
    """Whether a model is none of the workbook's own: on a hub, or named by its path."""
    kind, _, name = model.partition(":")
    named = {"open_clip": "/" in name, "sam": name.startswith("vit_")}.get(kind, True)
    return named and not name.startswith(EMBEDDED)


DAMAGED = (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError)
"""What a file that is missing, damaged or of another model makes torch and its like raise."""


@contextmanager
def loading(
    model: str, instead: str, errors: tuple[type[Exception], ...] = DAMAGED
) -> Iterator[None]:
    """Turns what a library raises while it loads a model into one line.

    Args:
        instead: What to name, as "a folder".
        errors: What the library raises.

    Raises:
        InputError: The library raised one of them.
    """
    try:
        yield
    except errors as error:
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        first = next(iter(text.splitlines()), "") or type(error).__name__
        first = first if len(first) < 200 else f"{first[:200]} ..."
        raise InputError(f"cannot load {model} ({first}); name {instead}") from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file that torch has written, alone or beside what a training keeps.

    Nothing in the file is run: only numbers, and containers of them, are taken from it.

    Raises:
        ValueError: There are none in it.
        Exception: Any of ``DAMAGED``.
    """
    import torch

    content = _numbers_in(path)
    for inner in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(inner), Mapping):
            content = content[inner]
    if not isinstance(content, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise ValueError(f"{path.name} holds no weights")
    return dict(content)


class _Ignored:
    """What stands in the place of an object of a class that torch does not take for harmless."""

    def __new__(cls, *_args: object, **_named: object) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _numbers_in(path: Path) -> Any:
    """The content of a file, with ``_Ignored`` for what is no number and no plain container.

    Training programs put whatever they have beside the weights, as the schedule of the learning
    rate; torch then refuses all of the file, whose weights are fine.
    """
    import torch
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        if not zipfile.is_zipfile(path):
            raise
        foreign = [name.rpartition(".") for name in get_unsafe_globals_in_checkpoint(path)]
        # torch looks a class up by its name, and finds one of these under it.
        stand_ins = [type(name, (_Ignored,), {"__module__": m}) for m, _, name in foreign]
        with safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)


def convert(path: Path) -> Path:
    """Writes the weights of a TorchScript archive, as OpenAI's own files of CLIP, as safetensors.

    Such an archive holds a program beside its weights, which torch runs when it opens it: this step
    trusts the file. What it writes holds numbers only.

    Returns:
        The new file, beside the given one.

    Raises:
        InputError: It is no TorchScript archive, or the folder cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        raise InputError(f"{path} is no file of TorchScript, as OpenAI's ViT-B-32.pt")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, with nothing in its place
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
    except DAMAGED as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)[:80]
        raise InputError(f"{path} is no file of TorchScript ({first})") from None
    sizes = ("input_resolution", "context_length", "vocab_size")  # of OpenAI's files; no weights
    weights = {key: value.contiguous() for key, value in state.items() if key not in sizes}
    target = path.with_suffix(".safetensors")
    with atomic_write(target) as temporary:
        save_file(weights, temporary)
    return target


def from_folder(folder: Path, build: Callable[[dict[str, Any]], Network]) -> Network:
    """A network of the workbook's own: ``build`` of its config.json, with its model.safetensors."""
    from safetensors.torch import load_file

    model = build(json.loads((folder / "config.json").read_text()))
    fill(model, load_file(folder / "model.safetensors"))
    return model.eval()


def model_source(model: str, settings: Settings) -> str:
    """Where a model lies: the path of a folder or file, or a hub's name as it stands."""
    if not is_elsewhere(model):
        return str(checkpoint_folder(model, settings))
    name = model.partition(":")[2]
    path = placed(name, settings.data)
    return str(path) if path.exists() else name


def placed(name: str, data: Path) -> Path:
    """Where a file or folder lies that is named by its path, or that was fetched into the data."""
    given = Path(name).expanduser()
    fetched = data / "checkpoints" / given
    return fetched if fetched.exists() and name else ROOT / given


@lru_cache(maxsize=64)
def _digest(path: Path, _size: int, _changed: int) -> str:
    """Of a file's content, read once until it changes: the paper's checkpoints have gigabytes."""
    return file_digest(path)


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Puts weights of any precision into a model: every one of its own, and no other.

    Raises:
        KeyError: One is missing or surplus.
        ValueError: One has another shape.
    """
    own = model.state_dict()
    for what, keys in (("no", own.keys() - weights.keys()), ("a", weights.keys() - own.keys())):
        if keys:
            some = ", ".join(sorted(keys)[:3])
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise KeyError(f"{what} weight {some}{more}")
    for key, value in weights.items():
        if value.shape != own[key].shape:
            raise ValueError(f"{key} is {tuple(value.shape)}, not {tuple(own[key].shape)}")
    model.load_state_dict({key: value.float() for key, value in weights.items()})


@lru_cache(maxsize=32)
def weights_digest(folder: Path) -> str:
    """SHA-256 over a checkpoint's files, each held against the one on the card.

    Args:
        folder: A folder with ``card.json``, whose ``files`` map names to SHA-256 digests.

    Raises:
        InputError: A file is missing or differs from the card.
    """
    try:
        card = json.loads((folder / "card.json").read_text())
        files: dict[str, str] = {str(name): str(sha) for name, sha in card["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{folder / 'card.json'} is no card; restore it with `git checkout -- {folder}`"
        ) from None
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing; restore it with `git checkout -- {folder}`")
        found = file_digest(path)
        if found != expected:
            raise InputError(
                f"{path} has SHA-256 {found[:12]}..., its card says {expected[:12]}...; "
                f"restore it with `git checkout -- {folder}`"
            )
    return fingerprint(files)
