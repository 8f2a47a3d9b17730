"""Counts how often a program would wait for a GPU, also where there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

WAITS = ("cpu", "numpy", "item", "tolist", "nonzero", "__bool__", "__int__", "__index__")


class Waits(TorchFunctionMode):
    """Counts the calls by which the host asks for the values of a tensor, while it is active.

    Attributes:
        count: By name, those in ``WAITS``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        arguments: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(function, "__name__", "")
        self.count[name] += name in WAITS
        return function(*arguments, **options or {})
