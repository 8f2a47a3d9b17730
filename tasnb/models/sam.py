"""Segment Anything, the paper's mask proposal network (section 3.2).

Builds the network in any size or with its authors' weights, and generates masks automatically for
images of any size with bounded memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from segment_anything.utils.amg import (
    MaskData,
    batched_mask_to_box,
    mask_to_rle_pytorch,
    remove_small_regions,
    rle_to_mask,
)
from torch import Tensor
from torchvision.ops import batched_nms

from tasnb.models.checkpoints import fill, load_weights, loading, placed
from tasnb.models.devices import Batches
from tasnb.settings import unknown


def build_sam(config: dict[str, Any]) -> Sam:
    """A ``Sam`` of any size, from the ``config.json`` of an embedded checkpoint."""
    size, patch, width = config["image_size"], config["patch_size"], config["prompt_width"]
    grid = size // patch
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=size,
            patch_size=patch,
            embed_dim=config["encoder_width"],
            depth=config["encoder_depth"],
            num_heads=config["encoder_heads"],
            out_chans=width,
            use_rel_pos=True,
            window_size=config["window_size"],
            global_attn_indexes=tuple(config["global_attention"]),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=width,
            image_embedding_size=(grid, grid),
            input_image_size=(size, size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=width,
            transformer=TwoWayTransformer(
                depth=config["decoder_depth"],
                embedding_dim=width,
                num_heads=config["decoder_heads"],
                mlp_dim=config["decoder_mlp"],
            ),
            iou_head_hidden_dim=config["iou_head_width"],
        ),
    )


CACHED = 2**20
"""Numbers of the embeddings of an image, once per point, that a CPU's cache holds."""

PUBLIC_SAM = {  # the authors' files
    "vit_h": "sam_vit_h_4b8939.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_b": "sam_vit_b_01ec64.pth",
}


def public_sam(name: str, data: Path) -> Sam:
    """A ``Sam`` with its authors' weights, downloaded for "sam:vit_h" or read for "sam:vit_h/FILE".

    Args:
        name: The name of the model.
        data: The data folder; weights in its ``checkpoints`` or in the folder of torch.hub are not
            downloaded again.

    Raises:
        InputError: There is no such model or file, or it cannot be downloaded.
    """
    from tasnb.fetch import fetched_file

    architecture, _, given = name.partition(":")[2].partition("/")
    if architecture not in PUBLIC_SAM:
        raise unknown("model of Segment Anything", architecture, PUBLIC_SAM)
    item = f"sam-{architecture.replace('_', '-')}"
    path = placed(given, data) if given else fetched_file(item, data)
    with loading(name, f"sam:{architecture}/ and the path of {PUBLIC_SAM[architecture]}"):
        sam = sam_model_registry[architecture]()
        fill(sam, load_weights(path))
    return sam


class Decoded(SamPredictor):
    """A predictor that enlarges masks which have already been decoded.

    Attributes:
        decoded: Logits (M, 1, h, w) from the decoder for some masks, and predicted IoUs (M, 1).
    """

    decoded: tuple[Tensor, Tensor]

    def predict_torch(self, *_: Any, **__: Any) -> tuple[Tensor, Tensor, Tensor]:
        logits, predicted = self.decoded
        large = self.model.postprocess_masks(logits, self.input_size, self.original_size)
        return large, predicted, logits


class MaskGenerator(SamAutomaticMaskGenerator):
    """The authors' automatic mask generator, with a bound on memory.

    Theirs enlarges all masks of 64 points together, which takes 9.4 GB for a 12-megapixel photo.
    Here the decoder processes the same points together, but only masks that pass the first filter
    are enlarged, thresholded and run-length encoded, and only some of them at a time. The logits
    agree to 1e-6, since torch enlarges one channel by other code, three times faster, than three.

    Args:
        model: The network.
        most_pixels: Pixels of enlarged masks at a time; at least one mask is enlarged.
        options: Options of the authors' generator; masks are returned as run lengths.
    """

    def __init__(self, model: Sam, most_pixels: int, **options: Any) -> None:
        super().__init__(model, output_mode="coco_rle", **options)
        self.predictor = Decoded(model)
        self.most_pixels = most_pixels

    def _process_batch(
        self,
        points: npt.NDArray[np.float64],
        im_size: tuple[int, ...],
        crop_box: list[int],
        orig_size: tuple[int, ...],
    ) -> MaskData:
        """Overrides theirs: boxes, run lengths and scores of the masks for some points (P, 2)."""
        logits, predicted = (found.flatten(0, 1) for found in self._decode(points, im_size))
        owners = points.repeat(len(predicted) // len(points), axis=0)
        good = (predicted > self.pred_iou_thresh) | (self.pred_iou_thresh <= 0)
        good[0] |= not good.any()  # since an empty batch cannot be enlarged
        some = torch.nonzero(good)[:, 0]

        def enlarge(chosen: Tensor) -> MaskData:
            self.predictor.decoded = logits[chosen, None], predicted[chosen, None]
            own = owners[chosen.cpu().numpy()]
            return super(MaskGenerator, self)._process_batch(own, im_size, crop_box, orig_size)

        together = max(1, self.most_pixels // (orig_size[0] * orig_size[1]))
        found, *others = Batches(together).run(some, enlarge)
        for part in others:
            found.cat(part)
        return found

    def _decode(
        self, points: npt.NDArray[np.float64], size: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Logits (P, 3, h, w) and predicted IoUs (P, 3) for points (P, 2) in pixels."""
        predictor, model = self.predictor, self.predictor.model
        there = torch.as_tensor(
            predictor.transform.apply_coords(points, size), device=predictor.device
        )
        labels = torch.ones(len(there), dtype=torch.int, device=there.device)
        grid = model.prompt_encoder.get_dense_pe()

        def decode(some: Tensor) -> tuple[Tensor, Tensor]:
            sparse, dense = model.prompt_encoder(
                points=(there[some, None], labels[some, None]), boxes=None, masks=None
            )
            return model.mask_decoder(
                image_embeddings=predictor.features,
                image_pe=grid,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )

        # On a CPU, a few points at a time stay in its cache, which takes two thirds of the time.
        few = len(points)
        if there.device.type == "cpu":
            few = 8 if 8 * grid.numel() <= CACHED else 4
        parts = [decode(some) for some in torch.arange(len(points)).split(few)]
        logits, predicted = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(predicted)

    @staticmethod
    def postprocess_small_regions(
        mask_data: MaskData, min_area: float, nms_thresh: float
    ) -> MaskData:
        """Overrides theirs, mask by mask: fills holes, drops islands, then drops duplicates."""
        rles: Sequence[dict[str, Any]] = mask_data["rles"]
        if not rles:
            return mask_data
        boxes, changed = [], []
        for place, rle in enumerate(rles):
            mask, filled = remove_small_regions(rle_to_mask(rle), min_area, mode="holes")
            mask, dropped = remove_small_regions(mask, min_area, mode="islands")
            pixels = torch.as_tensor(mask)[None]
            boxes.append(batched_mask_to_box(pixels)[0])
            changed.append(filled or dropped)
            if changed[-1]:
                mask_data["rles"][place] = mask_to_rle_pytorch(pixels)[0]
                mask_data["boxes"][place] = boxes[-1].numpy()
        kept = batched_nms(
            torch.stack(boxes).float(),
            torch.tensor([0.0 if one else 1.0 for one in changed]),  # prefer unchanged masks
            torch.zeros(len(boxes)),  # categories
            iou_threshold=nms_thresh,
        )
        mask_data.filter(kept)
        return mask_data
