"""Region features from CLIP's image tower: those of Region Token, Global-Local and HybridGL."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch import Tensor

from tasnb.models.clip.towers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Tower,
    embedded,
    feature_map,
    feed_forward,
    first_through,
    heads_of,
    input_size,
    normalised,
    out_of_heads,
    patch_tokens,
    pool,
    side,
    through,
)
from tasnb.models.devices import device_of

UPSAMPLE = 2  # patches overlap by half: a 14 x 14 grid with a ViT-B/32
CLOSED = -100.0  # added to the attention logits of masked-out pairs
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
BLUR = 15  # pixels; HybridGL's Gaussian kernel outside the mask
SHORT_SIDE = 800  # pixels; Global-Local first scales every image to it


def region_tokens(visual: VisionTransformer, pixels: Tensor, masks: Tensor) -> Tensor:
    """Region Token: one class token per mask that attends to the mask's patches only, (M, D).

    The image passes through every block unchanged. Alongside it, each region has a token that is
    initialised with the class token and attends to the patches in its mask and to itself.

    Args:
        pixels: One image (1, 3, H, W).
        masks: (M, h, w) of any size. The token of a mask that covers no patch centre attends to
            itself only.
    """
    image = patch_tokens(visual, pixels, UPSAMPLE)
    grid = round((image.shape[1] - 1) ** 0.5)
    masks = masks.to(pixels.device)
    inside = F.interpolate(masks[None].float(), (grid, grid), mode="nearest")[0].flatten(1)
    closed = F.pad((1 - inside) * CLOSED, (0, 1))  # a region always attends to its own token
    regions = image[0, :1].expand(len(masks), -1)
    blocks = visual.transformer.resblocks
    for block in blocks:
        of_image = heads_of(block, block.ln_1(image))
        k, v = (one[:, :, 1:] for one in of_image[1:])  # regions do not see the class token
        own_q, own_k, own_v = heads_of(block, block.ln_1(regions[None]))
        to_own = (own_q * own_k).sum(-1, keepdim=True)
        logits = torch.cat([own_q @ k.transpose(-2, -1), to_own], -1) * k.shape[-1] ** -0.5
        weights = (logits + closed).softmax(-1)  # (1, heads, M, patches + 1)
        seen = weights[..., :-1] @ v + weights[..., -1:] * own_v
        regions = feed_forward(block, regions + out_of_heads(block, seen)[0])
        if block is not blocks[-1]:
            image = through(block, image, *of_image)
    return embedded(visual, regions)


def global_features(visual: Tower, pixels: Tensor, masks: Tensor) -> Tensor:
    """The global half of Global-Local: the embedding with the tower's own features masked.

    ViT: the patches are multiplied by the mask before each of the last quarter of the blocks.
    ResNet: the last feature map, normalised to unit length over the channels at every location, is
    multiplied by the mask before pooling. Masks are resized to the grid bilinearly, so they are
    soft.

    Args:
        pixels: One image (1, 3, H, W).
        masks: (M, h, w) of any size.

    Returns:
        (M, D), not normalised.
    """
    masks = masks.to(pixels.device)
    if isinstance(visual, ModifiedResNet):
        features = F.normalize(feature_map(visual, pixels), dim=1)
        return pool(visual.attnpool, features * _soft(masks, *features.shape[2:])[:, None])
    blocks = visual.transformer.resblocks
    first = len(blocks) - max(1, len(blocks) // 4)  # the last three of twelve
    tokens = patch_tokens(visual, pixels)
    grid = round((tokens.shape[1] - 1) ** 0.5)
    soft = _soft(masks, grid, grid).flatten(1)[..., None]
    for block in blocks[:first]:
        tokens = through(block, tokens)
    for block in blocks[first:]:
        tokens = torch.cat([tokens[:, :1].expand(len(masks), -1, -1), tokens[:, 1:] * soft], 1)
        tokens = (first_through if block is blocks[-1] else through)(block, tokens)
    return embedded(visual, tokens)


def _soft(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks (M, H, W) resized to (M, height, width) bilinearly, without antialiasing."""
    rows, down = _between(masks.shape[1], height)
    columns, across = _between(masks.shape[2], width)
    rows, columns = (torch.from_numpy(those).to(masks.device) for those in (rows, columns))
    corners = masks[:, rows][:, :, columns].float()
    return _of_corners(corners[..., None], down, across)[..., 0]


def _between(pixels: int, places: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Where torch's bilinear resizing reads along an axis, without antialiasing.

    Returns:
        The pixels before all locations and those after them, (2 * places,); and the shares of the
        latter, (places,).
    """
    at = (np.arange(places, dtype=np.float32) + 0.5) * np.float32(pixels / places) - 0.5
    at = np.maximum(at, 0).astype(np.float32)
    before = at.astype(np.int64)
    return np.concatenate([before, np.minimum(before + 1, pixels - 1)]), at - before.astype("f4")


def _of_corners(
    corners: Tensor, down: npt.NDArray[np.float32], across: npt.NDArray[np.float32]
) -> Tensor:
    """The resized images (B, h, w, C) from the pixels that ``_between`` names.

    Args:
        corners: (B, 2 h, 2 w, C).
        down, across: Shares, (h,) and (w,).
    """
    below, right = (torch.from_numpy(share).to(corners.device) for share in (down, across))
    lines = torch.lerp(*corners.chunk(2, 1), below[:, None, None])
    return torch.lerp(*lines.chunk(2, 2), right[:, None])


def global_pixels(visual: Tower, image: npt.NDArray[np.uint8]) -> Tensor:
    """The whole image as Global-Local feeds it to the tower, (1, 3, S, S).

    Its code scales the short side to 800 pixels, normalises with ImageNet's statistics (not
    CLIP's), and then resizes the tensor to a square without antialiasing, which reads few of the
    pixels. Pillow resizes along x first, so columns that are not read are left out before it
    resizes along y.
    """
    height, width = image.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    square = side(visual)
    rows, down = _between(size[1], square)
    columns, across = _between(size[0], square)
    wide = Image.fromarray(image).resize((size[0], height), Image.Resampling.BILINEAR)
    few = Image.fromarray(np.asarray(wide)[:, columns])
    tall = few.resize((2 * square, size[1]), Image.Resampling.BILINEAR)
    corners = torch.from_numpy(np.asarray(tall)[rows]).to(device_of(visual))
    pixels = _of_corners(corners[None].float(), down, across).permute(0, 3, 1, 2) / 255
    # The same before and after this resizing, which is linear.
    return normalised(pixels, IMAGENET_MEAN, IMAGENET_STD)


def local_pixels(
    visual: Tower, image: npt.NDArray[np.uint8], masks: npt.NDArray[np.bool_]
) -> Tensor:
    """The crops for the local half of Global-Local, (M, 3, S, S).

    Pixels outside the mask are filled after normalisation with (0.485, 0.456, 0.406), which in
    normalised units is a warm grey, neither the mean colour nor black.

    Args:
        masks: (M, H, W), none empty.
    """
    pixels = torch.from_numpy(image.copy()).to(device_of(visual)).permute(2, 0, 1)[None] / 255
    pixels = normalised(pixels, IMAGENET_MEAN, IMAGENET_STD)
    fill = pixels.new_tensor(IMAGENET_MEAN)[None, :, None, None]
    size, crops = input_size(visual), []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        inside = torch.from_numpy(mask[box]).to(pixels.device)
        crops.append(_squashed(torch.where(inside, pixels[:, :, *box], fill), size))
    return torch.cat(crops)


def _squashed(pixels: Tensor, size: int) -> Tensor:
    return F.interpolate(
        pixels, (size, size), mode="bilinear", align_corners=False, antialias=False
    )


def mixed_regions(visual: Tower, whole: Tensor, crops: Tensor, share: float) -> Tensor:
    """Global-Local's region features: ``share`` * global + (1 - ``share``) * crops, (M, D).

    ViT: both are mixed unnormalised and the sum is normalised. ResNet: only the features of the
    crops are normalised, not the sum, so lengths differ between masks and affect the score. This
    follows the authors' code.
    """
    if isinstance(visual, ModifiedResNet):
        return share * whole + (1 - share) * F.normalize(crops, dim=-1)
    return F.normalize(share * whole + (1 - share) * crops, dim=-1)


def mixed_texts(visual: Tower, sentences: Tensor, phrases: Tensor) -> Tensor:
    """Global-Local's text features: the mean of sentence and noun phrase, (S, D).

    ViT: the raw vectors are averaged and the mean is normalised. ResNet: the normalised vectors are
    averaged and the mean is not normalised.

    Args:
        sentences, phrases: Raw vectors (S, D).
    """
    if isinstance(visual, ModifiedResNet):
        return (F.normalize(sentences, dim=-1) + F.normalize(phrases, dim=-1)) / 2
    return F.normalize((sentences + phrases) / 2, dim=-1)


def fused_features(
    visual: VisionTransformer, whole: Tensor, alone: Tensor, masks: Tensor
) -> Tensor:
    """HybridGL's features: a view of the mask alone, joined by one of the whole image, (M, D).

    Before each of the last quarter of the blocks, twice the tokens of the whole image, whose
    patches are multiplied by the mask, are added to those of the mask alone. The whole image's
    tokens then pass the block as well; their class token sees only patches that the mask touches.
    This is the direction "G2L" of the authors' code, its default.

    Args:
        whole, alone: Both views of each mask, (M, 3, S, S), from ``fused_pixels``.
        masks: (M, h, w) of any size. They are resized to the grid bilinearly, so they are soft.

    Returns:
        (M, D), not normalised.
    """
    blocks = visual.transformer.resblocks
    first = len(blocks) - max(1, len(blocks) // 4)  # the last three of twelve
    both = patch_tokens(visual, torch.cat([whole, alone]))
    for block in blocks[:first]:
        both = through(block, both)
    whole, alone = both.chunk(2)
    grid = round((both.shape[1] - 1) ** 0.5)
    soft = _soft(masks.to(both.device), grid, grid).flatten(1)
    seen = torch.ones(len(soft), 1, grid**2 + 1, grid**2 + 1, dtype=torch.bool, device=both.device)
    seen[:, 0, 0, 1:] = soft > 0
    for block in blocks[first:]:
        alone = alone + 2 * torch.cat([whole[:, :1], whole[:, 1:] * soft[..., None]], 1)
        if block is blocks[-1]:
            break
        alone = through(block, alone)
        attended = F.scaled_dot_product_attention(
            *heads_of(block, block.ln_1(whole)), attn_mask=seen
        )
        whole = feed_forward(block, whole + out_of_heads(block, attended))
    return embedded(visual, first_through(blocks[-1], alone))


def fused_pixels(
    visual: VisionTransformer, image: npt.NDArray[np.uint8], masks: npt.NDArray[np.bool_]
) -> tuple[Tensor, Tensor]:
    """HybridGL's views of every mask, (M, 3, S, S): blurred outside it, and filled outside it.

    Both show the full picture, normalised with ImageNet's statistics and then squashed without
    antialiasing. The fill is CLIP's mean colour, but in normalised units, as in the authors' code.

    Args:
        masks: (M, H, W).
    """
    square = side(visual)
    rows, down = _between(image.shape[0], square)
    columns, across = _between(image.shape[1], square)
    device = device_of(visual)

    def read(pixels: npt.NDArray[np.uint8]) -> Tensor:
        corners = torch.from_numpy(pixels[rows][:, columns]).to(device).permute(2, 0, 1)[None]
        return normalised(corners / 255, IMAGENET_MEAN, IMAGENET_STD).permute(0, 2, 3, 1)

    own, blurred = read(image), read(cv2.GaussianBlur(image, (BLUR, BLUR), 0))
    inside = torch.from_numpy(masks[:, rows][:, :, columns]).to(device)[..., None]
    views = [torch.where(inside, own, behind) for behind in (blurred, own.new_tensor(CLIP_MEAN))]
    whole, alone = (_of_corners(view, down, across).permute(0, 3, 1, 2) for view in views)
    return whole, alone
