"""The surrogate captioner: captions for masked images and whole images (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tasnb.models.checkpoints import (
    DAMAGED,
    loading,
    model_source,
    registered,
    resident_model,
)
from tasnb.models.devices import Batches, compile_tower, device, device_of
from tasnb.models.processors import load_processor, pixels_of
from tasnb.settings import InputError, Settings, shown
from tasnb.store.threads import in_one_thread

if TYPE_CHECKING:
    import torch


class Captioner(Protocol):
    """Describes an image in a few words."""

    def caption(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        """One caption per RGB image (H, W, 3)."""


CHAT_PROMPT = "Describe the image in one short sentence."
TASK_PROMPT = "<CAPTION>"
"""What chat models and Florence-2 are asked unless ``settings.prompt`` says otherwise.

The captions' fingerprint contains only prompts that were set, so changing these needs a new
``VERSION``.
"""

UNPROMPTED = ("blip", "blip-2", "git")
"""Types of models that describe an image without being asked anything."""

TILES = ("crop_to_patches", "do_image_splitting")
"""Names that image processors have for dividing an image into tiles besides the whole image."""


class TransformersCaptions:
    """A captioner from transformers, with beam search.

    BLIP, BLIP-2 and GIT are given the image alone. Models with a chat template (SmolVLM, Qwen-VL,
    InternVL ...) are sent a message with the image and a prompt, and Florence-2 is given a task.
    """

    def __init__(self, settings: Settings) -> None:
        from transformers import AutoModelForImageTextToText
        from transformers.utils import logging

        logging.disable_progress_bar()
        name = settings.captioner
        source = model_source(name, settings)
        options: dict[str, Any] = {"dtype": dtype_of(settings.precision)}
        if name.startswith(EIGHT_BITS):
            options = _eight_bits(name)
        instead = "a folder, or an image-to-text model on the hub (needs network access)"
        if "microsoft/florence-2" in name.lower():  # whose files are for their own code
            instead = f"hf:florence-community/{name.rpartition('/')[2]}, the same for transformers"
        # Some processors need packages of their own, as SmolVLM's needs num2words.
        with loading(name, instead, (*DAMAGED, ImportError)):
            self.processor = load_processor(source)
            # weights_only: no pickled code in a .bin file, such as GIT's, is executed.
            model, info = AutoModelForImageTextToText.from_pretrained(
                source,
                weights_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
            if info["missing_keys"]:  # they would stay random, with just a warning
                raise ValueError(f"weight {min(info['missing_keys'])} is missing")
            model.eval()
        self.settings = settings
        self.chats = bool(getattr(self.processor, "chat_template", None))
        self.prompt = self._prompt_for(model.config.model_type)
        if self.prompt is not None:
            self._try_prompt()
        self.model = model if "device_map" in options else model.to(device())
        if settings.compile and hasattr(model, "vision_model"):
            compile_tower(model.vision_model)
        self.batches = Batches(settings.batch_size)

    @in_one_thread
    def caption(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        return [text for texts in self.batches.run(images, self._say) for text in texts]

    def _prompt_for(self, kind: str) -> str | None:
        """The prompt for a type of model such as "florence2"; None: it gets the image alone.

        Raises:
            InputError: The model takes no prompt, or needs one that is unknown.
        """
        name, given = self.settings.captioner, self.settings.prompt
        if self.chats:
            return given or CHAT_PROMPT
        if kind == "florence2":
            return given or TASK_PROMPT
        if kind not in UNPROMPTED:
            raise InputError(
                f"cannot ask {name} for captions: a model of type {kind} needs a prompt, and its "
                "processor has no chat template; choose a chat model, Florence-2, BLIP-2 or GIT"
            )
        if given is not None:
            raise InputError(
                f"{name} takes no prompt: leave out prompt = {shown(given)}, or choose a model "
                "with a chat template"
            )
        return None

    def _try_prompt(self) -> None:
        """Prepares one small image, so that an unusable prompt is noticed before work starts."""
        tokenizer = self.processor.tokenizer
        tokenizer.padding_side = "left" if self.chats else "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        try:
            self._prompted([np.full((64, 64, 3), 128, np.uint8)])
        except Exception as error:  # of any type, from Jinja's templates and the processors
            first = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
            raise InputError(
                f"cannot ask {self.settings.captioner} for captions with the prompt "
                f"{shown(self.prompt)} ({first}); choose another prompt or model"
            ) from None

    def _prompted(self, images: Sequence[npt.NDArray[np.uint8]]) -> Any:
        """The input for images with the prompt: tokens (B, T), their mask, and pixels."""
        from PIL import Image

        # As arrays, the rows of images 1, 3 or 4 pixels high would be taken for channels.
        pictures = [Image.fromarray(image) for image in images]
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        splits = self.settings.split_images
        own = self.processor.image_processor
        options |= {tiles: splits for tiles in TILES if hasattr(own, tiles)}
        if not self.chats:
            return self.processor(images=pictures, text=[self.prompt] * len(images), **options)
        ask = {"type": "text", "text": self.prompt}
        return self.processor.apply_chat_template(
            [
                [{"role": "user", "content": [{"type": "image", "image": picture}, ask]}]
                for picture in pictures
            ],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )

    def _say(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        """Captions of a batch."""
        import torch

        if self.prompt is None:
            given: Any = {"pixel_values": pixels_of(self.processor, images)}
        else:
            given = self._prompted(images)
        where = device_of(self.model), self.model.dtype
        given = {
            key: value.to(*where) if value.is_floating_point() else value.to(where[0])
            for key, value in given.items()
        }
        with torch.inference_mode():
            tokens = self.model.generate(
                **given,
                num_beams=self.settings.num_beams,
                max_new_tokens=self.settings.max_new_tokens,
                min_new_tokens=1,
                do_sample=False,
            )
        if self.chats and not self.model.config.is_encoder_decoder:
            tokens = tokens[:, given["input_ids"].shape[1] :]  # the prompt comes first
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        if self.prompt is None:
            return [text.strip() for text in texts]
        return [" ".join(text.split()) for text in texts]  # a chat may have several lines


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

OPTIONAL = ("prompt", "split_images")
"""Further such settings, which are part of the captions' fingerprint only if they are set."""


def options_set(settings: Settings) -> dict[str, Any]:
    """Those of ``OPTIONAL`` that are set, by name."""
    return {name: value for name in OPTIONAL if (value := getattr(settings, name))}


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
    read = settings.only("captioner", "data", "batch_size", "compile", *FIELDS, *OPTIONAL)
    return resident_model(settings.captioner, read, lambda: build(read))
