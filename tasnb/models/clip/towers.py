"""The internals of open_clip's two image towers that the baselines of Table 1 need.

The towers return one vector per image. Activation maps and region tokens need the features before
it, on grids of any size. Nothing of open_clip is patched or copied: the functions here call a
tower's own modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from PIL import Image
from torch import Tensor

from tasnb.models.devices import device_of
from tasnb.models.encoders import Encoder, OpenClip
from tasnb.settings import InputError

Tower = ModifiedResNet | VisionTransformer

GRID = 7
"""Smallest side of a map in locations: 224 pixels with the paper's encoders, of stride 32."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tower_of(encoder: Encoder) -> Tower:
    """The image tower of a CLIP model.

    Raises:
        InputError: It is neither a ResNet nor a plain vision transformer of open_clip.
    """
    visual = encoder.model.visual if isinstance(encoder, OpenClip) else None
    if is_plain(visual):
        return visual
    raise InputError(
        "activation maps and region tokens need an open_clip model with a ResNet or a plain ViT "
        f"as its image tower, not {type(visual or encoder).__name__}"
    )


def is_plain(visual: Any) -> bool:
    """Whether an image tower is a ResNet or a plain vision transformer of open_clip."""
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None:
        return all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks)
    return isinstance(visual, ModifiedResNet)


def is_resnet(visual: Tower) -> bool:
    """Whether an image tower is a ResNet rather than a ViT."""
    return isinstance(visual, ModifiedResNet)


def input_size(visual: Tower) -> int:
    """Side in pixels of the images that the tower was trained on."""
    return visual.image_size if isinstance(visual, ModifiedResNet) else visual.image_size[0]


def side(visual: Tower) -> int:
    """Side in pixels of the tower's input: its own size, or larger where ``GRID`` requires it."""
    stride = 32 if isinstance(visual, ModifiedResNet) else visual.patch_size[0]
    return max(input_size(visual), stride * GRID)


def to_pixels(visual: Tower, image: npt.NDArray[np.uint8], imagenet: bool = False) -> Tensor:
    """A whole RGB image (H, W, 3) resized to a square, (1, 3, S, S), with S from ``side``.

    Args:
        imagenet: Normalise with ImageNet's mean and standard deviation instead of the tower's own.
    """
    size = (side(visual), side(visual))
    square = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(square.copy()).to(device_of(visual)).permute(2, 0, 1)[None] / 255
    if imagenet:
        return normalised(pixels, IMAGENET_MEAN, IMAGENET_STD)
    own = visual.preprocess_cfg
    return normalised(pixels, own["mean"], own["std"])


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels (B, 3, H, W) in [0, 1], minus a mean, divided by a standard deviation per channel."""
    return (pixels - pixels.new_tensor(mean)[:, None, None]) / pixels.new_tensor(std)[:, None, None]


def on_grid(positions: Tensor, height: int, width: int) -> Tensor:
    """Positional embedding (1 + g^2, C) of a class token and a square grid, for another grid.

    It is interpolated bicubically where the grids differ. The tower's own parameter is not changed
    (open_clip's towers accept images of their own size only).
    """
    own = round((len(positions) - 1) ** 0.5)
    if (own, own) == (height, width):
        return positions
    grid = positions[1:].T.reshape(1, -1, own, own)
    grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], grid[0].flatten(1).T])


# --- ResNet ---------------------------------------------------------------------------------------


def feature_map(visual: ModifiedResNet, pixels: Tensor) -> Tensor:
    """Output of the last convolutions, (B, C, h, w)."""
    if pixels.device.type == "cpu":
        # A fifth faster. Not `contiguous`, which returns a single image made from an array as it
        # is, with strides for which torch then takes the slower way.
        pixels = pixels.clone(memory_format=torch.channels_last)
    x = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    return x


def pool(attnpool: AttentionPool2d, features: Tensor) -> Tensor:
    """The tower's own attention pooling, (B, C, h, w) -> (B, D), for maps of any size."""
    projections = (attnpool.q_proj, attnpool.k_proj, attnpool.v_proj)
    weights = [(one.weight, one.bias) for one in projections]
    seen = _seen_by_first(_pooled_tokens(attnpool, features), weights, attnpool.num_heads)
    return attnpool.c_proj(seen)


def pool_by_values(attnpool: AttentionPool2d, features: Tensor) -> Tensor:
    """Pooling that compares values with values, (B, C, h, w) -> (B, 1 + h w, D): all tokens."""
    v = _split(attnpool.v_proj(_pooled_tokens(attnpool, features)), attnpool.num_heads)
    return attnpool.c_proj(_joined(F.scaled_dot_product_attention(v, v, v)))


def _pooled_tokens(attnpool: AttentionPool2d, features: Tensor) -> Tensor:
    """The mean of a feature map and its locations, with their positions, (B, 1 + h w, C)."""
    height, width = features.shape[2:]
    tokens = features.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
    return tokens + on_grid(attnpool.positional_embedding, height, width)


# --- Vision transformer ---------------------------------------------------------------------------


def patch_tokens(visual: VisionTransformer, pixels: Tensor, upsample: int = 1) -> Tensor:
    """Class token and patches as they enter the first block, (B, 1 + h w, C).

    Args:
        upsample: Factor by which the stride is reduced, so that patches overlap and there are that
            many times more per side (Region Token). Padding keeps the grid centred.
    """
    patch = visual.patch_size[0]
    padding = (patch - 1) // 2 if upsample > 1 else 0
    grid = F.conv2d(pixels, visual.conv1.weight, stride=patch // upsample, padding=padding)
    height, width = grid.shape[2:]
    first = visual.class_embedding.expand(len(grid), 1, -1)
    tokens = torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)
    return visual.ln_pre(tokens + on_grid(visual.positional_embedding, height, width))


def heads_of(block: ResidualAttentionBlock, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, heads, N, d) of tokens that have passed ``ln_1``."""
    attn = block.attn
    projected = F.linear(normed, attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = (_split(x, attn.num_heads) for x in projected.chunk(3, -1))
    return q, k, v


def out_of_heads(block: ResidualAttentionBlock, heads: Tensor) -> Tensor:
    """The residual that a block's attention adds, from heads (B, heads, N, d) to (B, N, C)."""
    return block.ls_1(block.attn.out_proj(_joined(heads)))


def through(block: ResidualAttentionBlock, tokens: Tensor, *heads: Tensor) -> Tensor:
    """Tokens after a block.

    Args:
        heads: Their queries, keys and values, from ``heads_of``, if they have been computed.
    """
    seen = F.scaled_dot_product_attention(*(heads or heads_of(block, block.ln_1(tokens))))
    return feed_forward(block, tokens + out_of_heads(block, seen))


def first_through(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """The class token after a block, (B, N, C) -> (B, C): all that a tower needs of its last."""
    attn = block.attn
    weights = zip(attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3), strict=True)
    seen = _seen_by_first(block.ln_1(tokens), list(weights), attn.num_heads)
    return feed_forward(block, tokens[:, 0] + block.ls_1(attn.out_proj(seen)))


def feed_forward(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """Tokens after a block's feed-forward half."""
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def embedded(visual: VisionTransformer, tokens: Tensor) -> Tensor:
    """Tokens after the last block, projected to the space shared by images and texts."""
    return visual.ln_post(tokens) @ visual.proj


# --- Both -----------------------------------------------------------------------------------------


def encode(visual: Tower, pixels: Tensor) -> Tensor:
    """The tower's own embeddings of images (B, 3, S, S) of its size, (B, D), not normalised.

    The last attention is computed for the one token that is returned. Towers that do not return
    their class token run as they are.
    """
    if isinstance(visual, ModifiedResNet):
        return pool(visual.attnpool, feature_map(visual, pixels))
    if visual.pool_type != "tok":
        return visual(pixels)
    *blocks, last = visual.transformer.resblocks
    tokens = patch_tokens(visual, pixels)
    for block in blocks:
        tokens = through(block, tokens)
    return embedded(visual, first_through(last, tokens))


def _seen_by_first(
    tokens: Tensor, projections: Sequence[tuple[Tensor, Tensor]], heads: int
) -> Tensor:
    """What token 0 sees in an attention over tokens (B, N, C): its heads, joined, (B, C).

    With a single query q, keys and values of the N tokens need not be computed. The product of q
    and a key W t + b is that of W' q and t, plus a number that is the same for all tokens and so
    does not change the softmax; and the mean of the values is the value of the mean token.

    Args:
        projections: Weight (C, C) and bias (C,) of queries, keys and values.
    """
    (of_query, query_bias), (of_key, _), (of_value, value_bias) = projections
    query = F.linear(tokens[:, 0], of_query, query_bias).unflatten(-1, (heads, -1))
    asked = torch.einsum("bhd,hdc->bhc", query, of_key.unflatten(0, (heads, -1)))
    weights = (asked @ tokens.transpose(1, 2) * query.shape[-1] ** -0.5).softmax(-1)
    seen = torch.einsum("bhc,hdc->bhd", weights @ tokens, of_value.unflatten(0, (heads, -1)))
    return seen.flatten(1) + value_bias


def _split(tokens: Tensor, heads: int) -> Tensor:
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)
