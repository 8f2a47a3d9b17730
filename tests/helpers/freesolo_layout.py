"""The keys of FreeSOLO's published file, without the weights."""

from __future__ import annotations


def published() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of an R101-FPN, as its modules in detectron2, AdelaiDet and FreeSOLO."""
    keys: dict[str, tuple[int, ...]] = {}

    def frozen_norm(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            keys[f"{name}.norm.{part}"] = (width,)

    body = "backbone.bottom_up."
    keys[f"{body}stem.conv1.weight"] = (64, 3, 7, 7)
    frozen_norm(f"{body}stem.conv1", 64)
    last = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (23, 256), (3, 512)), start=2):
        for block in range(blocks):
            at = f"{body}res{stage}.{block}."
            shapes = {"conv1": (width, last, 1, 1), "conv2": (width, width, 3, 3)}
            shapes["conv3"] = (4 * width, width, 1, 1)
            if block == 0:
                shapes["shortcut"] = (4 * width, last, 1, 1)
            for name, shape in shapes.items():
                keys[f"{at}{name}.weight"] = shape
                frozen_norm(f"{at}{name}", shape[0])
            last = 4 * width
        keys[f"backbone.fpn_lateral{stage}.weight"] = (256, last, 1, 1)
        keys[f"backbone.fpn_lateral{stage}.bias"] = (256,)
        keys[f"backbone.fpn_output{stage}.weight"] = (256, 256, 3, 3)
        keys[f"backbone.fpn_output{stage}.bias"] = (256,)
    for tower, first in (("cate_tower", 256), ("kernel_tower", 258)):
        for n in range(4):
            keys[f"ins_head.{tower}.{3 * n}.weight"] = (512, 512 if n else first, 3, 3)
            keys[f"ins_head.{tower}.{3 * n + 1}.weight"] = (512,)
            keys[f"ins_head.{tower}.{3 * n + 1}.bias"] = (512,)
    for name, width in (("cate_pred", 2), ("kernel_pred", 256), ("emb_pred", 128)):
        keys[f"ins_head.{name}.weight"] = (width, 512, 3, 3)
        keys[f"ins_head.{name}.bias"] = (width,)
    for level, convolutions in ((0, 1), (1, 1), (2, 2), (3, 3)):
        for n in range(convolutions):
            at = f"mask_head.convs_all_levels.{level}.conv{n}."
            keys[f"{at}0.weight"] = (128, 128 if n else 258 if level == 3 else 256, 3, 3)
            keys[f"{at}1.weight"] = keys[f"{at}1.bias"] = (128,)
    keys["mask_head.conv_pred.0.weight"] = (256, 128, 1, 1)
    keys["mask_head.conv_pred.1.weight"] = keys["mask_head.conv_pred.1.bias"] = (256,)
    keys["_iter"] = (1,)
    return keys
