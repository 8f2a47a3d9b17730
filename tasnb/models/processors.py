"""Prepares images for public models in transformers as in training: resized with PIL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasnb.models.devices import few_at_a_time

if TYPE_CHECKING:
    from torch import Tensor


def load_processor(source: str) -> Any:
    """A model's processor, including its tokenizer, that resizes images with PIL.

    The authors of BLIP-2, GIT and CLIP resize with PIL; torchvision, the default of transformers,
    differs by up to 2 of 255 levels. If transformers has no PIL processor for a model, the default
    one is used, with a warning.

    Args:
        source: A folder, or the name of a repository on the hub.
    """
    from transformers import AutoImageProcessor, AutoProcessor

    # Otherwise transformers would ask at the terminal whether to run a repository's own code.
    processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
    processor.image_processor = AutoImageProcessor.from_pretrained(
        source, backend="pil", trust_remote_code=False
    )
    return processor


def pixels_of(processor: Any, images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """The model's input for RGB images (H, W, 3): normalised pixels (B, 3, S, S), float32.

    Args:
        processor: From `load_processor`, or the image processor in one.
        images: Of any sizes, down to a single pixel.
    """
    import torch

    # Without a format, a processor takes the rows of images 1, 3 or 4 pixels high for channels.
    options = {"input_data_format": "channels_last", "return_tensors": "pt"}
    parts = [processor(images=some, **options)["pixel_values"] for some in few_at_a_time(images)]
    return torch.cat(parts)
