"""Tiny random image towers of open_clip, and ways to look into them that use nothing of tasnb."""

from __future__ import annotations

import torch
from open_clip.model import CLIP
from torch import Tensor, nn

TEXT = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
VISION = {
    "rn": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    "vit": {"image_size": 24, "patch_size": 4, "width": 32, "layers": 4, "head_width": 8},
}


def random_tower(kind: str, **changes: int) -> nn.Module:
    """A random image tower; every parameter is random, those that start as 0 or 1 too.

    Args:
        kind: A key of ``VISION``.
        changes: Of its configuration there.
    """
    torch.manual_seed(0)
    tower = CLIP(embed_dim=12, vision_cfg=VISION[kind] | changes, text_cfg=TEXT).visual.eval()
    for parameter in tower.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)  # open_clip starts some at 0
    return tower


def random_pixels(visual: nn.Module, count: int = 1) -> Tensor:
    """Random images of the tower's own size."""
    size = visual.image_size
    size = size[0] if isinstance(size, tuple) else size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def inputs_of(visual: nn.Module, modules: list[nn.Module], pixels: Tensor) -> list[Tensor]:
    """What reaches some modules in the tower's own forward pass."""
    found: list[Tensor] = []
    hooks = [m.register_forward_pre_hook(lambda _, args: found.append(args[0])) for m in modules]
    visual(pixels)
    for hook in hooks:
        hook.remove()
    return found


def unit(vector: Tensor) -> Tensor:
    return vector / vector.pow(2).sum().sqrt()


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def grid_of(vectors: list[Tensor]) -> Tensor:
    side = round(len(vectors) ** 0.5)
    return torch.stack(vectors).reshape(1, side, side, -1)
