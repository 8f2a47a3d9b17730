"""The surrogate captioner: captions for masked images and whole images (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tasnb.models.checkpoints import loading, model_source, registered, resident_model
from tasnb.models.devices import Batches, compile_tower, device, device_of
from tasnb.models.processors import load_processor, pixels_of
from tasnb.settings import InputError, Settings
from tasnb.store.threads import in_one_thread

if TYPE_CHECKING:
    import torch


class Captioner(Protocol):
    """Describes an image in a few words."""

    def caption(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        """One caption per RGB image (H, W, 3)."""


class TransformersCaptions:
    """A captioner from transformers (BLIP-2, GIT ...), with beam search and without a prompt."""

    def __init__(self, settings: Settings) -> None:
        from transformers import AutoModelForImageTextToText
        from transformers.utils import logging

        logging.disable_progress_bar()
        source = model_source(settings.captioner, settings)
        options: dict[str, Any] = {"dtype": dtype_of(settings.precision)}
        if settings.captioner.startswith(EIGHT_BITS):
            options = _eight_bits(settings.captioner)
        instead = "a folder, or an image-to-text model on the hub (needs network access)"
        with loading(settings.captioner, instead):
            self.processor = load_processor(source)
            # weights_only: no pickled code in a .bin file, such as GIT's, is executed.
            model, info = AutoModelForImageTextToText.from_pretrained(
                source, weights_only=True, output_loading_info=True, **options
            )
            if info["missing_keys"]:  # they would stay random, with just a warning
                raise ValueError(f"weight {min(info['missing_keys'])} is missing")
            model.eval()
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

        pixels = pixels_of(self.processor, images)
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


def dtype_of(precision: str) -> torch.dtype:
    """The data type of a captioner's weights on this machine, for ``settings.precision``.

    "half" is float16 on a GPU, as in LAVIS. transformers then keeps BLIP-2's Q-Former and queries
    in float32, as LAVIS does, but not with "bfloat16". Without a GPU "half" is float32, since most
    CPUs are many times slower with 16 bits. The store treats the captions of both as the same, so
    that a machine without a GPU can read what one with a GPU has computed.
    """
    import torch

    if precision == "half":
        return torch.float16 if device().type == "cuda" else torch.float32
    return {"full": torch.float32, "bfloat16": torch.bfloat16}[precision]


EIGHT_BITS = "blip2-8bit:"


def _eight_bits(name: str) -> dict[str, Any]:
    """Options for ``from_pretrained`` to load the weights in 8 bits on a GPU.

    Raises:
        InputError: There is no GPU, or a required package is missing.
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
"""The settings, besides its name, on which a captioner's captions depend."""

VERSION = 2
"""Version of the computation, part of the captions' fingerprint. In 1, images were resized by
torchvision, the rows of images 1, 3 or 4 pixels high were taken for channels, and half precision
was bfloat16."""


def load_captioner(settings: Settings) -> Captioner:
    """The captioner given by ``settings.captioner``, as ``kind:checkpoint``.

    Raises:
        InputError: The kind or the checkpoint is unknown.
    """
    build = registered("captioner", settings.captioner, CAPTIONERS)
    read = settings.only("captioner", "data", "batch_size", "compile", *FIELDS)
    return resident_model(settings.captioner, read, lambda: build(read))
