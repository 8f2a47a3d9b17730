"""A GPU that does not exist: tensors that say they are on one, and compute on the CPU.

As on a real one, an operation refuses tensors of both devices, and values must be copied to the CPU
before NumPy can read them. Unlike torch's fake tensors, these have values, so that programs which
depend on them run from beginning to end and give the results of the CPU. Gradients need a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("meta")
"""Its device. With "cuda", torch would look for a driver; of "meta" it knows that there is none."""

_INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_COPIES = ("aten::copy_", "aten::_to_copy")


class OnGpu(Tensor):
    """A tensor that says it is on the GPU.

    Attributes:
        held: Its values, on the CPU.
    """

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    @torch.inference_mode()  # so that it can be viewed in this mode and outside
    def __new__(cls, held: Tensor) -> OnGpu:
        size = held.shape, held.stride(), held.storage_offset()
        made = Tensor._make_wrapper_subclass(cls, *size, dtype=held.dtype, device=GPU)
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"OnGpu({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        _check(name, args, kwargs)
        goes = kwargs.get("device")
        if goes is not None:
            kwargs["device"] = torch.device("cpu")
        done = func(*tree_map(_values, args), **tree_map(_values, kwargs))
        if name.endswith("_") and not name.endswith("__"):  # in place
            return args[0]
        if "out" in kwargs:
            return kwargs["out"]
        if goes is not None and torch.device(goes).type == "cpu":
            return done
        return tree_map(on_gpu, done)


def _values(one: Any) -> Any:
    return one.held if isinstance(one, OnGpu) else one


def on_gpu(one: Any) -> Any:
    """A tensor on the GPU; anything else as it is."""
    plain = isinstance(one, Tensor) and not isinstance(one, OnGpu)
    return OnGpu(one.detach()) if plain else one


def _check(name: str, args: Any, kwargs: Any) -> None:
    """Refuses tensors on the CPU, but for numbers and indices, as a GPU does."""
    if name in _COPIES:
        return
    for one in tree_leaves((args, kwargs)):  # made by torch, where the mode did not see it
        assert isinstance(one, OnGpu) or not _is_gpu(getattr(one, "device", None)), name
    asked = list(args)
    if name in _INDEXED and isinstance(asked[0], OnGpu):
        del asked[1]
    for one in tree_leaves((asked, kwargs)):
        if isinstance(one, Tensor) and not isinstance(one, OnGpu) and one.ndim:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {name} got one of shape "
                f"{tuple(one.shape)} on the CPU"
            )


class ImaginaryGpu(TorchFunctionMode):
    """While it is active, tensors can be made on the GPU and moved there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        owner = args[0] if args else None
        if name == "to":
            where = [one for one in (*args[1:], kwargs.get("device")) if _is_gpu(one)]
            if where:
                rest = tuple(one for one in args[1:] if not _is_gpu(one))
                kwargs.pop("device", None)
                moved = on_gpu(owner)
                return func(moved, *rest, **kwargs) if rest or kwargs else moved
        elif name == "tolist" and isinstance(owner, OnGpu):
            return owner.held.tolist()
        elif name in ("as_tensor", "tensor") and isinstance(owner, OnGpu):
            where = kwargs.pop("device", GPU)
            found = func(owner.held, *args[1:], **kwargs)
            return on_gpu(found) if _is_gpu(where) else found
        elif name == "__getitem__" and isinstance(owner, OnGpu) and isinstance(args[1], list):
            args = (owner, torch.tensor(args[1], dtype=torch.long))
        elif (
            name == "__setitem__" and isinstance(owner, OnGpu) and isinstance(args[2], float | int)
        ):
            args = (*args[:2], on_gpu(owner.held.new_tensor(args[2])))
        elif name.startswith("new_") and isinstance(owner, OnGpu) and "device" not in kwargs:
            return on_gpu(func(owner.held, *args[1:], **kwargs))
        elif _is_gpu(kwargs.get("device")) and not isinstance(owner, OnGpu):
            return on_gpu(func(*tree_map(_values, args), **{**kwargs, "device": "cpu"}))
        elif _is_gpu(kwargs.get("device")):
            kwargs.pop("device")
        return func(*args, **kwargs)


def _is_gpu(where: Any) -> bool:
    if isinstance(where, OnGpu):
        return True
    return isinstance(where, torch.device) and where.type == GPU.type


def move(model: nn.Module) -> None:
    """Moves the weights of a model to the GPU, in place, where they serve inference only."""
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, value in held.items():
                if value is not None:
                    held[name] = on_gpu(value.data)


@contextmanager
def loading(patch: pytest.MonkeyPatch, *modules: Any) -> Iterator[None]:
    """What is loaded meanwhile goes to the GPU, which the modules' ``device()`` then returns."""
    whole = nn.Module.to

    def to(model: nn.Module, *where: Any, **named: Any) -> nn.Module:
        if not any(map(_is_gpu, (*where, *named.values()))):
            return whole(model, *where, **named)
        move(model)
        return model

    with patch.context() as own:
        for module in modules:
            own.setattr(module, "device", lambda: GPU)
        own.setattr(nn.Module, "to", to)
        yield
