"""What image-text encoders share: two towers, batching, and warnings for truncated texts."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tasnb.models.devices import Batches, device_of, to_numpy
from tasnb.store.threads import in_one_thread

if TYPE_CHECKING:
    from torch import Tensor, nn

Embeddings = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Encoder(Protocol):
    """Two towers with one embedding space."""

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """E_v: unit vectors (N, D) for RGB images (H, W, 3).

        (N, Q, D) if a model has several vectors per image, the most similar of which counts
        (BLIP-2).
        """

    def encode_texts(self, texts: Sequence[str], normalize: bool = True) -> Embeddings:
        """E_t: vectors (N, D) for texts, of unit length if ``normalize``."""

    def warn_of_cuts(self, texts: Sequence[str]) -> None:
        """Warns about each text that is longer than the text tower can read."""


class Towers(ABC):
    """Base class of all encoders, which differ in how a batch goes through each tower.

    Attributes:
        model: Contains both towers.
        batches: Splits images or texts into batches.
        room: Largest number of tokens of a text, without the start and end tokens.
    """

    model: nn.Module
    batches: Batches
    room: int

    @cached_property
    def width(self) -> int:
        """D, found by encoding a text: not every text tower has a projection that shows it."""
        import torch

        with torch.inference_mode():
            return self._texts(["a"]).shape[-1]

    @in_one_thread
    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        return self._batched(images, self._images)

    @in_one_thread
    def encode_texts(self, texts: Sequence[str], normalize: bool = True) -> Embeddings:
        from torch.nn.functional import normalize as unit

        self.warn_of_cuts(texts)
        return self._batched(
            texts, lambda some: unit(self._texts(some), dim=-1) if normalize else self._texts(some)
        )

    @in_one_thread
    def warn_of_cuts(self, texts: Sequence[str]) -> None:
        for text in texts:
            count = self._count_tokens(text)
            if count > self.room:
                warnings.warn(
                    f"the text encoder reads {self.room} tokens at most; truncated: {text[:60]!r} "
                    f"({count} tokens)",
                    stacklevel=1,  # the same place each time, so that Python prints a warning once
                )

    def _batched(self, items: Sequence[Any], encode: Callable[[Any], Tensor]) -> Embeddings:
        import torch

        with torch.inference_mode():
            parts = self.batches.run(items, lambda some: to_numpy(encode(some)))
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    @abstractmethod
    def _images(self, images: Sequence[Pixels]) -> Tensor:
        """Unit vectors for a batch."""

    @abstractmethod
    def _texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors for a batch, as returned by the tower (not normalised)."""

    @abstractmethod
    def _count_tokens(self, text: str) -> int:
        """Number of tokens of a text, without the start and end tokens."""


class BertTowers(Towers):
    """Towers with a BERT as text tower, whose texts are preprocessed as in training.

    Attributes:
        tokenizer: BERT's tokenizer.
        TOKENS: Largest number of tokens, including start and end.
        PUNCTUATION: Table for ``str.translate`` with the punctuation that its authors remove.
    """

    tokenizer: Any
    TOKENS: int
    PUNCTUATION: Mapping[int, str | None]

    def _words(self, texts: Sequence[str]) -> Any:
        """``input_ids`` and ``attention_mask`` (B, L) for a batch, on the model's device."""
        return self.tokenizer(
            [self._plain(text) for text in texts],
            padding=True,
            truncation=True,
            max_length=self.room + 2,
            return_tensors="pt",
        ).to(device_of(self.model))

    def _count_tokens(self, text: str) -> int:
        return len(self.tokenizer(self._plain(text), add_special_tokens=False)["input_ids"])

    def _plain(self, text: str) -> str:
        return " ".join(text.lower().translate(self.PUNCTUATION).split())
