"""Devices and memory: where models run, how many stay in memory, and the sizes of batches."""

from __future__ import annotations

import ctypes
import gc
import sys
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from tasnb.store.threads import in_one_thread

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

T = TypeVar("T")
Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

ROOM = 2_000_000_000
"""Bytes of weights that may be in memory together, enough for all models of the profiles embedded
and lite. A model that is larger has the memory to itself."""

loads: Counter[Hashable] = Counter()
"""How often each model was built in this process: more than once if it was dropped meanwhile."""

built: list[Callable[[Any], None]] = []
"""Called with every model that is built in this process, before its first use."""

_resident: OrderedDict[Hashable, Any] = OrderedDict()  # least recently used first


def device() -> torch.device:
    """The GPU if there is one, or else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compile_tower(tower: nn.Module) -> None:
    """Lets torch compile a network on its first call, which takes about a minute.

    Not suitable for encoders, into which the baselines put hooks that compiled networks ignore. If
    compilation fails, for example without a C++ compiler, the network runs uncompiled, with a
    warning.
    """
    from torch._dynamo import lookup_backend

    def translated(graph: Any, inputs: list[Tensor]) -> Callable[..., Any]:
        try:
            return lookup_backend("inductor")(graph, inputs)
        except Exception as error:  # whatever the compiler raises, the run can continue
            first = next(iter(str(error).splitlines()), "") or type(error).__name__
            warnings.warn(f"torch.compile does not work here ({first[:200]})", stacklevel=1)
            return graph.forward

    tower.compile(backend=translated)


def wait() -> None:
    """Waits until the GPU, if there is one, has finished its work, for measurements of time."""
    torch = sys.modules.get("torch")  # without it there is no work, and importing it takes time
    if torch and torch.cuda.is_available():
        torch.cuda.synchronize()


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's weights, where its input must be as well."""
    return next(model.parameters()).device


@in_one_thread
def resident(key: Hashable, build: Callable[[], T]) -> T:
    """A model from memory if it is still there, or else from ``build()``.

    The least recently used models are dropped to make room, before the new one is built and again
    when its size is known. A stage that processes all images thus loads its model once, and the
    peak is the largest model plus ``ROOM`` rather than the sum of all models.
    """
    if key not in _resident:
        _make_room(ROOM)
        model = build()
        loads[key] += 1
        for call in built:
            call(model)
        _resident[key] = model
        _make_room(max(ROOM, bytes_of(model)))
    _resident.move_to_end(key)
    return _resident[key]


def entry_points(loaded: Any) -> list[tuple[Any, str]]:
    """Owners and names of the methods that are the passes of a network, a captioner or an encoder.

    Networks compiled by ``compile_tower`` are left out: nothing can be put around their forward.
    """
    model = getattr(loaded, "model", None)
    if hasattr(loaded, "caption"):
        return [(model, "generate")]
    parts = ("image_encoder", "prompt_encoder", "mask_decoder", "vision_encoder", "vision_model")
    parts += ("qformer",)
    found = [(getattr(model, part), "forward") for part in parts if hasattr(model, part)]
    if not found:
        own = ("get_image_embeddings", "encode_images", "encode_texts", "masks")
        own += ("encode_image", "encode_text", "forward")
        found = [(model, name) for name in own if hasattr(model, name)]
    return [one for one in found if getattr(one[0], "_compiled_call_impl", None) is None]


@in_one_thread
def forget() -> None:
    """Drops all models, for example before memory is measured."""
    _resident.clear()
    free()


def bytes_of(model: Any) -> int:
    """Bytes of the weights of a module, or of an object's attribute ``model``."""
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
    """Releases unused memory to the GPU and to the system."""
    import torch

    gc.collect()  # models contain reference cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # only in glibc, which keeps freed memory
        ctypes.CDLL(None).malloc_trim(0)


def peak_mb() -> float:
    """Peak memory of this process in MB, since it started or since ``forget_peak``.

    Not ``ru_maxrss``, which on Linux is inherited from the parent process.
    """
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1e3


def forget_peak() -> None:
    """Resets the peak that ``peak_mb`` reports."""
    with suppress(OSError):  # not supported or not permitted by this kernel
        Path("/proc/self/clear_refs").write_text("5")


class Lazy(Sequence[Item]):
    """A sequence whose items are created on access and not kept, for large images.

    Args:
        keys: One key per item.
        make: Creates an item from its key.
    """

    def __init__(self, keys: Sequence[Key], make: Callable[[Key], Item]) -> None:
        self._keys = keys
        self._make = make

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Item]:
        # Sequence's own would take an IndexError raised while creating an item for the end.
        return (self._make(key) for key in self._keys)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> Lazy[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | Lazy[Item]:
        if isinstance(place, slice):
            return Lazy(self._keys[place], self._make)
        return self._make(self._keys[place])


class Ahead(Generic[Key, Item]):
    """Creates items in order, each while the one before it is in use.

    An image is thus read while a network is busy with the previous one. At most two items are kept.

    Args:
        keys: In the order in which they will be asked for; one may be asked for several times in a
            row.
        make: Creates an item from its key, in another thread.
    """

    def __init__(self, keys: Iterable[Key], make: Callable[[Key], Item]) -> None:
        self._next = dict(pairwise(dict.fromkeys(keys)))
        self._make = make
        self._thread = ThreadPoolExecutor(1)  # which ends with this object
        self._made: dict[Key, Future[Item]] = {}

    def __call__(self, key: Key) -> Item:
        """The item of a key.

        Raises:
            Exception: Whatever ``make`` raised for this key.
        """
        wanted = (key, self._next[key]) if key in self._next else (key,)
        self._made = {
            one: self._made.get(one) or self._thread.submit(self._make, one) for one in wanted
        }
        return self._made[key].result()


def pixels_at_once(batch_size: int) -> int:
    """The number of pixels in a batch of images of 640 x 480.

    Work at the full resolution of images is limited to so many pixels at a time, so that memory is
    bounded whatever the size of the images.
    """
    return batch_size * 640 * 480


def few_at_a_time(
    images: Iterable[npt.NDArray[np.uint8]], most: int = pixels_at_once(64)
) -> Iterator[list[npt.NDArray[np.uint8]]]:
    """Groups of images (H, W, 3) in order, of at most this many pixels but at least one image."""
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
    """Processes items in batches, which become smaller when memory runs out.

    Attributes:
        size: Items per batch; halved permanently if a batch does not fit into memory.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, items: Sequence[Item], work: Callable[[Sequence[Item]], T]) -> list[T]:
        """The results of ``work`` for each batch of ``items``, in order.

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
            free()  # outside the handler, whose traceback keeps tensors of the failed batch alive
        return done


REFUSED = ("can't allocate", "Insufficient memory", "bad_alloc")  # by torch, OpenCV, C++


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library means that memory ran out, on the CPU or the GPU."""
    import torch

    # torch raises a plain RuntimeError on the CPU, OpenCV its own error.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        said in str(error) for said in REFUSED
    )


def to_numpy(tensor: Tensor) -> Any:
    """The values of a tensor on any device as an array."""
    return tensor.detach().cpu().numpy()
