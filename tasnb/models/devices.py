"""Where models run, how many are in memory (all small ones at once, large ones by themselves) and
how much they work on at a time."""

from __future__ import annotations

import ctypes
import gc
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from tasnb.store.threads import in_one_thread

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

T = TypeVar("T")
Item = TypeVar("Item")
Key = TypeVar("Key")

ROOM = 2_000_000_000
"""Bytes of weights that may stay in memory together: all of the embedded profile's models and of
the lite one's. A larger model has the memory to itself."""

loads: Counter[Hashable] = Counter()
"""How often each model was built in this process; more than once where it had to make room."""

_resident: OrderedDict[Hashable, Any] = OrderedDict()  # the one used last is last


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compile_tower(tower: nn.Module) -> None:
    """Has torch translate a network when it is first called, which takes about a minute.

    Not for encoders: the baselines look into these by hooks, which a translated network ignores.
    What cannot be translated, as without a C++ compiler, runs as it is, with a warning.
    """
    from torch._dynamo import lookup_backend

    def translated(graph: Any, inputs: list[Tensor]) -> Callable[..., Any]:
        try:
            return lookup_backend("inductor")(graph, inputs)
        except Exception as error:  # whatever a compiler may raise, it is no reason to stop
            first = next(iter(str(error).splitlines()), "") or type(error).__name__
            warnings.warn(f"torch.compile does not work here ({first[:200]})", stacklevel=1)
            return graph.forward

    tower.compile(backend=translated)


def wait() -> None:
    """Until the GPU, if there is one, has done what it was given: before a clock is read."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are, and its input should be."""
    return next(model.parameters()).device


@in_one_thread
def resident(key: Hashable, build: Callable[[], T]) -> T:
    """A model that stays in memory as long as there is room: ``build()``, unless it is there still.

    The models used longest ago make room, before the new one is built and, when its size is known,
    after that. So a stage that works through all images loads its model once, and the peak is the
    largest model with ``ROOM`` beside it, not the sum of all.
    """
    if key not in _resident:
        _make_room(ROOM)
        model = build()
        loads[key] += 1
        _resident[key] = model
        _make_room(max(ROOM, bytes_of(model)))
    _resident.move_to_end(key)
    return _resident[key]


@in_one_thread
def forget() -> None:
    """Drops all models, as before memory is measured."""
    _resident.clear()
    free()


def bytes_of(model: Any) -> int:
    """Memory of the weights of a module, or of the one that an object has as its ``model``."""
    module = getattr(model, "model", model)
    parameters = getattr(module, "parameters", tuple)()
    return sum(weight.numel() * weight.element_size() for weight in parameters)


def _make_room(size: int) -> None:
    dropped = False
    while _resident and sum(map(bytes_of, _resident.values())) > size:
        _resident.popitem(last=False)
        dropped = True
    if dropped:
        free()


def free() -> None:
    """Gives back what is no longer used, to the GPU and to the system."""
    import torch

    gc.collect()  # models have cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # only glibc keeps what is freed, and has this
        ctypes.CDLL(None).malloc_trim(0)


class Lazy(Sequence[Item]):
    """A sequence whose items are made when they are asked for, and not kept: large pictures.

    Args:
        keys: One of each item.
        make: An item from its key.
    """

    def __init__(self, keys: Sequence[Key], make: Callable[[Key], Item]) -> None:
        self._keys = keys
        self._make = make

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> Lazy[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | Lazy[Item]:
        if isinstance(place, slice):
            return Lazy(self._keys[place], self._make)
        return self._make(self._keys[place])


def pixels_at_once(batch_size: int) -> int:
    """The pixels of a batch of pictures of 640 x 480, for what works in the pictures' own size.

    Of larger pictures fewer are worked on at once, so that memory is a matter of settings.
    """
    return batch_size * 640 * 480


def few_at_a_time(
    images: Iterable[npt.NDArray[np.uint8]], most: int = pixels_at_once(64)
) -> Iterator[list[npt.NDArray[np.uint8]]]:
    """Images (H, W, 3) in order, with at most so many pixels at a time, but at least one image."""
    some: list[npt.NDArray[np.uint8]] = []
    pixels = 0
    for image in images:
        size = image.shape[0] * image.shape[1]
        if some and pixels + size > most:
            yield some
            some, pixels = [], 0
        some.append(image)
        pixels += size
    if some:
        yield some


class Batches:
    """Goes through items a batch at a time, with smaller batches once the memory did not suffice.

    Attributes:
        size: Items at a time; halved for good when a batch does not fit.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, items: Sequence[Item], work: Callable[[Sequence[Item]], T]) -> list[T]:
        """``work`` of each batch of ``items``, in order.

        Raises:
            torch.OutOfMemoryError: A single item does not fit.
        """
        import torch

        done, start = [], 0
        while start < len(items):
            batch = items[start : start + self.size]
            try:
                done.append(work(batch))
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or len(batch) == 1:
                    raise
                self.size = max(1, len(batch) // 2)
            else:
                start += len(batch)
                continue
            free()  # outside the handler: its traceback holds on to tensors of the failed batch
        return done


REFUSED = ("can't allocate", "Insufficient memory", "bad_alloc")  # by torch, OpenCV, C++


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library says that there is not enough memory, here or on the GPU."""
    import torch

    # torch's allocator on the CPU raises a plain RuntimeError, OpenCV an error of its own.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        said in str(error) for said in REFUSED
    )


def to_numpy(tensor: Tensor) -> Any:
    """A tensor's values as an array, wherever it was computed."""
    return tensor.detach().cpu().numpy()
