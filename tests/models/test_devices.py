"""How many models stay in memory, and batches that shrink when memory runs out."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tasnb.datasets.images import load_image
from tasnb.models import devices
from tasnb.models.captioners import load_captioner
from tasnb.models.devices import (
    Ahead,
    Batches,
    Lazy,
    bytes_of,
    few_at_a_time,
    forget,
    is_out_of_memory,
    resident,
)
from tasnb.models.encoders import load_encoder
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.settings import InputError, make_settings


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    forget()
    yield
    forget()


class Model(nn.Module):
    """A model with weights of this size."""

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
    resident("a", lambda: build("a", 300))  # b is now the least recently used
    resident("d", lambda: build("d", 300))
    assert built == ["a", "b", "c", "d"]
    resident("a", lambda: build("a", 300))
    resident("b", lambda: build("b", 300))
    assert built == ["a", "b", "c", "d", "b"]


@pytest.mark.slow
def test_a_large_model_is_alone_and_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "ROOM", 1000)
    resident("small", lambda: Model(800))
    seen = weakref.ref(resident("large", lambda: Model(4000)))
    assert list(devices._resident) == ["large"]
    # The next large model is built after this one has been dropped.
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
    """With the real error of torch on the CPU."""

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


@pytest.mark.slow
def test_a_network_that_cannot_be_translated_runs_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.GELU())
    given = torch.ones(4, 3)
    expected = network(given)
    devices.compile_tower(network)
    missing = {"cpp.cxx": (None, "/no/compiler"), "force_disable_caches": True}
    with (
        torch._inductor.config.patch(missing),
        pytest.warns(UserWarning, match=r"torch\.compile does not work here \(.*/no/compiler"),
    ):
        found = network(given)
    assert torch.equal(found, expected)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("error:torch.compile does not work")
def test_masks_and_captions_of_translated_networks() -> None:
    image = load_image(make_settings().data / "embedded" / "images" / "000001.jpg")
    found = []
    for compile in (False, True):
        settings = make_settings(compile=compile)
        network, captioner = load_proposal_network(settings), load_captioner(settings)
        found.append((*network.propose(image, "")[:2], captioner.caption([image, image[:99]])))
    for tower in (network.model.image_encoder, captioner.model.vision_model):
        assert tower._compiled_call_impl is not None
    (masks, scores, texts), (same_masks, same_scores, same_texts) = found
    np.testing.assert_array_equal(same_masks, masks)
    np.testing.assert_allclose(same_scores, scores, atol=1e-5)
    assert same_texts == texts


# --- large images


def test_a_lazy_sequence_makes_what_is_asked_for() -> None:
    made: list[int] = []
    some = Lazy(range(10, 16), lambda key: made.append(key) or key * 2)
    assert len(some) == 6 and made == []
    part = some[1:4]
    assert made == [] and len(part) == 3
    assert part[0] == 22 and made == [11]
    assert list(part) == [22, 24, 26] and some[-1] == 30
    found = Batches(4).run(some, list)
    assert found == [[20, 22, 24, 26], [28, 30]]


def test_large_pictures_come_a_few_at_a_time() -> None:
    sizes = [(2, 5), (3, 3), (1, 1), (9, 9), (1, 2), (2, 2)]
    images = [np.full((*size, 3), place, np.uint8) for place, size in enumerate(sizes)]
    parts = list(few_at_a_time(iter(images), 20))
    assert [[int(image[0, 0, 0]) for image in part] for part in parts] == [[0, 1, 2], [3], [4, 5]]
    assert list(few_at_a_time([])) == []


def test_what_libraries_raise_when_memory_does_not_suffice() -> None:
    """Raises the real error by asking for more memory than any machine has."""
    asked = [
        lambda: np.zeros(1 << 60, np.uint8),
        lambda: torch.empty(1 << 60),
        lambda: cv2.resize(np.zeros((1, 1), np.uint8), (1 << 30, 1 << 30)),
        lambda: bytearray(1 << 62),
    ]
    for ask in asked:
        with pytest.raises(Exception) as caught:
            ask()
        assert is_out_of_memory(caught.value), caught.value
    assert not is_out_of_memory(RuntimeError("shape"))


def test_an_index_error_while_an_item_is_made_does_not_end_the_sequence() -> None:
    with pytest.raises(IndexError):
        list(Lazy([0, 1], lambda key: [10][key]))


def test_the_next_item_is_made_while_this_one_is_in_use() -> None:
    made: list[str] = []
    second = threading.Event()

    def make(key: str) -> str:
        made.append(key)
        if key == "b":
            second.set()
        if key == "c":
            raise InputError("c is damaged")
        return key.upper()

    ahead = Ahead(["a", "a", "b", "c"], make)
    assert made == []
    assert ahead("a") == "A" and second.wait(60)  # "b" is made before anybody asks for it
    assert ahead("a") == "A" and ahead("b") == "B"
    with pytest.raises(InputError, match="c is damaged"):
        ahead("c")
    assert made == ["a", "b", "c"]
    assert ahead("a") == "A"  # again, as after memory has run out
