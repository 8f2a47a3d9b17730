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
import torch.nn.functional as F
from pycocotools import mask as coco_mask
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
    box_xyxy_to_xywh,
    calculate_stability_score,
    is_box_near_crop_edge,
    remove_small_regions,
    uncrop_masks,
)
from torch import Tensor
from torchvision.ops import batched_nms

from tasnb.models.checkpoints import fill, load_weights, loading, placed
from tasnb.models.devices import Batches
from tasnb.models.run_lengths import RunLengths, compressed
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
CACHED_PIXELS = 2**20
"""Pixels of enlarged masks that a CPU's cache holds."""

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


class _Together(SamPredictor):
    """A predictor that can encode several images together before they are set, one by one.

    Attributes:
        batches: Images that are encoded together.
    """

    def __init__(self, model: Sam, together: int) -> None:
        super().__init__(model)
        self.batches = Batches(together)
        self._encoded: list[tuple[npt.NDArray[np.uint8], tuple[int, int], Tensor]] = []

    @torch.no_grad()
    def encode(self, images: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Encodes images (H, W, 3), which are kept until the next call."""
        small = [self.transform.apply_image(image) for image in images]

        def encode(some: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
            pixels = [torch.as_tensor(one, device=self.device).permute(2, 0, 1) for one in some]
            return self.model.image_encoder(torch.stack([*map(self.model.preprocess, pixels)]))

        self._encoded = []
        features = torch.cat(self.batches.run(small, encode))
        sizes = [one.shape[:2] for one in small]
        self._encoded = list(zip(images, sizes, features.split(1), strict=True))

    def set_image(self, image: npt.NDArray[np.uint8], image_format: str = "RGB") -> None:
        for known, size, features in self._encoded:
            # The generator passes the image as a view of itself.
            if known.ctypes.data == image.ctypes.data and known.shape == image.shape:
                self.reset_image()
                self.original_size, self.input_size = image.shape[:2], size
                self.features, self.is_image_set = features, True
                return
        super().set_image(image, image_format)


class MaskGenerator(SamAutomaticMaskGenerator):
    """The authors' automatic mask generator, with a bound on memory and on transfers.

    Theirs enlarges all masks of 64 points together, which takes 9.4 GB for a 12-megapixel photo.
    Here the decoder processes the same points together, but only masks that pass the first filter
    are enlarged, thresholded, boxed and run-length encoded, and only some of them at a time. Their
    run lengths are kept compressed, and are copied from a GPU once per batch. The logits agree to
    1e-6, since torch enlarges one channel by other code, three times faster, than three.

    Args:
        model: The network.
        most_pixels: Pixels of enlarged masks at a time; at least one mask is enlarged.
        together: Images that ``encode`` encodes together.
        options: Options of the authors' generator; masks are returned as run lengths.
    """

    def __init__(self, model: Sam, most_pixels: int, together: int = 1, **options: Any) -> None:
        super().__init__(model, output_mode="coco_rle", **options)
        self.predictor = _Together(model, together)
        self.most_pixels = most_pixels

    def encode(self, images: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Encodes images (H, W, 3) together, before the masks of each are generated."""
        self.predictor.encode(images)

    @torch.no_grad()
    def generate(self, image: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Overrides theirs: the same records, with compressed run lengths from the start."""
        found = self._generate_masks(image)
        if self.min_mask_region_area > 0:
            overlap = max(self.box_nms_thresh, self.crop_nms_thresh)
            found = self.postprocess_small_regions(found, self.min_mask_region_area, overlap)
        return [
            {
                "segmentation": {**rle, "counts": rle["counts"].decode()},
                "area": int(coco_mask.area(rle)),
                "bbox": box_xyxy_to_xywh(found["boxes"][row]).tolist(),
                "predicted_iou": found["iou_preds"][row].item(),
                "point_coords": [found["points"][row].tolist()],
                "stability_score": found["stability_score"][row].item(),
                "crop_box": box_xyxy_to_xywh(found["crop_boxes"][row]).tolist(),
            }
            for row, rle in enumerate(found["rles"])
        ]

    def _process_batch(
        self,
        points: npt.NDArray[np.float64],
        im_size: tuple[int, ...],
        crop_box: list[int],
        orig_size: tuple[int, ...],
    ) -> MaskData:
        """Overrides theirs: boxes, run lengths and scores of the masks for some points (P, 2)."""
        logits, predicted = (found.flatten(0, 1) for found in self._decode(points, im_size))
        owners = torch.as_tensor(points.repeat(len(predicted) // len(points), axis=0))
        good = (predicted > self.pred_iou_thresh) | (self.pred_iou_thresh <= 0)
        some = torch.nonzero(good)[:, 0]
        most = self.most_pixels
        if logits.device.type == "cpu":  # a few masks at a time stay in its cache
            most = min(most, CACHED_PIXELS)
        together = max(1, most // (orig_size[0] * orig_size[1]))

        def enlarge(chosen: Tensor) -> MaskData:
            return self._enlarged(logits[chosen], crop_box, orig_size, chosen)

        # An empty batch gives the types of what there is none of.
        found, *others = Batches(together).run(some, enlarge) or [enlarge(some)]
        for part in others:
            found.cat(part)
        found["iou_preds"] = predicted[found["rows"]]
        found["points"] = owners[found["rows"].cpu()]
        del found["rows"]
        return found

    def _enlarged(
        self, logits: Tensor, crop_box: list[int], orig_size: tuple[int, ...], rows: Tensor
    ) -> MaskData:
        """Stability scores, boxes and run lengths of the masks that pass the other two filters.

        Args:
            logits: (M, h, w), from the decoder.
            rows: (M,), returned for those masks.
        """
        threshold = self.predictor.model.mask_threshold
        if not len(logits):
            boxes = torch.zeros(0, 4, dtype=torch.int64, device=logits.device)
            return MaskData(
                rows=rows, stability_score=logits[:, 0, 0], boxes=boxes, rles=_in_array([])
            )
        large = self._as_large_as_image(logits)
        stability = calculate_stability_score(large, threshold, self.stability_score_offset)
        masks = large > threshold
        del large
        if self.stability_score_thresh > 0:
            kept = torch.nonzero(stability >= self.stability_score_thresh)[:, 0]
            masks, stability, rows = masks[kept], stability[kept], rows[kept]
        boxes = boxes_of(masks)
        height, width = orig_size
        whole = [0, 0, width, height]
        if crop_box != whole:  # else the edge is that of the image
            kept = torch.nonzero(~is_box_near_crop_edge(boxes, crop_box, whole))[:, 0]
            masks, boxes, stability, rows = masks[kept], boxes[kept], stability[kept], rows[kept]
        rles = _in_array(compressed(uncrop_masks(masks, crop_box, height, width)))
        return MaskData(rows=rows, stability_score=stability, boxes=boxes, rles=rles)

    def _as_large_as_image(self, logits: Tensor) -> Tensor:
        """Logits (M, h, w) enlarged to the size of the image (or crop), (M, H, W).

        The same values as from the authors' ``postprocess_masks``, which enlarges all logits to the
        network's square input, cuts off the padding, and resizes the rest to the image. Here only
        the logits that are inside the image are enlarged, and the rest is resized only if its size
        differs.
        """
        predictor = self.predictor
        inside, size = predictor.input_size, predictor.original_size
        times = predictor.model.image_encoder.img_size // logits.shape[-1]
        rows, columns = (-(-side // times) + 1 for side in inside)  # with a neighbour at the edge
        large = F.interpolate(
            logits[:, None, :rows, :columns],
            scale_factor=float(times),
            mode="bilinear",
            align_corners=False,
        )[..., : inside[0], : inside[1]]
        if inside != size:
            large = F.interpolate(large, size, mode="bilinear", align_corners=False)
        return large[:, 0]

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
        rles = mask_data["rles"]
        if not len(rles):
            return mask_data
        boxes, changed = [], []
        for place, rle in enumerate(rles):
            mask = coco_mask.decode(rle).astype(bool)
            mask, filled = remove_small_regions(mask, min_area, mode="holes")
            mask, dropped = remove_small_regions(mask, min_area, mode="islands")
            boxes.append(boxes_of(torch.as_tensor(mask)[None])[0])
            changed.append(filled or dropped)
            if changed[-1]:
                mask_data["rles"][place] = coco_mask.encode(np.asfortranarray(mask, np.uint8))
                mask_data["boxes"][place] = boxes[-1].numpy()
        kept = batched_nms(
            torch.stack(boxes).float(),
            torch.tensor([0.0 if one else 1.0 for one in changed]),  # prefer unchanged masks
            torch.zeros(len(boxes)),  # categories
            iou_threshold=nms_thresh,
        )
        mask_data.filter(kept)
        return mask_data


def boxes_of(masks: Tensor) -> Tensor:
    """First and last column and row of masks (M, H, W): x, y, x, y, (M, 4); zeros for an empty one.

    The authors' ``batched_mask_to_box`` in a quarter of the time on a CPU, where torch finds the
    largest of numbers faster than that of truth values, or than the largest and its place.
    """
    ends = []
    for along in (1, 2):  # columns, rows
        seen = masks.view(torch.uint8).amax(along)
        ends.append((seen.argmax(1), seen.shape[1] - 1 - seen.flip(1).argmax(1)))
    boxes = torch.stack([*(first for first, _ in ends), *(last for _, last in ends)], 1)
    return boxes * seen.any(1, keepdim=True)


def _in_array(rles: Sequence[RunLengths]) -> npt.NDArray[np.object_]:
    """Run lengths in an array, of which ``MaskData`` selects some without asking a GPU for each."""
    found = np.empty(len(rles), object)
    found[:] = rles
    return found
