"""Finds, verifies and loads checkpoints: the embedded ones with their cards, and public ones."""

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

from tasnb.fetch.refusals import refusal
from tasnb.models.devices import resident
from tasnb.settings import ROOT, InputError, Settings, unknown
from tasnb.store.files import atomic_write, file_digest, fingerprint, size_and_time

if TYPE_CHECKING:
    from torch import Tensor, nn

EMBEDDED = "embedded/"

# For a repository that only has a .bin, transformers would download a converted copy in the
# background as well, gigabytes that are never read.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

T = TypeVar("T")
Network = TypeVar("Network", bound="nn.Module")


def registered(what: str, model: str, registry: Mapping[str, T]) -> T:
    """The entry of a registry for a model such as ``"open_clip:embedded/clip-vit"``.

    Raises:
        InputError: The kind, before the colon, is not in the registry.
    """
    kind = model.partition(":")[0]
    if kind not in registry:
        raise unknown(f"kind of {what}", kind, registry)
    return registry[kind]


def checkpoint_folder(model: str, settings: Settings) -> Path:
    """The verified folder of a model such as ``"open_clip:embedded/clip-vit"``.

    Raises:
        InputError: There is no such checkpoint, or one of its files does not match its card.
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
    """A digest that identifies the weights of a model, computed without loading them.

    It depends on the content of a file or folder given by its path, and on the name of a model on a
    hub; it is "" for a method without weights.
    """
    kind, _, name = model.partition(":")
    if not name:
        return ""
    if is_elsewhere(model):
        # The architecture is followed by a file, a tag or nothing.
        given = name.partition("/")[2] if kind in ("open_clip", "sam") else name
        path = placed(given, settings.data)
        files = sorted(path.iterdir()) if given and path.is_dir() else [path]
        digests = {f.name: _digest(f, *size_and_time(f)) for f in files if f.is_file()}
        return fingerprint([name, digests])
    return weights_digest(checkpoint_folder(model, settings))


def resident_model(model: str, read: Settings, build: Callable[[], T]) -> T:
    """``resident`` for a model by its name: it is built anew if its weights were replaced.

    Otherwise the results of the old weights would be stored as those of the new ones.

    Args:
        model: Such as ``"open_clip:embedded/clip-vit"``.
        read: The settings that ``build`` reads, ``data`` among them; see ``Settings.only``.
        build: Loads the model.
    """
    return resident((model, read, model_digest(model, read)), build)


def is_elsewhere(model: str) -> bool:
    """Whether a model is not one of the workbook's own, but on a hub or given by its path."""
    kind, _, name = model.partition(":")
    named = {"open_clip": "/" in name, "sam": name.startswith("vit_")}.get(kind, True)
    return named and not name.startswith(EMBEDDED)


DAMAGED = (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError)
"""Errors that libraries raise for a file that is missing, damaged or of another model."""


@contextmanager
def loading(
    model: str, instead: str, errors: tuple[type[Exception], ...] = DAMAGED
) -> Iterator[None]:
    """Turns errors that a library raises while loading a model into a one-line message.

    Args:
        model: What is loaded, in the message.
        instead: What should have been given, such as "a folder".
        errors: Types of errors to catch.

    Raises:
        InputError: The library raised one of them.
    """
    try:
        yield
    except errors as error:
        if said := refusal(error):
            raise InputError(f"cannot load {model}: {said}") from None
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        first = next(iter(text.splitlines()), "") or type(error).__name__
        first = first if len(first) < 200 else f"{first[:200]} ..."
        raise InputError(f"cannot load {model} ({first}); expected {instead}") from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """Reads the weights from a file written by torch, alone or among other training state.

    No code in the file is executed: only numbers and containers of them are read.

    Raises:
        ValueError: The file contains no weights.
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
        raise ValueError(f"{path.name} contains no weights")
    return dict(content)


class _Ignored:
    """Placeholder for objects of classes that torch does not consider safe to load."""

    def __new__(cls, *_args: object, **_named: object) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _numbers_in(path: Path) -> Any:
    """The content of a file, with ``_Ignored`` for anything but numbers and plain containers.

    Training programs save other objects along with the weights, such as a learning rate schedule.
    torch then refuses the whole file, although its weights are fine.
    """
    import torch
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        if not zipfile.is_zipfile(path):
            raise
        foreign = [name.rpartition(".") for name in get_unsafe_globals_in_checkpoint(path)]
        # torch looks classes up by name, and finds these placeholders.
        stand_ins = [type(name, (_Ignored,), {"__module__": m}) for m, _, name in foreign]
        with safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)


def convert(path: Path) -> Path:
    """Converts a TorchScript archive, such as OpenAI's own CLIP files, to safetensors.

    Such an archive contains a program, which torch executes on opening it, so the file must be
    trusted. The converted file contains numbers only.

    Returns:
        The new file, next to the given one.

    Raises:
        InputError: The file is missing or is not a TorchScript archive, or the folder is not
            writable.
    """
    import torch
    from safetensors.torch import save_file

    if not path.is_file():
        raise InputError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        raise InputError(f"{path} is not a TorchScript file such as OpenAI's ViT-B-32.pt")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, without a replacement
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
    except DAMAGED as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)[:80]
        raise InputError(f"{path} is not a TorchScript file ({first})") from None
    sizes = ("input_resolution", "context_length", "vocab_size")  # in OpenAI's files; not weights
    weights = {key: value.contiguous() for key, value in state.items() if key not in sizes}
    target = path.with_suffix(".safetensors")
    with atomic_write(target) as temporary:
        save_file(weights, temporary)
    return target


def from_folder(folder: Path, build: Callable[[dict[str, Any]], Network]) -> Network:
    """One of the workbook's own networks: ``build(config.json)`` with model.safetensors."""
    from safetensors.torch import load_file

    model = build(json.loads((folder / "config.json").read_text()))
    fill(model, load_file(folder / "model.safetensors"))
    return model.eval()


def model_source(model: str, settings: Settings) -> str:
    """Where to load a model from: the path of a folder or file, or a name on a hub."""
    if not is_elsewhere(model):
        return str(checkpoint_folder(model, settings))
    name = model.partition(":")[2]
    path = placed(name, settings.data)
    return str(path) if path.exists() else name


def placed(name: str, data: Path) -> Path:
    """The path of a file or folder: in data/checkpoints if it is there, else as given."""
    given = Path(name).expanduser()
    fetched = data / "checkpoints" / given
    return fetched if fetched.exists() and name else ROOT / given


@lru_cache(maxsize=64)
def _digest(path: Path, _size: int, _changed: int) -> str:
    """Digest of a file's content, read again only if it changes: some have gigabytes."""
    return file_digest(path)


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Loads weights of any precision into a model, which must have exactly these weights.

    Raises:
        KeyError: A weight is missing or unexpected.
        ValueError: A weight has the wrong shape.
    """
    own = model.state_dict()
    for what, keys in (
        ("missing", own.keys() - weights.keys()),
        ("unexpected", weights.keys() - own.keys()),
    ):
        if keys:
            some = ", ".join(sorted(keys)[:3])
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise KeyError(f"{what} weights: {some}{more}")
    for key, value in weights.items():
        if value.shape != own[key].shape:
            shape = tuple(own[key].shape)
            raise ValueError(f"{key} has the shape {tuple(value.shape)} instead of {shape}")
    model.load_state_dict({key: value.float() for key, value in weights.items()})


@lru_cache(maxsize=32)
def weights_digest(folder: Path) -> str:
    """SHA-256 over a checkpoint's files, each of which is checked against its card.

    Args:
        folder: A folder with ``card.json``, whose ``files`` maps names to SHA-256 digests.

    Raises:
        InputError: A file is missing or differs from the card.
    """
    try:
        card = json.loads((folder / "card.json").read_text())
        files: dict[str, str] = {str(name): str(sha) for name, sha in card["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{folder / 'card.json'} is not a valid card; restore it with "
            f"`git checkout -- {folder}`"
        ) from None
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing; restore it with `git checkout -- {folder}`")
        found = file_digest(path)
        if found != expected:
            raise InputError(
                f"{path} has SHA-256 {found[:12]}... instead of {expected[:12]}... on its card; "
                f"restore it with `git checkout -- {folder}`"
            )
    return fingerprint(files)
