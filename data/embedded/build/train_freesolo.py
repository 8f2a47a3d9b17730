"""Trains the tiny FreeSOLO of the embedded profile on training scenes.

    python train_freesolo.py --pool /tmp/pool --out runs/train/freesolo --minutes 45

Resumes from ``<out>/state.pt`` if it exists. The network is FreeSOLO's, but the training is not:
the real one learns from masks that it finds itself in images without labels, this one from the
objects of the scenes, with SOLOv2's losses (focal for cells, dice for masks).
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import training
from torch import Tensor
from tqdm import tqdm

from tasnb.models.freesolo import FreeSolo, to_pixels

CONFIG = {
    "layers": [1, 1, 1, 1],
    "width": 16,
    "pyramid": 64,
    "instance": 64,
    "convolutions": 2,
    "mask": 64,
    "kernels": 64,
    "classes": 1,
    "groups": 8,
    "grids": [24, 20, 16, 12, 8],
    "short_side": 192,
    "long_side": 320,
}
RANGES = ((0, 32), (20, 56), (40, 88), (72, 140), (112, 1000))
"""Sizes (square root of the box area, in pixels) of the objects assigned to each grid."""

CENTRE = 0.2  # share of an object's box, around its centre, whose cells are assigned to it


def load_pool(folder: Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images (N, h, w, 3) and label maps (N, h, w), uint8, at network size, grouped by shape."""
    found: dict[tuple[int, ...], tuple[list, list]] = {}
    for path in tqdm(sorted(folder.glob("*.jpg"))[:count], desc="loading scenes", mininterval=10):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        label = cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        scale = CONFIG["short_side"] / min(label.shape)
        size = (round(label.shape[1] * scale), round(label.shape[0] * scale))
        images, labels = found.setdefault(size, ([], []))
        images.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        labels.append(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST))
    return [(np.stack(images), np.stack(labels)) for images, labels in found.values()]


def cells(mask: np.ndarray) -> list[tuple[int, slice, slice]]:
    """Level, rows and columns of the cells assigned to an object with a mask (H, W)."""
    height, width = mask.shape  # of the padded image, which the grids divide
    ys, xs = np.nonzero(mask)
    h, w = np.ptp(ys) + 1, np.ptp(xs) + 1
    y, x = ys.mean() + 0.5, xs.mean() + 0.5
    found = []
    for level, (side, (least, most)) in enumerate(zip(CONFIG["grids"], RANGES, strict=True)):
        if not least <= (h * w) ** 0.5 <= most:
            continue
        spans = []
        for centre, extent, size in ((y, h, height), (x, w, width)):
            middle = int(centre / size * side)
            first = int((centre - CENTRE * extent / 2) / size * side)
            last = int((centre + CENTRE * extent / 2) / size * side)
            spans.append(slice(max(first, middle - 1, 0), min(last, middle + 1, side - 1) + 1))
        found.append((level, *spans))
    return found


def losses(model: FreeSolo, pixels: Tensor, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Focal loss over all cells, and dice loss over the masks of cells with an object."""
    said, features = model(pixels)
    aims = [torch.zeros_like(logits[:, 0]) for logits, _ in said]
    dice = []
    for n, label in enumerate(labels):
        kernels, targets = [], []
        for number in range(1, int(label.max()) + 1):
            mask = label == number
            if mask.sum() < 12:
                continue
            target = F.avg_pool2d(torch.as_tensor(mask)[None].float(), 4)
            for level, rows, columns in cells(mask):
                aims[level][n, rows, columns] = 1
                kernels.append(said[level][1][n][:, rows, columns].flatten(1).T)
                targets.append(target.expand(len(kernels[-1]), -1, -1))
        kernel, target = torch.cat(kernels), torch.cat(targets)
        soft = torch.einsum("mk,khw->mhw", kernel, features[n]).sigmoid()
        both, squares = (soft * target).sum((1, 2)), (soft**2 + target**2).sum((1, 2))
        dice.append(1 - 2 * both / (squares + 1e-3))
    logits = torch.cat([logits.flatten() for logits, _ in said])
    aim = torch.cat([aim.flatten() for aim in aims])
    ce = F.binary_cross_entropy_with_logits(logits, aim, reduction="none")
    wrong = (logits.sigmoid() - aim).abs()
    focal = (0.25 * aim + 0.75 * (1 - aim)) * wrong**2 * ce
    return focal.sum() / (aim.sum() + 1), torch.cat(dice).mean()


def main() -> None:
    parser = training.arguments(__doc__, minutes=45, batch=8)
    args = training.parsed(parser)
    model = FreeSolo(CONFIG, torch.nn.BatchNorm2d)
    torch.nn.init.constant_(model.ins_head.cate_pred.bias, -4.6)  # one cell in 100 has an object
    for head in (model.ins_head.cate_pred, model.ins_head.kernel_pred):
        torch.nn.init.normal_(head.weight, std=0.01)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.02)
    state_path = args.out / "state.pt"
    spent, step = training.load_state(state_path, model=model, optimizer=optimizer)
    rng = np.random.default_rng(args.seed + step)
    groups = load_pool(args.pool, args.scenes)
    shares = np.array([len(labels) for _, labels in groups], float) / args.scenes
    history: list[tuple[float, float]] = []
    start, saved = time.monotonic() - 60 * spent, time.monotonic()
    model.train()
    while spent < args.minutes:
        training.set_rate(optimizer, args.rate, step, 200, spent / args.minutes)
        images, labels = groups[rng.choice(len(groups), p=shares / shares.sum())]
        batch = rng.integers(0, len(images), args.batch)
        flips = np.where(rng.random(args.batch) < 0.5, -1, 1)
        pictures = [images[i][:, ::f] for i, f in zip(batch, flips, strict=True)]
        truth = np.stack([labels[i][:, ::f] for i, f in zip(batch, flips, strict=True)])
        truth = np.pad(truth, ((0, 0), (0, -truth.shape[1] % 32), (0, -truth.shape[2] % 32)))
        pixels = torch.stack([to_pixels(picture) for picture in pictures])
        pixels = pixels.to(args.device, memory_format=torch.channels_last)
        focal, dice = losses(model, pixels, truth)
        optimizer.zero_grad()
        (focal + 3 * dice).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        history.append((focal.item(), dice.item()))
        step += 1
        spent = (time.monotonic() - start) / 60
        if step % 50 == 0:
            focal, dice = np.mean(history, 0)
            history.clear()
            training.log(args.out, step, spent, focal=focal, dice=dice)
        if time.monotonic() - saved > 120 or spent >= args.minutes:
            saved = time.monotonic()
            training.save_state(state_path, spent, step, model=model, optimizer=optimizer)


if __name__ == "__main__":
    main()
