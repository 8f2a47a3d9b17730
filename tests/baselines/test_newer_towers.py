"""GEM's map and HybridGL's features against slow, literal computations on tiny random towers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_towers import grid_of, inputs_of, random_pixels, random_tower, same, unit
from torch import Tensor, nn

from tasnb.baselines import region_features
from tasnb.models.clip import activation_maps


@pytest.fixture(scope="module")
def visual() -> nn.Module:
    """A ViT of eight blocks: half of them are four, and a quarter is two."""
    return random_tower("vit", layers=8)


def attention_of_likes(tokens: list[Tensor], sharpness: Tensor) -> list[Tensor]:
    """GEM's weights of tokens (d,) among themselves, one row per token."""
    units = [unit(token) for token in tokens]
    drawn = []
    for one in units:
        weights = torch.stack([(one @ other * sharpness).exp() for other in units])
        drawn.append(
            sum(w * other for w, other in zip(weights / weights.sum(), units, strict=True))
        )
    found = []
    for one in map(unit, drawn):
        weights = torch.stack([(one @ unit(other) * sharpness).exp() for other in drawn])
        found.append(weights / weights.sum())
    return found


@torch.no_grad()
def test_gem(visual: nn.Module) -> None:
    """Head by head and token by token, from what reaches the last four of eight blocks."""
    pixels = random_pixels(visual)
    blocks = list(visual.transformer.resblocks)[4:]
    inputs = inputs_of(visual, blocks, pixels)
    path = inputs[0][0]
    for block, tokens in zip(blocks, inputs, strict=True):
        normed = [block.ln_1(token) for token in tokens[0]]
        weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
        heads, width = block.attn.num_heads, len(normed[0])
        length = sum(token.pow(2).sum().sqrt() for token in normed) / len(normed)
        sharpness = length / (width / heads) ** 0.5
        kinds = [(weight @ token + bias).chunk(3) for token in normed]  # query, key, value
        parts = []
        for head in range(heads):
            own = [[kind.chunk(heads)[head] for kind in token] for token in kinds]
            seen = torch.zeros(len(normed), width // heads)
            for kind in range(3):
                rows = attention_of_likes([token[kind] for token in own], sharpness)
                for place, weights in enumerate(rows):
                    for w, (_, _, value) in zip(weights, own, strict=True):
                        seen[place] += w * value / 3
            parts.append(seen)
        path = path + block.attn.out_proj(torch.cat(parts, 1))
    found = [unit(visual.ln_post(token) @ visual.proj) for token in path[1:]]
    same(activation_maps.gem(visual, pixels), grid_of(found))


@torch.no_grad()
def test_fused_features(visual: nn.Module) -> None:
    """One mask at a time through open_clip's own blocks; the last two of eight are fused."""
    masks = torch.zeros(3, 24, 24, dtype=torch.bool)
    masks[0, :, :12] = True
    masks[1, 9:10, 5:6] = True  # between the places that are read: it touches no patch
    masks[2] = torch.rand(24, 24, generator=torch.Generator().manual_seed(2)) < 0.5
    whole, alone = random_pixels(visual, 6).chunk(2)
    blocks = list(visual.transformer.resblocks)
    expected = []
    for mask, *views in zip(masks, whole, alone, strict=True):
        (glob,), (loc,) = (inputs_of(visual, blocks[6:7], view[None])[0] for view in views)
        soft = F.interpolate(mask[None, None].float(), (6, 6), mode="bilinear")[0, 0].flatten()
        closed = torch.zeros(37, 37)
        for place in range(36):
            if soft[place] == 0:
                closed[0, 1 + place] = -torch.inf
        for block in blocks[6:]:
            mixed = [loc[0] + 2 * glob[0]]
            mixed += [loc[1 + k] + 2 * soft[k] * glob[1 + k] for k in range(36)]
            loc = block(torch.stack(mixed)[None])[0]
            glob = block(glob[None], attn_mask=closed)[0]
        expected.append(visual.ln_post(loc[0]) @ visual.proj)
    found = region_features.fused_features(visual, whole, alone, masks)
    same(found, torch.stack(expected))
    assert (found[0] - found[2]).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("shape", [(90, 120), (131, 77), (20, 30)])
def test_fused_pixels(shape: tuple[int, int], visual: nn.Module) -> None:
    """Every pixel is normalised and replaced, and then the picture is squashed."""
    rng = np.random.default_rng(6)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    masks = rng.random((2, *shape)) < 0.5
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    blurred = cv2.GaussianBlur(image, (15, 15), 0)
    found = region_features.fused_pixels(visual, image, masks)
    fill = np.array([0.48145466, 0.4578275, 0.40821073])
    for mask, *views in zip(masks, *found, strict=True):
        own = (image / 255 - mean) / std
        for view, behind in zip(views, ((blurred / 255 - mean) / std, fill), strict=True):
            shown = np.where(mask[..., None], own, behind)
            pixels = torch.from_numpy(shown).permute(2, 0, 1)[None]
            size = (view.shape[-1],) * 2
            expected = F.interpolate(pixels, size, mode="bilinear", align_corners=False)[0]
            torch.testing.assert_close(view, expected.float(), atol=1e-4, rtol=0)
