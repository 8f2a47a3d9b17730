"""Activation maps and region features against slow, literal computations on tiny random towers.

The references look into open_clip's own forward pass by hooks and use nothing of tasnb.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from PIL import Image
from small_towers import (
    TEXT,
    VISION,
    grid_of,
    inputs_of,
    random_pixels,
    random_tower,
    same,
    unit,
)
from torch import Tensor, nn

from tasnb.baselines import region_features
from tasnb.models.clip import activation_maps, towers


@pytest.fixture(scope="module", params=VISION)
def visual(request: pytest.FixtureRequest) -> nn.Module:
    return random_tower(request.param)


@pytest.fixture(scope="module")
def pixels(visual: nn.Module) -> Tensor:
    return random_pixels(visual)


def values_of(block: nn.Module, tokens: Tensor) -> list[Tensor]:
    """Each token's value (C,) in a block, by the last third of the input projection."""
    width = tokens.shape[-1]
    weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
    return [weight @ block.ln_1(token) + bias for token in tokens]


def attend_by_values(values: list[Tensor], heads: int) -> list[Tensor]:
    """softmax(v v' / sqrt(d)) v, head by head and token by token."""
    found = []
    for token in values:
        parts = []
        for own, all_of in zip(
            token.chunk(heads), zip(*(v.chunk(heads) for v in values), strict=True), strict=True
        ):
            likeness = torch.stack([own @ other for other in all_of]) / len(own) ** 0.5
            weights = likeness.exp() / likeness.exp().sum()
            parts.append(sum(w * v for w, v in zip(weights, all_of, strict=True)))
        found.append(torch.cat(parts))
    return found


@torch.no_grad()
def test_the_pooling_and_the_blocks_are_the_towers_own(visual: nn.Module, pixels: Tensor) -> None:
    """Walked by hand, a tower gives the embedding that it gives by itself."""
    if towers.is_resnet(visual):
        found = towers.pool(visual.attnpool, towers.feature_map(visual, pixels))
    else:
        tokens = towers.patch_tokens(visual, pixels)
        for block in visual.transformer.resblocks:
            first = towers.first_through(block, tokens)
            tokens = towers.through(block, tokens)
            same(first, tokens[:, 0])
        found = towers.embedded(visual, tokens)[:, 0]
    same(found, visual(pixels))
    same(towers.encode(visual, pixels.expand(3, -1, -1, -1)), visual(pixels).expand(3, -1))


@torch.no_grad()
def test_score_map(visual: nn.Module, pixels: Tensor) -> None:
    if towers.is_resnet(visual):
        (features,) = inputs_of(visual, [visual.attnpool], pixels)
        v, c = visual.attnpool.v_proj, visual.attnpool.c_proj
        places = [
            unit(c.weight @ (v.weight @ place + v.bias) + c.bias)
            for place in features[0].flatten(1).T
        ]
    else:
        last = visual.transformer.resblocks[-1]
        (tokens,) = inputs_of(visual, [last], pixels)
        places = []
        for token, value in zip(tokens[0, 1:], values_of(last, tokens[0])[1:], strict=True):
            x = token + last.attn.out_proj(value)
            x = x + last.mlp(last.ln_2(x))
            places.append(unit(visual.ln_post(x) @ visual.proj))
    same(activation_maps.score_map(visual, pixels), grid_of(places))


@torch.no_grad()
def test_clip_surgery(visual: nn.Module, pixels: Tensor) -> None:
    if towers.is_resnet(visual):
        pooling = visual.attnpool
        (features,) = inputs_of(visual, [pooling], pixels)
        places = features[0].flatten(1).T
        tokens = [places.mean(0), *places]
        tokens = [t + p for t, p in zip(tokens, pooling.positional_embedding, strict=True)]
        seen = attend_by_values([pooling.v_proj(t) for t in tokens], pooling.num_heads)
        found = [unit(pooling.c_proj(x)) for x in seen[1:]]
    else:
        converted = list(visual.transformer.resblocks)[2:]  # half of four
        inputs = inputs_of(visual, converted, pixels)
        path = inputs[0][0]
        for block, tokens in zip(converted, inputs, strict=True):
            seen = attend_by_values(values_of(block, tokens[0]), block.attn.num_heads)
            path = path + torch.stack([block.attn.out_proj(x) for x in seen])
        found = [unit(visual.ln_post(x) @ visual.proj) for x in path[1:]]
    same(activation_maps.clip_surgery(visual, pixels), grid_of(found))


def test_grad_cam(visual: nn.Module, pixels: Tensor) -> None:
    texts = F.normalize(torch.randn(6, 12, generator=torch.Generator().manual_seed(2)), dim=1)
    expected = torch.stack([literal_grad_cam(visual, pixels, text).detach() for text in texts])
    assert (expected.amax((1, 2)) > 0).sum() >= 3
    found = activation_maps.grad_cam(visual, pixels, texts)
    same(found / expected.max(), expected / expected.max())


def literal_grad_cam(visual: nn.Module, pixels: Tensor, text: Tensor) -> Tensor:
    if towers.is_resnet(visual):
        (features,) = inputs_of(visual, [visual.attnpool], pixels)
        features = features.detach().requires_grad_()
        (unit(visual.attnpool(features)[0]) @ text).backward()
        total = torch.zeros(features.shape[2:])
        for channel, gradient in zip(features[0], features.grad[0], strict=True):
            total = total + gradient.mean() * channel
        return total.clamp(min=0)
    last = visual.transformer.resblocks[-1]
    (tokens,) = inputs_of(visual, [last], pixels)
    tokens = tokens[0].detach()
    width, heads = tokens.shape[1], last.attn.num_heads
    projected = F.linear(last.ln_1(tokens), last.attn.in_proj_weight, last.attn.in_proj_bias)
    maps, joined = [], []
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        q, k, v = (x[:, part] for x in projected.chunk(3, 1))
        weights = ((q @ k.T) / (width // heads) ** 0.5).softmax(1).detach().requires_grad_()
        maps.append(weights)
        joined.append(weights @ v)
    x = tokens + last.attn.out_proj(torch.cat(joined, 1))
    x = x + last.mlp(last.ln_2(x))
    cosine = unit(visual.ln_post(x[0]) @ visual.proj) @ text
    gradients = torch.autograd.grad(cosine, maps)
    both = [(g * m).clamp(min=0)[0, 1:] for g, m in zip(gradients, maps, strict=True)]
    side = round(len(both[0]) ** 0.5)
    return torch.stack(both).mean(0).reshape(side, side)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_mean_in_masks(mode: str) -> None:
    """The mean of the enlarged map inside each mask, made by enlarging and averaging."""
    rng = np.random.default_rng(0)
    masks = rng.random((5, 37, 51)) < 0.2
    masks[4] = True
    values = torch.from_numpy(rng.normal(size=(3, 6, 7))).float()
    large = F.interpolate(values[None], (37, 51), mode=mode, align_corners=False)[0].numpy()
    expected = [[large[c][mask].mean() for c in range(3)] for mask in masks]
    weights = activation_maps.mean_in_masks(masks, 6, 7, mode)
    np.testing.assert_allclose(weights @ values.flatten(1).numpy().T, expected, atol=1e-5)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)


def test_inside_less_outside() -> None:
    """The two means, of the map enlarged to the size of the image."""
    rng = np.random.default_rng(0)
    masks = rng.random((4, 37, 51)) < 0.3
    masks[3] = True
    values = torch.from_numpy(rng.normal(size=(2, 6, 7))).float()
    large = F.interpolate(values[None], (37, 51), mode="bilinear", align_corners=False)[0].numpy()
    expected = [[one[mask].mean() - one[~mask].mean() for one in large] for mask in masks[:3]]
    weights = activation_maps.inside_less_outside(masks, 6, 7)
    found = weights @ values.flatten(1).numpy().T
    np.testing.assert_allclose(found, [*expected, [0, 0]], atol=1e-5)  # the last has no outside


@torch.no_grad()
@pytest.mark.parametrize("which", ["whole", "left", "one patch"])
def test_region_token(which: str) -> None:
    """One mask at a time through open_clip's own blocks, under an attention mask."""
    torch.manual_seed(3)
    visual = CLIP(embed_dim=12, vision_cfg=VISION["vit"], text_cfg=TEXT).visual.eval()
    pixels = torch.randn(1, 3, 24, 24)
    mask = torch.zeros(24, 24, dtype=torch.bool)
    mask[{"whole": np.s_[:], "left": np.s_[:, :12], "one patch": np.s_[8:10, 4:6]}[which]] = True
    # Patches of 4 pixels every 2, with 1 pixel of padding: 12 x 12 of them.
    patches = nn.functional.conv2d(pixels, visual.conv1.weight, stride=2, padding=1)
    assert patches.shape[2:] == (12, 12)
    grid = visual.positional_embedding[1:].T.reshape(1, -1, 6, 6)
    grid = F.interpolate(grid, (12, 12), mode="bicubic", align_corners=False)
    patches = (patches + grid)[0].flatten(1).T
    first = visual.class_embedding + visual.positional_embedding[0]
    tokens = visual.ln_pre(torch.cat([first[None], patches, first[None]]))  # class, image, region
    count = len(tokens)
    closed = torch.zeros(count, count)
    closed[:-1, -1] = -torch.inf  # the image does not see the region's token
    closed[-1, 0] = -torch.inf  # which does not see the class token
    for place in range(144):
        row, column = divmod(place, 12)
        if not mask[row * 2, column * 2]:  # "nearest"
            closed[-1, 1 + place] = -torch.inf
    tokens = tokens[None]
    for block in visual.transformer.resblocks:
        tokens = block(tokens, attn_mask=closed)
    expected = visual.ln_post(tokens[:, -1]) @ visual.proj
    others = torch.rand(2, 24, 24) < 0.5
    found = region_features.region_tokens(visual, pixels, torch.cat([others, mask[None]]))
    same(found[2:], expected)


@torch.no_grad()
def test_global_features(visual: nn.Module, pixels: Tensor) -> None:
    """The tower's own forward pass with the mask multiplied in by hooks, a mask at a time."""
    masks = torch.rand(3, *pixels.shape[2:], generator=torch.Generator().manual_seed(4)) < 0.6
    found = region_features.global_features(visual, pixels, masks)

    def soft(mask: Tensor, side: int) -> Tensor:
        size = (side, side)
        return F.interpolate(mask[None, None].float(), size, mode="bilinear", align_corners=False)

    def lay_over(mask: Tensor) -> Callable:
        def resnet(_: nn.Module, args: tuple) -> Tensor:
            features = args[0]
            length = features.pow(2).sum(1, keepdim=True).sqrt()
            return features / length * soft(mask, features.shape[-1])

        def vit(_: nn.Module, args: tuple) -> Tensor:
            tokens = args[0].clone()
            tokens[0, 1:] *= soft(mask, 6).reshape(-1, 1)
            return tokens

        return resnet if towers.is_resnet(visual) else vit

    where = [visual.attnpool] if towers.is_resnet(visual) else [visual.transformer.resblocks[3]]
    for mask, vector in zip(masks, found, strict=True):
        hooks = [module.register_forward_pre_hook(lay_over(mask)) for module in where]
        same(vector, visual(pixels)[0])
        for hook in hooks:
            hook.remove()


@torch.no_grad()
@pytest.mark.parametrize("shape", [(90, 120), (131, 77), (60, 200), (801, 950)])
def test_global_pixels(shape: tuple[int, int], visual: nn.Module) -> None:
    """The whole image at 800 pixels, normalised and then squashed: every pixel is computed."""
    image = np.random.default_rng(6).integers(0, 256, (*shape, 3), dtype=np.uint8)
    short = min(shape)
    size = [round(side * 800 / short) for side in reversed(shape)]
    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy((large / 255 - mean) / std).permute(2, 0, 1)[None]
    side = towers.side(visual)
    expected = F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False).float()
    found = region_features.global_pixels(visual, image)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)  # a level of grey is 0.017


@torch.no_grad()
def test_the_mixture_of_global_and_local(visual: nn.Module) -> None:
    whole, crops = torch.randn(2, 4, 12)
    resnet = towers.is_resnet(visual)
    local = torch.stack([unit(c) for c in crops])
    same(region_features.mixed_regions(visual, whole, crops, 0.0), local)
    mixed = region_features.mixed_regions(visual, whole, crops, 0.95)
    raw = [0.95 * w + 0.05 * (unit(c) if resnet else c) for w, c in zip(whole, crops, strict=True)]
    same(mixed, torch.stack(raw if resnet else [unit(x) for x in raw]))
    texts = region_features.mixed_texts(visual, whole, crops)
    halves = zip(whole, crops, strict=True)
    if resnet:
        same(texts, torch.stack([(unit(a) + unit(b)) / 2 for a, b in halves]))
    else:
        same(texts, torch.stack([unit(a + b) for a, b in halves]))


@torch.no_grad()
def test_local_crops_are_filled_after_the_normalisation(visual: nn.Module) -> None:
    image = np.random.default_rng(5).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:30, 20:50] = True
    mask[0, 10:20, 20:35] = False  # the box's corner
    (crop,) = region_features.local_pixels(visual, image, mask)
    fill = torch.tensor([0.485, 0.456, 0.406])
    same(crop[:, 0, 0], fill)
    colour = torch.tensor(image[29, 49] / 255, dtype=torch.float32)
    expected = (colour - fill) / torch.tensor([0.229, 0.224, 0.225])
    if crop.shape[-1] >= 30:  # enlarged: its last pixel is the far corner's
        same(crop[:, -1, -1], expected)


@torch.no_grad()
def test_maps_of_another_size_use_interpolated_positions(visual: nn.Module) -> None:
    """open_clip's towers refuse such images; a map has as many places as the image has strides."""
    stride = 32 if towers.is_resnet(visual) else 4
    pixels = torch.randn(1, 3, 5 * stride, 5 * stride)
    for method in (activation_maps.score_map, activation_maps.clip_surgery):
        assert method(visual, pixels).shape == (1, 5, 5, 12)
    before = [p.clone() for p in visual.parameters()]
    assert all((a == b).all() for a, b in zip(before, visual.parameters(), strict=True))
