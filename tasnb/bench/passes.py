"""Counts the operations and the memory of a pass through a network, without weights.

A network is built on torch's meta device, where tensors have shapes but no content, and is passed
once. One multiplication and addition counts as two operations.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class Pass(NamedTuple):
    """One pass of a part of a model.

    Attributes:
        flop: Floating-point operations.
        read: Bytes of weights that it reads.
        peak: Bytes of intermediate results and outputs that are in memory together.
        half: Whether it computes in 16 bits.
    """

    flop: float
    read: float
    peak: float
    half: bool = False


class Cost(NamedTuple):
    """What one image, masked image or text costs.

    Attributes:
        passes: The passes, and the share of each that one item takes, as 1/16 in a batch of 16.
        weights: Bytes of all weights of the model.
    """

    passes: tuple[tuple[Pass, float], ...]
    weights: float

    @property
    def flop(self) -> float:
        return sum(one.flop * share for one, share in self.passes)

    @property
    def memory(self) -> float:
        """Bytes of the weights and of the largest pass."""
        return self.weights + max((one.peak for one, _ in self.passes), default=0)


class _Peak(TorchDispatchMode):
    """Follows the bytes of all tensors that are made inside it and still referred to.

    Args:
        apart: Tensors that do not count, nor do views of them.
    """

    def __init__(self, apart: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._apart = {tensor.untyped_storage()._cdata for tensor in apart}
        self.now = self.most = 0.0
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._follow(tensor)
        return out

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._apart:
            return
        if not self._users[key]:
            self.now += size
            self.most = max(self.most, self.now)
        self._users[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            self.now -= size


def one_pass(model: nn.Module, call: Callable[[], object]) -> Pass:
    """Counts a pass of a model, all of whose weights are read."""
    # The counter looks for the gradient of every input that has one, as a learned query has.
    weights = list(model.requires_grad_(False).parameters())
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), _Peak(weights) as peak, counter:
        call()
    half = all(w.element_size() == 2 for w in weights)
    return Pass(counter.get_total_flops(), bytes_of(model), peak.most, half)


def bytes_of(*models: nn.Module) -> float:
    """Bytes of the weights and buffers of some models."""
    kept = (tensor for model in models for tensor in (*model.parameters(), *model.buffers()))
    return float(sum(tensor.numel() * tensor.element_size() for tensor in kept))


def on_meta(build: Callable[[], Any]) -> Any:
    """A network whose weights have shapes but no content."""
    with torch.device("meta"):
        return build().eval()


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without content."""
    return torch.empty(shape, device="meta", dtype=dtype)
