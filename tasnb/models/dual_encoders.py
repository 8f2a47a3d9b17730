"""What image-text encoders have in common: two towers, batches, a warning of texts that are cut."""

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
    """Two towers into one space."""

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """E_v: unit vectors of RGB images (H, W, 3): (N, D), or (N, Q, D) where a model has several
        of one image, the nearest of which counts (BLIP-2)."""

    def encode_texts(self, texts: Sequence[str], normalize: bool = True) -> Embeddings:
        """E_t: vectors (N, D) of texts, of unit length if ``normalize``."""

    def warn_of_cuts(self, texts: Sequence[str]) -> None:
        """Warns of every text that is longer than the text tower reads."""


class Towers(ABC):
    """What all encoders have in common; they differ in how a batch goes through each tower.

    Attributes:
        model: With both towers.
        batches: Images or texts at a time.
        room: Tokens of a text that are read, without its start and its end.
    """

    model: nn.Module
    batches: Batches
    room: int

    @cached_property
    def width(self) -> int:
        """D, found by asking: not every text tower has a projection to look it up from."""
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
                    f"the text encoder reads {self.room} tokens; cut: {text[:60]!r} "
                    f"({count} tokens)",
                    stacklevel=1,  # one place, so that Python prints the same cut once
                )

    def _batched(self, items: Sequence[Any], encode: Callable[[Any], Tensor]) -> Embeddings:
        import torch

        with torch.inference_mode():
            parts = self.batches.run(items, lambda some: to_numpy(encode(some)))
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    @abstractmethod
    def _images(self, images: Sequence[Pixels]) -> Tensor:
        """Unit vectors of a batch."""

    @abstractmethod
    def _texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors of a batch, as they come out of the tower."""

    @abstractmethod
    def _count_tokens(self, text: str) -> int:
        """Of a text alone, without start and end."""


class BertTowers(Towers):
    """Towers whose texts a BERT reads, spelt as in their training.

    Attributes:
        tokenizer: BERT's.
        TOKENS: What is read of a text, its start and end included.
        PUNCTUATION: For ``str.translate``: what its authors take out of a text first.
    """

    tokenizer: Any
    TOKENS: int
    PUNCTUATION: Mapping[int, str | None]

    def _words(self, texts: Sequence[str]) -> Any:
        """``input_ids`` and ``attention_mask`` (B, L) of a batch, where the model is."""
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
