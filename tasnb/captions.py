"""The surrogate captioner: captions of masked images and of whole images (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tasnb.checkpoints import loading, model_source, registered
from tasnb.settings import Settings


class Captioner(Protocol):
    """Says in a few words what an image shows."""

    def caption(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        """A caption for each RGB image (H, W, 3)."""


class TransformersCaptions:
    """A captioner of transformers (BLIP-2, GIT ...), prompted with nothing, by beam search."""

    def __init__(self, settings: Settings) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor
        from transformers.utils import logging

        logging.disable_progress_bar()
        source = model_source(settings.captioner, settings)
        instead = "a folder, or an image-to-text model of the hub"
        with loading(settings.captioner, instead, OSError, ValueError):
            self.processor = AutoProcessor.from_pretrained(source)
            self.model = AutoModelForImageTextToText.from_pretrained(source, dtype="float32").eval()
        self.settings = settings

    def caption(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        import torch

        captions: list[str] = []
        for start in range(0, len(images), self.settings.batch_size):
            batch = list(images[start : start + self.settings.batch_size])
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                tokens = self.model.generate(
                    pixel_values=pixels,
                    num_beams=self.settings.num_beams,
                    max_new_tokens=self.settings.max_new_tokens,
                    min_new_tokens=1,
                    do_sample=False,
                )
            texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
            captions += [text.strip() for text in texts]
        return captions


CAPTIONERS: dict[str, Callable[[Settings], Captioner]] = {
    "blip2": TransformersCaptions,
    "hf": TransformersCaptions,
}


@lru_cache(maxsize=2)
def load_captioner(settings: Settings) -> Captioner:
    """The captioner that ``settings.captioner`` names, as ``kind:checkpoint``.

    Raises:
        InputError: The kind or the checkpoint is unknown.
    """
    return registered("captioner", settings.captioner, CAPTIONERS)(settings)
