"""Images as the public models of transformers were given them: resized by PIL, channels last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasnb.models.devices import few_at_a_time

if TYPE_CHECKING:
    from torch import Tensor


def load_processor(source: str) -> Any:
    """The processor of a model, tokenizer included, that resizes images with PIL.

    BLIP-2's authors, GIT's and CLIP's resize with PIL; transformers' default, torchvision, differs
    from it by up to 2 of 255 levels. A model that transformers has no such processor for gets
    the default one, with a warning.

    Args:
        source: A folder, or the name of a repository of the hub.
    """
    from transformers import AutoImageProcessor, AutoProcessor

    processor = AutoProcessor.from_pretrained(source)
    processor.image_processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    return processor


def pixels_of(processor: Any, images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """What a model sees of RGB images (H, W, 3): normalised pixels (B, 3, S, S), float32.

    Args:
        processor: From `load_processor`, or the image processor in one.
        images: Of any sizes, down to a single pixel.
    """
    import torch

    # Left to guess, a processor takes the rows of an image 1, 3 or 4 pixels high for its channels.
    options = {"input_data_format": "channels_last", "return_tensors": "pt"}
    parts = [processor(images=some, **options)["pixel_values"] for some in few_at_a_time(images)]
    return torch.cat(parts)
