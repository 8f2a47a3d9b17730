"""FreeSOLO against a slow implementation on a tiny random network, and the authors' keys."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from freesolo_layout import published
from pycocotools import mask as coco_mask
from torch import Tensor

from tasnb.datasets.images import load_image
from tasnb.models import freesolo
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.settings import InputError, make_settings

TINY = {
    "layers": (1, 1, 1, 1), "width": 4, "pyramid": 8, "instance": 8, "convolutions": 2, "mask": 8,
    "kernels": 8, "classes": 2, "groups": 2, "grids": (6, 5, 4, 3, 2), "short_side": 64,
    "long_side": 96,
}  # fmt: skip


def without_memory(keys: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that store a single number, different for each, whatever their shape."""
    return {
        key: torch.full((), (n % 97) / 970).expand(shape)
        for n, (key, shape) in enumerate(keys.items())
    }


def test_the_published_keys_fit() -> None:
    weights = without_memory(published())
    model = freesolo.from_public(weights)
    own = model.state_dict()
    assert not model.training
    for ours, theirs in {
        "backbone.bn1.running_var": "backbone.bottom_up.stem.conv1.norm.running_var",
        "backbone.layer1.0.downsample.0.weight": "backbone.bottom_up.res2.0.shortcut.weight",
        "backbone.layer1.0.downsample.1.bias": "backbone.bottom_up.res2.0.shortcut.norm.bias",
        "backbone.layer3.22.conv2.weight": "backbone.bottom_up.res4.22.conv2.weight",
        "backbone.layer4.2.bn3.weight": "backbone.bottom_up.res5.2.conv3.norm.weight",
        "pyramid.inner_blocks.0.0.weight": "backbone.fpn_lateral2.weight",
        "pyramid.layer_blocks.3.0.bias": "backbone.fpn_output5.bias",
        "ins_head.kernel_tower.10.bias": "ins_head.kernel_tower.10.bias",
        "mask_head.convs_all_levels.3.conv2.0.weight": (
            "mask_head.convs_all_levels.3.conv2.0.weight"
        ),
    }.items():
        assert torch.equal(own[ours], weights[theirs]), ours
    assert len(own) == len(weights) - 3  # all except emb_pred and the step counter


@pytest.mark.slow
def test_a_missing_a_surplus_and_a_wrong_weight() -> None:
    keys = published()
    lost = {k: v for k, v in keys.items() if k != "backbone.fpn_lateral3.bias"}
    with pytest.raises(KeyError, match=r"missing weights: pyramid\.inner_blocks\.1\.0\.bias"):
        freesolo.from_public(without_memory(lost))
    more = {**keys, "backbone.bottom_up.res6.0.conv1.weight": (1,)}
    with pytest.raises(KeyError, match=r"unexpected weights: .*(res6\.0\.conv1\.weight|layer5)"):
        freesolo.from_public(without_memory(more))
    with pytest.raises(
        ValueError, match=r"ins_head\.cate_pred\.bias has the shape \(80,\) instead of \(2,\)"
    ):
        freesolo.from_public(without_memory({**keys, "ins_head.cate_pred.bias": (80,)}))


@pytest.fixture
def tiny() -> freesolo.FreeSolo:
    torch.manual_seed(1)
    model = freesolo.FreeSolo(TINY).eval()
    with torch.no_grad():
        model.ins_head.cate_pred.weight *= 20
        model.ins_head.kernel_pred.weight *= 20
    return model


def places(height: int, width: int) -> Tensor:
    """x and y from -1 in the first to 1 in the last column or row, (2, height, width)."""
    x = [[-1 + 2 * c / (width - 1) for c in range(width)] for _ in range(height)]
    y = [[-1 + 2 * r / (height - 1) for _ in range(width)] for r in range(height)]
    return torch.tensor([x, y])


def resized(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x[None], (height, width), mode="bilinear", align_corners=False)[0]


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    parts = [
        (part - part.mean()) / (part.var(unbiased=False) + 1e-5).sqrt() for part in x.chunk(groups)
    ]
    return torch.cat(parts) * weight[:, None, None] + bias[:, None, None]


def convolved(x: Tensor, w: dict[str, Tensor], name: str, bias: bool = False) -> Tensor:
    kernel = w[f"{name}.weight"]
    pad = kernel.shape[-1] // 2
    return F.conv2d(x[None], kernel, w[f"{name}.bias"] if bias else None, padding=pad)[0]


def conv_norm_relu(x: Tensor, w: dict[str, Tensor], conv: str, norm: str) -> Tensor:
    x = convolved(x, w, conv)
    return group_norm(x, TINY["groups"], w[f"{norm}.weight"], w[f"{norm}.bias"]).relu()


def pyramid_of(model: freesolo.FreeSolo, pixels: Tensor, w: dict[str, Tensor]) -> list[Tensor]:
    """p2 to p6 from the four stages of the backbone: lateral, top-down, smoothed."""
    kept: list[Tensor] = []
    hooks = [
        getattr(model.backbone, f"layer{n}").register_forward_hook(
            lambda *args: kept.append(args[2][0])
        )
        for n in (1, 2, 3, 4)
    ]
    model(pixels[None])
    for hook in hooks:
        hook.remove()
    inner = [convolved(c, w, f"pyramid.inner_blocks.{n}.0", bias=True) for n, c in enumerate(kept)]
    for n in (2, 1, 0):
        up = inner[n + 1].repeat_interleave(2, 1).repeat_interleave(2, 2)
        inner[n] = inner[n] + up
    levels = [
        convolved(x, w, f"pyramid.layer_blocks.{n}.0", bias=True) for n, x in enumerate(inner)
    ]
    return [*levels, levels[3][:, ::2, ::2]]


def test_both_heads_by_hand(tiny: freesolo.FreeSolo) -> None:
    pixels = torch.randn(3, 64, 96)
    with torch.inference_mode():
        said, features = tiny(pixels[None])
        w = tiny.state_dict()
        p2, p3, p4, p5, p6 = pyramid_of(tiny, pixels, w)
        assert [tuple(p.shape[1:]) for p in (p2, p5, p6)] == [(16, 24), (2, 3), (1, 2)]
        halved = resized(p2, 8, 12)
        for (logits, kernels), level, side in zip(
            said, (halved, p3, p4, p5, resized(p6, 2, 3)), TINY["grids"], strict=True
        ):
            cells = torch.cat([level, places(*level.shape[1:])])
            cells = resized(cells, side, side)
            for tower, x, found, last in (
                ("cate_tower", cells[:-2], logits, "cate_pred"),
                ("kernel_tower", cells, kernels, "kernel_pred"),
            ):
                for n in range(2):
                    at = f"ins_head.{tower}."
                    x = conv_norm_relu(x, w, f"{at}{3 * n}", f"{at}{3 * n + 1}")
                expected = convolved(x, w, f"ins_head.{last}", bias=True)
                torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-3)
        total = torch.zeros(8, 16, 24)
        for level, x in enumerate((p2, p3, p4, torch.cat([p5, places(2, 3)]))):
            for n in range(max(level, 1)):
                at = f"mask_head.convs_all_levels.{level}.conv{n}."
                x = conv_norm_relu(x, w, f"{at}0", f"{at}1")
                if level:
                    x = resized(x, 2 * x.shape[1], 2 * x.shape[2])
            total = total + x
        expected = conv_norm_relu(total, w, "mask_head.conv_pred.0", "mask_head.conv_pred.1")
        torch.testing.assert_close(features[0], expected, atol=1e-4, rtol=1e-3)


def test_candidates_by_hand() -> None:
    """Peaks above 0.1 in a 2x2 window: masks, areas larger than the stride, scores."""
    torch.manual_seed(0)
    features = torch.randn(1, 4, 8, 8)
    said = [(2 * torch.randn(1, 2, s, s), 2 * torch.randn(1, 4, s, s)) for s in (5, 4, 4, 3, 2)]
    expected = []
    for (logits, kernels), stride in zip(said, (8, 8, 16, 32, 32), strict=True):
        heat = logits[0].sigmoid()
        for label in range(2):
            for r in range(heat.shape[1]):
                for c in range(heat.shape[2]):
                    window = heat[label, max(r - 1, 0) : r + 1, max(c - 1, 0) : c + 1]
                    score = float(heat[label, r, c])
                    if score < float(window.max()) or score <= 0.1:
                        continue
                    soft = torch.einsum("c,chw->hw", kernels[0, :, r, c], features[0]).sigmoid()
                    inside = soft[soft > 0.5]
                    if len(inside) > stride:
                        expected.append((score * float(inside.mean()), label, soft))
    expected.sort(key=lambda row: -row[0])
    soft, (scores, classes) = freesolo.candidates(said, features)
    assert len(scores) == len(expected) > 10
    torch.testing.assert_close(scores, torch.tensor([row[0] for row in expected]))
    assert classes.tolist() == [row[1] for row in expected]
    torch.testing.assert_close(soft, torch.stack([row[2] for row in expected]))


def test_matrix_nms_by_hand() -> None:
    """Each mask decays by its worst overlap, less so if the better mask has itself decayed."""
    torch.manual_seed(0)
    soft = (torch.rand(7, 6, 6) > 0.4).float()
    scores = torch.linspace(0.9, 0.3, 7)
    classes = torch.tensor([0, 0, 1, 0, 1, 1, 0])

    def iou(i: int, j: int) -> float:
        a, b = soft[i] > 0.5, soft[j] > 0.5
        return float((a & b).sum() / (a | b).sum()) if classes[i] == classes[j] else 0.0

    expected = {}
    for j in range(7):
        factors = [1.0]
        for i in range(j):
            own = max([iou(k, i) for k in range(i)], default=0.0)
            factors.append(math.exp(-2 * iou(i, j) ** 2) / math.exp(-2 * own**2))
        expected[j] = float(scores[j]) * min(factors)
    order = sorted(expected, key=lambda j: -expected[j])
    order = [j for j in order if expected[j] >= 0.05]
    kept, found = freesolo.matrix_nms(soft, scores, classes)
    assert kept.tolist() == order
    torch.testing.assert_close(found, torch.tensor([expected[j] for j in order]))
    nothing, none = freesolo.matrix_nms(soft[:0], scores[:0], classes[:0])
    assert len(nothing) == len(none) == 0


@pytest.mark.parametrize("size", [(40, 60), (90, 70), (33, 200)])
def test_masks_have_the_images_size(tiny: freesolo.FreeSolo, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    masks, scores = tiny.masks(image)
    assert len(masks) == len(scores) > 0 and all(tuple(mask["size"]) == size for mask in masks)
    assert all(coco_mask.area(masks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freesolo, "PIXELS", 1)  # one mask at a time
        assert tiny.masks(image)[0] == masks
    assert (scores.diff() <= 0).all() and (scores >= 0.05).all() and (scores < 1).all()


@pytest.mark.parametrize("bias", [-30.0, -2.0])
def test_an_image_without_objects(tiny: freesolo.FreeSolo, bias: float) -> None:
    """No cell above the threshold; cells above it, but masks without a pixel."""
    with torch.no_grad():
        tiny.ins_head.cate_pred.bias.fill_(bias)
        if bias > -30:
            tiny.ins_head.cate_pred.weight.zero_()
            tiny.ins_head.kernel_pred.weight.zero_()
            tiny.ins_head.kernel_pred.bias.fill_(-9.0)
    masks, scores = tiny.masks(np.full((40, 50, 3), 99, np.uint8))
    assert masks == [] and scores.shape == (0,)


def test_pixels_are_padded_after_the_normalisation() -> None:
    image = np.full((20, 40, 3), 128, np.uint8)
    pixels = freesolo.to_pixels(image)
    assert pixels.shape == (3, 32, 64) and not pixels[:, 20:].any() and not pixels[:, :, 40:].any()
    expected = [(128 - 123.675) / 58.395, (128 - 116.28) / 57.12, (128 - 103.53) / 57.375]
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor(expected))


# --- by name


def test_the_embedded_checkpoint_finds_objects() -> None:
    network = load_proposal_network(make_settings(proposal_network="freesolo:embedded/freesolo"))
    image = load_image(make_settings().data / "embedded" / "images" / "000001.jpg")
    masks, scores, stability = network.propose(image, "")
    assert len(masks) == len(scores) >= 3
    assert all(tuple(mask["size"]) == image.shape[:2] for mask in masks)
    assert np.isnan(stability).all()


def test_a_file_that_is_no_freesolo(tmp_path: Path) -> None:
    torch.save({"model": {"layer.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    torch.save({"arch": "resnet50", "state_dict": {"w": "none"}}, tmp_path / "words.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    for file, message in (
        ("other.pth", "missing weights: "),
        ("words.pth", "words.pth contains no weights"),
        ("tensor.pth", "tensor.pth contains no weights"),
        ("empty.pth", ""),
        ("nowhere.pth", "No such file"),
    ):
        name = f"freesolo:{tmp_path / file}"
        with pytest.raises(InputError, match=f"cannot load {name} .*{message}") as error:
            load_proposal_network(make_settings(proposal_network=name))
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot load freesolo:embedded/sam"):
        load_proposal_network(make_settings(proposal_network="freesolo:embedded/sam"))
