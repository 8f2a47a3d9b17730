"""How many models stay in memory, and batches that shrink when it does not suffice."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tasnb import devices
from tasnb.captions import load_captioner
from tasnb.devices import Batches, bytes_of, forget, resident
from tasnb.encoders import load_encoder
from tasnb.proposal_networks import load_proposal_network
from tasnb.settings import make_settings


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    forget()
    yield
    forget()


class Model(nn.Module):
    """Some bytes of weights."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(size // 4))


def test_the_size_of_a_model_or_of_what_holds_one() -> None:
    settings = make_settings()
    for loaded in (
        load_captioner(settings),
        load_proposal_network(settings),
        *(load_encoder(name, settings) for name in settings.encoders),
        *(load_encoder(name, settings) for name in settings.other_encoders),
        load_proposal_network(make_settings(proposal_network=settings.other_network)),
    ):
        assert bytes_of(loaded) > 1_000_000
        assert devices.device_of(loaded.model) == devices.device()
    assert bytes_of(Model(400)) == 400
    assert bytes_of(load_proposal_network(make_settings(proposal_network="felzenszwalb"))) == 0


def test_small_models_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "ROOM", 1000)
    built = []

    def build(name: str, size: int) -> Model:
        built.append(name)
        return Model(size)

    for _ in range(3):
        for name in "abc":
            resident(name, lambda name=name: build(name, 300))
    assert built == ["a", "b", "c"]
    resident("a", lambda: build("a", 300))  # b is now the one used longest ago
    resident("d", lambda: build("d", 300))
    assert built == ["a", "b", "c", "d"]
    resident("a", lambda: build("a", 300))
    resident("b", lambda: build("b", 300))
    assert built == ["a", "b", "c", "d", "b"]


def test_a_large_model_is_alone_and_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "ROOM", 1000)
    resident("small", lambda: Model(800))
    seen = weakref.ref(resident("large", lambda: Model(4000)))
    assert list(devices._resident) == ["large"]
    # The next large one is built when this one is gone.
    alive = []
    resident("other", lambda: alive.append(seen()) or Model(4000))
    assert alive == [None] and list(devices._resident) == ["other"]
    forget()
    gc.collect()
    assert not devices._resident


def test_batches_are_halved_until_they_fit() -> None:
    sizes = []

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 3:
            raise torch.OutOfMemoryError("too much")
        return [item * 10 for item in items]

    batches = Batches(16)
    found = batches.run(list(range(10)), work)
    assert [item for batch in found for item in batch] == [item * 10 for item in range(10)]
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert batches.size == 2  # and stays so
    assert len(batches.run([1, 2, 3], work)) == 2


def test_an_allocation_that_the_machine_refuses_is_out_of_memory() -> None:
    """The real error of torch on the CPU."""

    def work(items: list[int]) -> int:
        if len(items) > 1:
            torch.empty(1 << 60)
        return len(items)

    assert Batches(4).run([1, 2, 3, 4], work) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("one"), RuntimeError("shape"), KeyError()]
)
def test_other_errors_and_a_single_item_that_does_not_fit_are_raised(error: Exception) -> None:
    def work(items: list[int]) -> None:
        raise error

    with pytest.raises(type(error)):
        Batches(1).run([1, 2], work)


def test_half_precision_captions(tmp_path) -> None:
    """16 bits a weight: half the memory, and another fingerprint."""
    full, half = make_settings(), make_settings(precision="half")
    one, other = load_captioner(full), load_captioner(half)
    assert bytes_of(other) * 2 == bytes_of(one)
    assert other.model.dtype == devices.half()
