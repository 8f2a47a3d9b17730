"""Model cards and digests of checkpoints, in a hand-made folder."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tasnb.models.checkpoints import (
    checkpoint_folder,
    convert,
    load_weights,
    model_digest,
    model_source,
)
from tasnb.settings import InputError, Settings, make_settings

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256))}


def checkpoint(settings: Settings, name: str, files: dict[str, bytes]) -> Path:
    folder = settings.data / "embedded" / "checkpoints" / name
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    (folder / "card.json").write_text(json.dumps({"name": name, "files": digests}))
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = make_settings(data=str(tmp_path))
    checkpoint(settings, "tiny", FILES)
    return settings


def message_of(model: str, settings: Settings) -> str:
    for find in (checkpoint_folder, model_digest):
        with pytest.raises(InputError) as error:
            find(model, settings)
        assert "\n" not in str(error.value)
    return str(error.value)


def test_a_whole_checkpoint(settings: Settings) -> None:
    folder = settings.data / "embedded" / "checkpoints" / "tiny"
    assert checkpoint_folder("sam:embedded/tiny", settings) == folder
    digest = model_digest("sam:embedded/tiny", settings)
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert model_digest("blip2:embedded/tiny", settings) == digest


def test_the_digest_is_that_of_the_weights(settings: Settings) -> None:
    digest = model_digest("sam:embedded/tiny", settings)
    checkpoint(settings, "same", FILES)
    checkpoint(settings, "other", {**FILES, "model.safetensors": b"other"})
    assert model_digest("sam:embedded/same", settings) == digest
    assert model_digest("sam:embedded/other", settings) != digest


@pytest.mark.parametrize("file", FILES)
def test_one_changed_byte(settings: Settings, file: str) -> None:
    path = settings.data / "embedded" / "checkpoints" / "tiny" / file
    content = FILES[file][:-1] + b"\x00"
    path.write_bytes(content)
    told, found = (hashlib.sha256(c).hexdigest()[:12] for c in (FILES[file], content))
    assert message_of("sam:embedded/tiny", settings) == (
        f"{path} has SHA-256 {found}... instead of {told}... on its card; "
        f"restore it with `git checkout -- {path.parent}`"
    )


def test_a_missing_file(settings: Settings) -> None:
    path = settings.data / "embedded" / "checkpoints" / "tiny" / "model.safetensors"
    path.unlink()
    assert message_of("sam:embedded/tiny", settings) == (
        f"{path} is missing; restore it with `git checkout -- {path.parent}`"
    )


@pytest.mark.parametrize("name", ["embedded/tidy", "tiny", "embedded/", "elsewhere/tiny", "x"])
def test_an_unknown_name(settings: Settings, name: str) -> None:
    message = message_of(f"sam:{name}", settings)
    assert message.startswith(f"unknown checkpoint '{name}': ")
    assert message.endswith("choose from embedded/tiny")


def test_no_checkpoints_at_all(tmp_path: Path) -> None:
    settings = make_settings(data=str(tmp_path / "nowhere"))
    assert message_of("sam:embedded/tiny", settings).endswith("data/ is incomplete")


@pytest.mark.parametrize("card", ["{", "{}", '{"files": 3}', ""])
def test_a_broken_card(settings: Settings, card: str) -> None:
    (settings.data / "embedded" / "checkpoints" / "tiny" / "card.json").write_text(card)
    message_of("sam:embedded/tiny", settings)


def test_a_file_by_its_path_or_among_what_was_fetched(tmp_path: Path) -> None:
    fetched = tmp_path / "checkpoints" / "ALBEF.pth"
    settings = make_settings(data=str(tmp_path))
    assert model_source("albef:ALBEF.pth", settings) == "ALBEF.pth"  # neither
    none = model_digest("albef:ALBEF.pth", settings)
    fetched.parent.mkdir()
    fetched.write_bytes(b"1")
    assert model_source("albef:ALBEF.pth", settings) == str(fetched)
    one = model_digest("albef:ALBEF.pth", settings)
    fetched.write_bytes(b"22")
    other = model_digest("albef:ALBEF.pth", settings)
    assert len({none, one, other}) == 3
    elsewhere = tmp_path / "x.pth"
    elsewhere.write_bytes(b"1")
    assert model_source(f"albef:{elsewhere}", settings) == str(elsewhere)


class Small(torch.nn.Module):
    """In the layout of OpenAI's files: the sizes of the model are stored next to its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 2).half()
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*TorchScript"
)
def test_torchscript_is_converted_once(tmp_path: Path) -> None:
    path, model = tmp_path / "RN50.pt", Small()
    torch.jit.script(model).save(str(path))
    with pytest.raises(Exception, match="TorchScript"):
        load_weights(path)  # never as it is
    target = convert(path)
    assert target == tmp_path / "RN50.safetensors"
    from safetensors.torch import load_file

    found = load_file(target)
    assert found.keys() == {"inner.weight", "inner.bias"}
    assert torch.equal(found["inner.weight"], model.inner.weight)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["RN50.pt", "RN50.safetensors"]


class Schedule:
    """What training code may save with the weights: an object of a class of its own."""

    def __init__(self) -> None:
        self.rates = [1e-4, 1e-5]


class Program:
    """What an attacker may save: an object that runs a command when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return eval, (f"open({str(self.mark)!r}, 'w')",)


def test_weights_beside_objects_of_a_training(tmp_path: Path) -> None:
    """The numbers are read; other pickled objects are neither created nor run."""
    mark, weights = tmp_path / "run", {"a": torch.arange(3.0), "b": torch.ones(2, 2).half()}
    for beside in ([Schedule()], [Schedule(), Program(mark)], [Path("x"), {1: np.float64(3)}]):
        content = {"model": weights, "lr_scheduler": beside, "optimizer": {"state": {}}, "epoch": 3}
        torch.save(content, tmp_path / "ALBEF.pth")
        found = load_weights(tmp_path / "ALBEF.pth")
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], weights[key]) for key in weights)
    assert not mark.exists()
    torch.save({"model": weights, "x": Program(mark)}, tmp_path / "ALBEF.pth")
    torch.load(tmp_path / "ALBEF.pth", weights_only=False)
    assert mark.exists()  # it does run something
    with pytest.raises(Exception, match="Weights only load failed"):  # torch refuses again
        torch.load(tmp_path / "ALBEF.pth", weights_only=True)


def test_weights_that_are_made_by_a_program_are_none(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    for content in ({"model": {"a": Program(mark)}}, Program(mark)):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(ValueError, match=r"a\.pth contains no weights"):
            load_weights(tmp_path / "a.pth")
    torch.save(Program(mark), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(Exception, match="Weights only load failed"):  # the old layout
        load_weights(tmp_path / "a.pth")
    assert not mark.exists()


def test_what_is_no_torchscript(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"nothing")
    (tmp_path / "c.safetensors").touch()
    for name in ("a.pt", "b.pt", "c.safetensors"):
        with pytest.raises(InputError, match="is not a TorchScript file") as error:
            convert(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"none\.pt does not exist"):
        convert(tmp_path / "none.pt")
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["c.safetensors"]
