"""Activation maps of CLIP: Grad-CAM, Score Map and CLIP Surgery (section 4.3, Table 1).

A map says of every place of the whole image how much an expression fits there; a mask's score is
the mean of the map, enlarged to the image, inside the mask. Enlarging and averaging are linear, so
both together are one small matrix a mask (``mean_in_masks``), and for the two methods whose map is
linear in the text as well, what is stored is one vector a mask, whatever is asked of it later.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor

from tasnb.baselines.towers import (
    Tower,
    embedded,
    feature_map,
    feed_forward,
    heads_of,
    out_of_heads,
    patch_tokens,
    pool,
)


def score_map(visual: Tower, pixels: Tensor) -> Tensor:
    """What CLIP would say of every place by itself (MaskCLIP), unit vectors (B, h, w, D).

    The last attention is left out: each place's value goes through the output projection alone.
    With a ViT the residual and the second half of the last block stay. The map of a text is the
    cosine with it.
    """
    if isinstance(visual, ModifiedResNet):
        features = feature_map(visual, pixels).permute(0, 2, 3, 1)
        pooling = visual.attnpool
        return F.normalize(pooling.c_proj(pooling.v_proj(features)), dim=-1)
    *blocks, last = visual.transformer.resblocks
    tokens = patch_tokens(visual, pixels)
    for block in blocks:
        tokens = block(tokens)
    _, _, values = heads_of(last, last.ln_1(tokens))
    tokens = feed_forward(last, tokens + out_of_heads(last, values))
    return _places(F.normalize(embedded(visual, tokens), dim=-1))


def clip_surgery(visual: Tower, pixels: Tensor) -> Tensor:
    """Every place's embedding when values attend to values, unit vectors (B, h, w, D).

    With a ViT the second half of the blocks is walked twice: once as it is, and once along a new
    path that takes only the value-to-value attention, computed from the ordinary path, and no
    feed-forward part. The map of a text is the product with the text's vector less that of the
    empty text, which holds what all texts have in common.
    """
    if isinstance(visual, ModifiedResNet):
        tokens = pool(visual.attnpool, feature_map(visual, pixels), by_values=True)
        return _places(F.normalize(tokens, dim=-1))
    blocks = visual.transformer.resblocks
    tokens = patch_tokens(visual, pixels)
    for block in blocks[: -max(1, len(blocks) // 2)]:  # six of twelve are converted
        tokens = block(tokens)
    path = tokens
    for block in blocks[-max(1, len(blocks) // 2) :]:
        _, _, values = heads_of(block, block.ln_1(tokens))
        among = F.scaled_dot_product_attention(values, values, values)
        path = path + out_of_heads(block, among)
        tokens = block(tokens)
    return _places(F.normalize(embedded(visual, path), dim=-1))


def grad_cam(visual: Tower, pixels: Tensor, texts: Tensor) -> Tensor:
    """Which places raise an image's cosine with each text, (T, h, w), not negative.

    ResNet: channels of the last map, weighted by the mean of their gradient. ViT: the class token's
    attention in the last block times its gradient, negative products dropped, mean over the heads.
    The logit's temperature is left out: it scales a map and moves nothing in it.

    Args:
        pixels: One image (1, 3, H, W).
        texts: Unit vectors (T, D).
    """
    with torch.no_grad():
        if isinstance(visual, ModifiedResNet):
            inner = feature_map(visual, pixels)
        else:
            *blocks, last = visual.transformer.resblocks
            inner = patch_tokens(visual, pixels)
            for block in blocks:
                inner = block(inner)
    inner = inner.detach().expand(len(texts), *inner.shape[1:])
    with torch.enable_grad():
        if isinstance(visual, ModifiedResNet):
            watched = inner.requires_grad_()
            image = pool(visual.attnpool, watched)[:, 0]
        else:
            q, k, v = heads_of(last, last.ln_1(inner))
            watched = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
            watched = watched.detach().requires_grad_()
            tokens = feed_forward(last, inner + out_of_heads(last, watched @ v))
            image = embedded(visual, tokens[:, 0])
        cosine = (F.normalize(image, dim=-1) * texts.to(pixels.device)).sum()
        (gradient,) = torch.autograd.grad(cosine, watched)
    watched = watched.detach()
    if isinstance(visual, ModifiedResNet):
        return (gradient.mean((2, 3), keepdim=True) * watched).sum(1).relu()
    return _places((gradient * watched).relu().mean(1)[:, 0, :, None])[..., 0]


def _places(tokens: Tensor) -> Tensor:
    """Tokens (B, 1 + g^2, D) without the first, on their grid (B, g, g, D)."""
    grid = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].unflatten(1, (grid, grid))


def mean_in_masks(
    masks: npt.NDArray[np.bool_],
    height: int,
    width: int,
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> npt.NDArray[np.float32]:
    """What a map's places weigh in the mean, inside each mask, of the map enlarged to the image.

    Args:
        masks: (M, H, W), none empty.
        height, width: Of the map.

    Returns:
        (M, height * width); rows sum to 1.
    """
    down = _enlargement(masks.shape[1], height, mode)
    across = _enlargement(masks.shape[2], width, mode)
    weights = np.einsum("yi,myx,xj->mij", down, masks.astype(np.float32), across, optimize=True)
    return weights.reshape(len(masks), -1) / masks.sum((1, 2))[:, None].astype(np.float32)


def _enlargement(pixels: int, places: int, mode: str) -> npt.NDArray[np.float32]:
    """Weights (pixels, places) of an interpolation along one side, edges as torch has them."""
    each = torch.eye(places)[None, :, :, None]  # a line for each place, 1 there and 0 elsewhere
    lines = F.interpolate(each, (pixels, 1), mode=mode, align_corners=False)
    return lines[0, :, :, 0].T.numpy()
