"""The surrogate captioner: captions of masked images and of whole images (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tasnb.models.checkpoints import loading, model_source, registered
from tasnb.models.devices import (
    Batches,
    compile_tower,
    device,
    device_of,
    few_at_a_time,
    half,
    resident,
)
from tasnb.settings import InputError, Settings
from tasnb.store.threads import in_one_thread


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
        options: dict[str, Any] = {"dtype": half() if settings.precision == "half" else "float32"}
        if settings.captioner.startswith(EIGHT_BITS):
            options = _eight_bits(settings.captioner)
        instead = "a folder, or an image-to-text model of the hub with a network in reach"
        with loading(settings.captioner, instead):
            self.processor = AutoProcessor.from_pretrained(source)
            model = AutoModelForImageTextToText.from_pretrained(source, **options).eval()
        self.model = model if "device_map" in options else model.to(device())
        if settings.compile and hasattr(model, "vision_model"):
            compile_tower(model.vision_model)
        self.settings = settings
        self.batches = Batches(settings.batch_size)

    @in_one_thread
    def caption(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        return [text for texts in self.batches.run(images, self._say) for text in texts]

    def _say(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        """Captions of a batch."""
        import torch

        pixels = torch.cat(
            [
                self.processor(images=some, return_tensors="pt")["pixel_values"]
                for some in few_at_a_time(images)
            ]
        )
        with torch.inference_mode():
            tokens = self.model.generate(
                pixel_values=pixels.to(device_of(self.model), self.model.dtype),
                num_beams=self.settings.num_beams,
                max_new_tokens=self.settings.max_new_tokens,
                min_new_tokens=1,
                do_sample=False,
            )
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]


EIGHT_BITS = "blip2-8bit:"


def _eight_bits(name: str) -> dict[str, Any]:
    """What ``from_pretrained`` needs to hold the weights in 8 bits, on a GPU.

    Raises:
        InputError: There is no GPU, or a package for it is missing.
    """
    import torch
    from transformers import BitsAndBytesConfig

    missing = [p for p in ("bitsandbytes", "accelerate") if not find_spec(p)]
    if missing or not torch.cuda.is_available():
        lacks = f"`pip install {' '.join(missing)}`" if missing else "a GPU"
        instead = name.replace(EIGHT_BITS, "blip2:")
        raise InputError(f"{name} needs {lacks}; {instead} is the same model in full precision")
    return {
        "quantization_config": BitsAndBytesConfig(load_in_8bit=True),
        "dtype": torch.float16,
        "device_map": {"": 0},
    }


CAPTIONERS: dict[str, Callable[[Settings], Captioner]] = {
    "blip2": TransformersCaptions,
    EIGHT_BITS.removesuffix(":"): TransformersCaptions,
    "git": TransformersCaptions,
    "hf": TransformersCaptions,
}


FIELDS = ("num_beams", "max_new_tokens", "precision")
"""The settings, but for its name, that a captioner's captions depend on."""


def load_captioner(settings: Settings) -> Captioner:
    """The captioner that ``settings.captioner`` names, as ``kind:checkpoint``.

    Raises:
        InputError: The kind or the checkpoint is unknown.
    """
    build = registered("captioner", settings.captioner, CAPTIONERS)
    read = settings.only("captioner", "data", "batch_size", "compile", *FIELDS)
    return resident(read, lambda: build(read))
