"""Automatic masks from the models of transformers that segment at points: SAM, SAM 2, EdgeTAM ...

The grid of points, the filters and the bound on memory are those of ``tasnb.models.sam``. The
pipeline of transformers is not used: it scales points as for SAM, which pads images to a square,
although SAM 2 and EdgeTAM stretch them to one, so that part of the image would get no points.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from segment_anything import SamPredictor
from torch import Tensor

from tasnb.models.devices import device_of, to_numpy
from tasnb.models.sam import MaskGenerator

FEW = 8
"""Points decoded together on a CPU, which is faster than all at once."""


class _Predictor(SamPredictor):
    """Encodes images with a model of transformers, and enlarges its masks."""

    def __init__(self, network: Any, processor: Any) -> None:
        # All that the authors' code asks of a ``Sam``; images are resized by the processor.
        stand_in = SimpleNamespace(
            image_encoder=SimpleNamespace(img_size=1),
            mask_threshold=0.0,
            device=device_of(network),
            postprocess_masks=self._enlarge,
        )
        super().__init__(stand_in)
        self.network = network
        self.processor = processor

    def set_image(self, image: npt.NDArray[np.uint8], image_format: str = "RGB") -> None:
        """Computes the embeddings of an RGB image (H, W, 3)."""
        self.reset_image()
        found = self.processor(images=Image.fromarray(image), return_tensors="pt")
        pixels = found["pixel_values"].to(device_of(self.network), self.network.dtype)
        # SAM keeps the proportions and pads; the others stretch the image to the whole input.
        resized = found.get("reshaped_input_sizes", [pixels.shape[-2:]])[0]
        self.input_size = tuple(int(side) for side in resized)
        self.original_size = image.shape[:2]
        with torch.inference_mode():
            found = self.network.get_image_embeddings(pixels)
        self.features = {"image_embeddings": found}
        if isinstance(found, tuple):  # of SAM-HQ
            self.features = dict(
                zip(("image_embeddings", "intermediate_embeddings"), found, strict=True)
            )
        self.is_image_set = True

    def _enlarge(
        self, logits: Tensor, input_size: tuple[int, ...], original_size: tuple[int, ...]
    ) -> Tensor:
        return self.processor.post_process_masks(
            [logits.float()],
            [original_size],
            reshaped_input_sizes=[input_size],
            binarize=False,
        )[0]


class PointMasks(MaskGenerator):
    """Automatic masks from a grid of points, by a mask-generation model of transformers.

    Args:
        network: The model, such as a ``Sam2Model``.
        processor: Its image processor.
        most_pixels, options: As for ``MaskGenerator``.
    """

    def __init__(self, network: Any, processor: Any, most_pixels: int, **options: Any) -> None:
        predictor: Any = _Predictor(network, processor)
        super().__init__(predictor.model, most_pixels, **options)
        self.predictor = predictor

    def scores_at(
        self, image: npt.NDArray[np.uint8], points: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Predicted IoUs (P, 3) of the masks at points (P, 2), in pixels, of an image (H, W, 3)."""
        self.predictor.set_image(image)
        with torch.inference_mode():
            predicted = self._decode(points, image.shape[:2])[1]
        return to_numpy(predicted)

    def _as_large_as_image(self, logits: Tensor) -> Tensor:
        """Overrides that for the authors' network."""
        predictor: Any = self.predictor
        return predictor.model.postprocess_masks(
            logits[:, None], predictor.input_size, predictor.original_size
        )[:, 0]

    def _decode(
        self, points: npt.NDArray[np.float64], size: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Overrides that for the authors' network."""
        predictor: Any = self.predictor
        network = predictor.network
        height, width = predictor.input_size
        scaled = points * (width / size[1], height / size[0])
        there = torch.as_tensor(scaled, dtype=network.dtype, device=predictor.device)

        def decode(some: Tensor) -> tuple[Tensor, Tensor]:
            found = network(
                **predictor.features,
                input_points=some[None, :, None],
                input_labels=torch.ones((1, len(some), 1), dtype=torch.int, device=some.device),
                multimask_output=True,
            )
            return found.pred_masks[0], found.iou_scores[0].float()

        few = FEW if there.device.type == "cpu" else len(there)
        logits, predicted = zip(*map(decode, there.split(few)), strict=True)
        return torch.cat(logits), torch.cat(predicted)
