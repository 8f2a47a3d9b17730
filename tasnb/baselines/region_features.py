"""Features of regions from CLIP's image tower: Region Token and Global-Local (section 4.3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch import Tensor

from tasnb.baselines.towers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Tower,
    embedded,
    feature_map,
    feed_forward,
    heads_of,
    normalised,
    out_of_heads,
    patch_tokens,
    pool,
    side,
)
from tasnb.models.devices import device_of

UPSAMPLE = 2  # patches overlap by half: 14 x 14 of them with a ViT-B/32
CLOSED = -100.0  # added to the attention between what must not see each other
SHORT_SIDE = 800  # pixels to which Global-Local first brings every image


def region_tokens(visual: VisionTransformer, pixels: Tensor, masks: Tensor) -> Tensor:
    """Region Token: a class token for each mask that sees the mask's patches only, (M, D).

    In every block the image goes its ordinary way, and beside it each region's token, which begins
    as the class token, attends to the patches in its mask and to itself.

    Args:
        pixels: One image (1, 3, H, W).
        masks: (M, h, w) of any size. A mask that misses the centre of every patch leaves its token
            to itself.
    """
    image = patch_tokens(visual, pixels, UPSAMPLE)
    grid = round((image.shape[1] - 1) ** 0.5)
    masks = masks.to(pixels.device)
    inside = F.interpolate(masks[None].float(), (grid, grid), mode="nearest")[0].flatten(1)
    closed = F.pad((1 - inside) * CLOSED, (0, 1))  # its own token is open to a region
    regions = image[0, :1].expand(len(masks), -1)
    for block in visual.transformer.resblocks:
        # Each region is a batch row of its own: the image's patches, then its token.
        _, k, v = heads_of(block, block.ln_1(image[:, 1:]))
        own_q, own_k, own_v = heads_of(block, block.ln_1(regions[:, None]))
        keys = torch.cat([k.expand(len(masks), -1, -1, -1), own_k], 2)
        values = torch.cat([v.expand(len(masks), -1, -1, -1), own_v], 2)
        seen = F.scaled_dot_product_attention(
            own_q, keys, values, attn_mask=closed[:, None, None, :]
        )
        regions = feed_forward(block, regions + out_of_heads(block, seen)[:, 0])
        image = block(image)
    return embedded(visual, regions)


def global_features(visual: Tower, pixels: Tensor, masks: Tensor) -> Tensor:
    """The global half of Global-Local: the tower's embedding with a mask laid over its insides.

    ViT: patches are multiplied by the mask before each of the last quarter of the blocks. ResNet:
    the last map, its channels scaled to unit length at every place, is multiplied by the mask
    before the pooling. Masks are brought to the grid by bilinear weights, so they are soft.

    Args:
        pixels: One image (1, 3, H, W).
        masks: (M, h, w) of any size.

    Returns:
        (M, D), not normalised.
    """
    masks = masks.to(pixels.device)
    if isinstance(visual, ModifiedResNet):
        features = F.normalize(feature_map(visual, pixels), dim=1)
        return pool(visual.attnpool, features * _soft(masks, *features.shape[2:])[:, None])[:, 0]
    blocks = visual.transformer.resblocks
    first = len(blocks) - max(1, len(blocks) // 4)  # the last three of twelve
    tokens = patch_tokens(visual, pixels)
    grid = round((tokens.shape[1] - 1) ** 0.5)
    soft = _soft(masks, grid, grid).flatten(1)[..., None]
    for block in blocks[:first]:
        tokens = block(tokens)
    for block in blocks[first:]:
        tokens = block(
            torch.cat([tokens[:, :1].expand(len(masks), -1, -1), tokens[:, 1:] * soft], 1)
        )
    return embedded(visual, tokens[:, 0])


def _soft(masks: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    return F.interpolate(masks[None].float(), size, mode="bilinear", align_corners=False)[0]


def global_pixels(visual: Tower, image: npt.NDArray[np.uint8]) -> Tensor:
    """The whole image as Global-Local shows it, (1, 3, S, S).

    Its code scales the short side to 800 pixels, normalises as ImageNet's networks want it (not as
    CLIP does) and then squashes the tensor, without smoothing.
    """
    height, width = image.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return _squashed(_as_imagenet(visual, large), side(visual))


def local_pixels(
    visual: Tower, image: npt.NDArray[np.uint8], masks: npt.NDArray[np.bool_]
) -> Tensor:
    """The crops of the local half, (M, 3, S, S).

    What lies outside the mask is filled after the normalisation with 0.485, 0.456, 0.406, which in
    that space is a warm grey and neither the mean colour nor black.
    """
    pixels = _as_imagenet(visual, image)
    fill = pixels.new_tensor(IMAGENET_MEAN)[None, :, None, None]
    size = visual.image_size if isinstance(visual, ModifiedResNet) else visual.image_size[0]
    crops = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        inside = torch.from_numpy(mask[box]).to(pixels.device)
        crops.append(_squashed(torch.where(inside, pixels[:, :, *box], fill), size))
    return torch.cat(crops)


def _as_imagenet(visual: Tower, image: npt.NDArray[np.uint8]) -> Tensor:
    pixels = torch.from_numpy(image.copy()).to(device_of(visual)).permute(2, 0, 1)[None] / 255
    return normalised(pixels, IMAGENET_MEAN, IMAGENET_STD)


def _squashed(pixels: Tensor, size: int) -> Tensor:
    return F.interpolate(
        pixels, (size, size), mode="bilinear", align_corners=False, antialias=False
    )


def mixed_regions(visual: Tower, whole: Tensor, crops: Tensor, share: float) -> Tensor:
    """V of Global-Local: ``share`` of the global features, the rest of the crops', (M, D).

    ViT: both as they are, the sum scaled to unit length. ResNet: the crops' alone are scaled to
    unit length, and the sum is not, so that lengths differ between masks and matter. That is how
    its code does it.
    """
    if isinstance(visual, ModifiedResNet):
        return share * whole + (1 - share) * F.normalize(crops, dim=-1)
    return F.normalize(share * whole + (1 - share) * crops, dim=-1)


def mixed_texts(visual: Tower, sentences: Tensor, phrases: Tensor) -> Tensor:
    """T of Global-Local: half the sentence, half its noun phrase, (S, D), from raw vectors.

    ViT: raw vectors mixed and the sum scaled; ResNet: unit vectors mixed, the sum as it is.
    """
    if isinstance(visual, ModifiedResNet):
        return (F.normalize(sentences, dim=-1) + F.normalize(phrases, dim=-1)) / 2
    return F.normalize((sentences + phrases) / 2, dim=-1)
