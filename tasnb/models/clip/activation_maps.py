"""Activation maps of CLIP: Grad-CAM, Score Map and CLIP Surgery (section 4.3, Table 1), and GEM.

A map gives, for every location of the image, how well an expression matches there. A mask's score
is the mean of the map inside the mask, after upsampling it to the size of the image. Upsampling and
averaging are both linear, so together they are one small weight vector per mask
(``mean_in_masks``). For the methods whose map is also linear in the text, it is enough to store one
vector per mask, whatever the expressions.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor

from tasnb.models.clip.towers import (
    Tower,
    embedded,
    feature_map,
    feed_forward,
    heads_of,
    out_of_heads,
    patch_tokens,
    pool,
    pool_by_values,
    through,
)


def score_map(visual: Tower, pixels: Tensor) -> Tensor:
    """CLIP's embedding of each location by itself (MaskCLIP), unit vectors (B, h, w, D).

    The last attention is skipped: each location's value goes straight through the output
    projection. With a ViT, the residual connection and the feed-forward half of the last block are
    kept. The map of a text is its cosine similarity with these vectors.
    """
    if isinstance(visual, ModifiedResNet):
        features = feature_map(visual, pixels).permute(0, 2, 3, 1)
        pooling = visual.attnpool
        return F.normalize(pooling.c_proj(pooling.v_proj(features)), dim=-1)
    *blocks, last = visual.transformer.resblocks
    tokens = patch_tokens(visual, pixels)
    for block in blocks:
        tokens = through(block, tokens)
    _, _, values = heads_of(last, last.ln_1(tokens))
    tokens = feed_forward(last, tokens + out_of_heads(last, values))
    return _places(F.normalize(embedded(visual, tokens), dim=-1))


def clip_surgery(visual: Tower, pixels: Tensor) -> Tensor:
    """The embedding of each location under value-value attention, unit vectors (B, h, w, D).

    With a ViT, a second path runs next to the original one through the last half of the blocks. It
    accumulates the value-value attention computed from the original path and skips the feed-forward
    layers. The map of a text is the inner product with the text's vector minus that of the empty
    text, which stands for what all texts have in common.
    """
    if isinstance(visual, ModifiedResNet):
        tokens = pool_by_values(visual.attnpool, feature_map(visual, pixels))
        return _places(F.normalize(tokens, dim=-1))
    blocks = visual.transformer.resblocks
    tokens = patch_tokens(visual, pixels)
    for block in blocks[: -max(1, len(blocks) // 2)]:  # six of twelve are converted
        tokens = through(block, tokens)
    path = tokens
    for block in blocks[-max(1, len(blocks) // 2) :]:
        queries, keys, values = heads_of(block, block.ln_1(tokens))
        among = F.scaled_dot_product_attention(values, values, values)
        path = path + out_of_heads(block, among)
        if block is not blocks[-1]:
            tokens = through(block, tokens, queries, keys, values)
    return _places(F.normalize(embedded(visual, path), dim=-1))


def gem(visual: VisionTransformer, pixels: Tensor) -> Tensor:
    """The embedding of each location under GEM's self-self attention, unit vectors (B, h, w, D).

    From Bousselham et al. 2024, "Grounding Everything: Emerging Localization Properties in
    Vision-Language Transformers", section 3. As in CLIP Surgery, a second path without feed-forward
    layers runs next to the original one through the last half of the blocks. It accumulates the
    mean of three attentions on the values: of queries with queries, of keys with keys, and of
    values with values (``_by_likeness``). The map of a text is its cosine similarity with these
    vectors; that GEM scales each map to [0, 1] does not change which mask has the largest mean.
    """
    blocks = visual.transformer.resblocks
    tokens = patch_tokens(visual, pixels)
    half = max(1, len(blocks) // 2)  # six of twelve
    for block in blocks[:-half]:
        tokens = through(block, tokens)
    path = tokens
    for block in blocks[-half:]:
        normed = block.ln_1(tokens)
        heads = heads_of(block, normed)
        size = heads[0].shape[-1]
        sharpness = normed.norm(dim=-1).mean(-1)[:, None, None, None] * size**-0.5
        seen = [_by_likeness(one, sharpness) @ heads[2] for one in heads]
        path = path + out_of_heads(block, torch.stack(seen).mean(0))
        if block is not blocks[-1]:
            tokens = through(block, tokens, *heads)
    return _places(F.normalize(embedded(visual, path), dim=-1))


def _by_likeness(heads: Tensor, sharpness: Tensor) -> Tensor:
    """GEM's attention weights of tokens among themselves, (B, heads, N, N).

    The tokens are drawn to those like them once, as in clustering, before the weights are taken.

    Args:
        heads: Queries, keys or values, (B, heads, N, d).
        sharpness: The inverse temperature of the softmax, from the mean length of the tokens,
            (B, 1, 1, 1).
    """
    for _ in range(2):
        heads = F.normalize(heads, dim=-1)
        weights = (heads @ heads.transpose(-2, -1) * sharpness).softmax(-1)
        heads = weights @ heads
    return weights


def grad_cam(visual: Tower, pixels: Tensor, texts: Tensor) -> Tensor:
    """Which locations raise the image's cosine similarity with each text, (T, h, w), not negative.

    ResNet: the channels of the last feature map, weighted by their mean gradient. ViT: the class
    token's attention in the last block times its gradient, negative products set to 0, averaged
    over the heads. The temperature of the logits is left out: it only scales the whole map.

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
                inner = through(block, inner)
    with torch.enable_grad():
        if isinstance(visual, ModifiedResNet):
            watched = inner.detach().expand(len(texts), -1, -1, -1).requires_grad_()
            image = pool(visual.attnpool, watched)
        else:
            q, k, v = heads_of(last, last.ln_1(inner))
            weights = (q[:, :, :1] @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
            watched = weights.detach().expand(len(texts), -1, -1, -1).requires_grad_()
            first = feed_forward(last, inner[:, :1] + out_of_heads(last, watched @ v))
            image = embedded(visual, first[:, 0])
        cosine = (F.normalize(image, dim=-1) * texts.to(pixels.device)).sum()
        (gradient,) = torch.autograd.grad(cosine, watched)
    watched = watched.detach()
    if isinstance(visual, ModifiedResNet):
        weights = gradient.mean((2, 3))  # (T, C)
        return torch.einsum("tc,chw->thw", weights, watched[0]).relu()
    return _places((gradient * watched).relu().mean(1)[:, 0, :, None])[..., 0]


def _places(tokens: Tensor) -> Tensor:
    """Patch tokens of (B, 1 + g^2, D), without the class token, on their grid (B, g, g, D)."""
    grid = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].unflatten(1, (grid, grid))


def mean_in_masks(
    masks: npt.NDArray[np.bool_],
    height: int,
    width: int,
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> npt.NDArray[np.float32]:
    """Weights of a map's locations in the mean of the upsampled map inside each mask.

    Args:
        masks: (M, H, W), none empty.
        height, width: Size of the map.
        mode: Interpolation by which the map is upsampled to (H, W).

    Returns:
        (M, height * width); rows sum to 1.
    """
    down = _enlargement(masks.shape[1], height, mode)
    across = _enlargement(masks.shape[2], width, mode)
    weights = np.einsum("yi,myx,xj->mij", down, masks.astype(np.float32), across, optimize=True)
    return weights.reshape(len(masks), -1) / masks.sum((1, 2))[:, None].astype(np.float32)


def inside_less_outside(
    masks: npt.NDArray[np.bool_], height: int, width: int
) -> npt.NDArray[np.float32]:
    """Weights of a map's locations in its mean inside each mask minus its mean outside.

    Args:
        masks: (M, H, W), none empty.
        height, width: Size of the map.

    Returns:
        (M, height * width); rows sum to 0, and a mask of the full image has zeros.
    """
    inside = mean_in_masks(masks, height, width)
    everywhere = mean_in_masks(np.ones((1, *masks.shape[1:]), bool), height, width)
    rest = 1 - masks.mean((1, 2), dtype=np.float32)[:, None]
    # From everywhere = share inside + rest outside.
    return np.divide(inside - everywhere, rest, np.zeros_like(inside), where=rest > 0)


def _enlargement(pixels: int, places: int, mode: str) -> npt.NDArray[np.float32]:
    """Weights (pixels, places) of an interpolation along one axis, with torch's edge handling."""
    each = torch.eye(places)[None, :, :, None]  # one unit vector per location
    lines = F.interpolate(each, (pixels, 1), mode=mode, align_corners=False)
    return lines[0, :, :, 0].T.numpy()
