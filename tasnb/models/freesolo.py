"""FreeSOLO's network (Wang et al., 2022): SOLOv2 on a ResNet with a feature pyramid.

It predicts masks without boxes: each cell of a square grid predicts whether an object is centred in
it, and a 1x1 convolution that turns the image's features into the object's mask. Only inference is
implemented, on torchvision's backbone. `from_public` reads the weights published by the authors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from tasnb.models.checkpoints import fill
from tasnb.models.devices import device_of
from tasnb.models.run_lengths import RunLengths, compressed

PUBLIC: dict[str, Any] = {
    "layers": (3, 4, 23, 3),  # ResNet-101
    "width": 64,  # channels of the bottlenecks in the first stage
    "pyramid": 256,
    "instance": 512,
    "convolutions": 4,
    "mask": 128,
    "kernels": 256,
    "classes": 2,
    "groups": 32,
    "grids": (40, 36, 24, 16, 12),
    "short_side": 800,  # pixels to which the short side is resized, ...
    "long_side": 1333,  # ... or less, so that the long side does not exceed this
}
"""Sizes of ``FreeSOLO_R101_30k_pl.pth``."""

STRIDES = (8, 8, 16, 32, 32)  # stride in pixels of the features behind each grid
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, on a scale of 0 to 255

SCORE, PROBABILITY, KEPT = 0.1, 0.5, 0.05  # thresholds for a cell; for a pixel; after the NMS
PIXELS = 20_000_000  # pixels of full-size masks at a time, as for 64 images of 640 x 480
BEFORE_NMS, AFTER_NMS = 500, 100  # largest numbers of candidates
SIGMA = 2.0  # parameter of the Gaussian in matrix NMS


class InstanceHead(nn.Module):
    """Predicts class scores and a kernel for every cell of the grids."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, pyramid = config["instance"], config["pyramid"]
        self.grids = config["grids"]
        self.cate_tower = _tower(pyramid, width, config["convolutions"], config["groups"])
        self.kernel_tower = _tower(pyramid + 2, width, config["convolutions"], config["groups"])
        self.cate_pred = nn.Conv2d(width, config["classes"], 3, padding=1)
        self.kernel_pred = nn.Conv2d(width, config["kernels"], 3, padding=1)

    def forward(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Logits (B, classes, g, g) and kernels (B, K, g, g) for each level, p2 to p6."""
        p2, p3, p4, p5, p6 = levels
        p2 = F.interpolate(p2, scale_factor=0.5, mode="bilinear", align_corners=False)
        p6 = F.interpolate(p6, p5.shape[-2:], mode="bilinear", align_corners=False)
        said = []
        for level, side in zip((p2, p3, p4, p5, p6), self.grids, strict=True):
            cells = F.interpolate(
                with_places(level), (side, side), mode="bilinear", align_corners=False
            )
            scores = self.cate_pred(self.cate_tower(cells[:, :-2]))
            said.append((scores, self.kernel_pred(self.kernel_tower(cells))))
        return said


class MaskHead(nn.Module):
    """Computes the features, at a quarter of the image's size, from which all masks are made."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, pyramid, groups = config["mask"], config["pyramid"], config["groups"]
        self.convs_all_levels = nn.ModuleList()
        for level in range(4):
            stages = nn.Sequential()
            for stage in range(max(level, 1)):
                first = pyramid + 2 if level == 3 else pyramid
                stages.add_module(
                    f"conv{stage}", _convolution(width if stage else first, width, groups)
                )
                if level:
                    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
                    stages.add_module(f"upsample{stage}", up)
            self.convs_all_levels.append(stages)
        self.conv_pred = _convolution(width, config["kernels"], groups, size=1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Mask features (B, K, H / 4, W / 4) from p2 to p5."""
        *others, p5 = levels
        stages = zip(self.convs_all_levels, [*others, with_places(p5)], strict=True)
        return self.conv_pred(sum(stage(level) for stage, level in stages))


class FreeSolo(nn.Module):
    """The whole network.

    Args:
        config: The keys of ``PUBLIC``.
        norm: Normalisation layer of the backbone; training needs one that is trainable.
    """

    def __init__(
        self, config: Mapping[str, Any], norm: Callable[..., nn.Module] = FrozenBatchNorm2d
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = ResNet(
            Bottleneck, list(config["layers"]), width_per_group=config["width"], norm_layer=norm
        )
        del self.backbone.fc
        wide = [64 * 2**stage * Bottleneck.expansion for stage in range(4)]
        self.pyramid = FeaturePyramidNetwork(wide, config["pyramid"], LastLevelMaxPool())
        self.ins_head = InstanceHead(config)
        self.mask_head = MaskHead(config)

    def forward(self, pixels: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Outputs of both heads for normalised images (B, 3, H, W), H and W multiples of 32."""
        body = self.backbone
        x = body.relu(body.bn1(body.conv1(pixels)))
        # On a CPU, torch finds these maxima ten times faster with the channels last.
        x = body.maxpool(x.contiguous(memory_format=torch.channels_last)).contiguous()
        stages = {}
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = stages[name] = getattr(body, name)(x)
        levels = list(self.pyramid(stages).values())
        return self.ins_head(levels), self.mask_head(levels[:4])

    @torch.inference_mode()
    def masks(self, image: npt.NDArray[np.uint8]) -> tuple[list[RunLengths], Tensor]:
        """Masks, none empty, and scores (M,) of an RGB image (H, W, 3), best first."""
        height, width = image.shape[:2]
        scale = self.config["short_side"] / min(height, width)
        scale = min(scale, self.config["long_side"] / max(height, width))
        size = (round(width * scale), round(height * scale))
        pixels = to_pixels(
            np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        )
        said, features = self(pixels[None].to(device_of(self)))
        probabilities, scores = candidates(said, features)
        kept, scores = matrix_nms(probabilities, *scores)
        if not len(kept):
            return [], scores
        soft = probabilities[kept][None]
        soft = F.interpolate(soft, scale_factor=4, mode="bilinear", align_corners=False)
        soft = soft[..., : size[1], : size[0]]  # without the padding
        found: list[RunLengths] = []
        for some in soft.split(max(1, PIXELS // (height * width)), 1):  # as large as the image
            large = F.interpolate(some, (height, width), mode="bilinear", align_corners=False)
            found += compressed(large[0] > PROBABILITY)
        kept = [row for row, area in enumerate(coco_mask.area(found)) if area]
        return [found[row] for row in kept], scores[kept]


def candidates(
    said: Sequence[tuple[Tensor, Tensor]], features: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Converts the outputs of the heads for one image to soft masks.

    Returns:
        Probabilities (M, h, w) at the resolution of the features, and scores and classes (M,); best
        first, at most ``BEFORE_NMS``.
    """
    scores, kernels, classes, strides = [], [], [], []
    for (logits, kernel), stride in zip(said, STRIDES, strict=True):
        found = peaks(logits.sigmoid())[0].permute(1, 2, 0)  # (g, g, classes)
        row, column, label = torch.nonzero(found > SCORE, as_tuple=True)
        scores.append(found[row, column, label])
        kernels.append(kernel[0, :, row, column].T)
        classes.append(label)
        strides.append(torch.full_like(label, stride))
    soft = torch.einsum("mk,khw->mhw", torch.cat(kernels), features[0]).sigmoid()
    inside = soft > PROBABILITY
    area = inside.sum((1, 2))
    # A mask's score is that of its cell times the mean probability of its pixels.
    score = torch.cat(scores) * (soft * inside).sum((1, 2)) / area.clamp(min=1)
    some = torch.nonzero(area > torch.cat(strides))[:, 0]
    best = some[score[some].argsort(descending=True, stable=True)[:BEFORE_NMS]]
    return soft[best], (score[best], torch.cat(classes)[best])


def peaks(heat: Tensor) -> Tensor:
    """Scores (B, C, g, g) of the cells that are the maximum of a 2x2 window, 0 elsewhere."""
    largest = F.max_pool2d(heat, 2, stride=1, padding=1)[..., :-1, :-1]
    return heat * (largest == heat)


def matrix_nms(soft: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix NMS: a mask's score decays with its overlap with better masks of its class.

    Args:
        soft: Probabilities (M, h, w), best first.
        scores, classes: (M,).

    Returns:
        Indices and new scores (K,) of the masks that are kept, best first.
    """
    if not len(soft):
        return classes[:0], scores
    flat = (soft > PROBABILITY).flatten(1).float()
    shared, area = flat @ flat.T, flat.sum(1)
    iou = (shared / (area[:, None] + area - shared)).triu(1) * (classes[:, None] == classes)
    own = iou.amax(0)  # largest overlap of each mask with a better one, (M,)
    decay = (torch.exp(-SIGMA * iou**2) / torch.exp(-SIGMA * own[:, None] ** 2)).amin(0)
    scores = scores * decay
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= KEPT][:AFTER_NMS]
    return order, scores[order]


def to_pixels(image: npt.NDArray[np.uint8]) -> Tensor:
    """An RGB image (H, W, 3), normalised and padded with zeros to multiples of 32, (3, h, w)."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()
    pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return F.pad(pixels, (0, -pixels.shape[2] % 32, 0, -pixels.shape[1] % 32))


def with_places(features: Tensor) -> Tensor:
    """Features (B, C, H, W) with two more channels: x and y, from -1 to 1."""
    count, _, height, width = features.shape
    x, y = (torch.linspace(-1, 1, n, device=features.device) for n in (width, height))
    x, y = (line.expand(count, 1, height, width) for line in (x, y[:, None]))
    return torch.cat([features, x, y], 1)


def _convolution(wide_in: int, wide_out: int, groups: int, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(wide_in, wide_out, size, padding=size // 2, bias=False),
        nn.GroupNorm(groups, wide_out),
        nn.ReLU(inplace=True),
    )


def _tower(wide_in: int, wide: int, convolutions: int, groups: int) -> nn.Sequential:
    parts = [_convolution(wide if i else wide_in, wide, groups) for i in range(convolutions)]
    return nn.Sequential(*(layer for part in parts for layer in part))


UNUSED = re.compile(r"ins_head\.emb_pred\..*|_iter|pixel_(mean|std)")
"""Keys of the public checkpoint that inference does not use."""


def from_public(weights: Mapping[str, Any]) -> FreeSolo:
    """The network with the authors' weights, which are named as in detectron2.

    Args:
        weights: From ``checkpoints.load_weights``.

    Raises:
        KeyError: A weight is missing, or is not one of FreeSOLO's.
        ValueError: A weight has the wrong shape.
    """
    used = {ours(key): v for key, v in weights.items() if not UNUSED.fullmatch(key)}
    model = FreeSolo(PUBLIC)
    fill(model, used)
    return model.eval()


def ours(key: str) -> str:
    """Our name for one of detectron2's weights; unchanged if it is not part of the backbone."""
    pyramid = re.fullmatch(r"backbone\.fpn_(lateral|output)([2-5])\.(\w+)", key)
    if pyramid:
        blocks = {"lateral": "inner_blocks", "output": "layer_blocks"}[pyramid[1]]
        return f"pyramid.{blocks}.{int(pyramid[2]) - 2}.0.{pyramid[3]}"
    body = re.fullmatch(r"backbone\.bottom_up\.(stem|res([2-5])\.(\d+))\.(\w+)\.(.+)", key)
    if not body:
        return key
    _, stage, block, layer, rest = body.groups()
    norm = rest.startswith("norm.")
    rest = rest.removeprefix("norm.")
    if layer == "shortcut":
        layer = f"downsample.{int(norm)}"
    elif norm:
        layer = layer.replace("conv", "bn")
    where = f"layer{int(stage) - 1}.{block}." if stage else ""
    return f"backbone.{where}{layer}.{rest}"
