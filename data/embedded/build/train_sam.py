"""Trains the tiny Segment Anything of the embedded profile on training scenes.

    python train_sam.py --pool /tmp/pool --out runs/train/sam --minutes 60

Resumes from ``<out>/state.pt`` if it exists. Objects are prompted with random points on them. The
best of the three masks is trained with 20 focal + dice, as by SAM's authors. The other two are
trained as well, with a smaller weight, since the objects here have no parts. All three predicted
IoUs are trained to match the measured ones. In addition, a linear head on the image embedding,
discarded afterwards, learns whether two locations belong to the same object, so that the encoder
learns from every location of a scene and not just from the few that are prompted.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import training
from safetensors.torch import load_file
from tqdm import tqdm

from tasnb.models.sam import build_sam

CONFIG = {
    "image_size": 192,
    "patch_size": 8,
    "encoder_width": 128,
    "encoder_depth": 4,
    "encoder_heads": 4,
    "global_attention": [1, 3],
    "window_size": 8,
    "prompt_width": 128,
    "decoder_depth": 2,
    "decoder_heads": 4,
    "decoder_mlp": 256,
    "iou_head_width": 128,
}
SCENES, PROMPTS = 4, 8  # scenes per step, points per scene


def load_pool(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (N, S, S, 3) and label maps (N, S, S), uint8, padded at the bottom; heights (N,)."""
    size = CONFIG["image_size"]
    paths = sorted(folder.glob("*.jpg"))[:count]
    images = np.zeros((len(paths), size, size, 3), np.uint8)
    labels = np.zeros((len(paths), size, size), np.uint8)
    heights = np.zeros(len(paths), int)
    for i, path in enumerate(tqdm(paths, desc="loading scenes", mininterval=10)):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        label = cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        scale = size / max(image.shape[:2])
        h, w = round(image.shape[0] * scale), round(image.shape[1] * scale)
        heights[i] = h
        images[i, :h, :w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
        labels[i, :h, :w] = cv2.resize(label, (w, h), interpolation=cv2.INTER_NEAREST)
    return images, labels, heights


def prompts(label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 2) as x, y, and the number (P,) of the object under each."""
    there, sizes = np.unique(label[label > 0], return_counts=True)
    there = there[sizes >= 12]
    numbers = rng.permutation(np.tile(there, -(-PROMPTS // len(there))))[:PROMPTS]
    points = []
    for number in numbers:
        ys, xs = np.nonzero(label == number)
        pick = rng.integers(len(xs))
        points.append((xs[pick] + 0.5, ys[pick] + 0.5))
    return np.array(points, np.float32), numbers


def decode(sam, embedding: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Three mask logits (P, 3, S / 2, S / 2) and predicted IoUs (P, 3) for one scene."""
    ones = torch.ones(len(points), 1, dtype=torch.int)
    sparse, dense = sam.prompt_encoder(points=(points[:, None], ones), boxes=None, masks=None)
    return sam.mask_decoder(
        image_embeddings=embedding[None],
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )


def losses(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """20 focal + dice and the measured IoU, each (P, 3), for logits and targets (P, h, w)."""
    target = target[:, None].expand_as(logits)
    ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    wrong = p + target - 2 * p * target
    balance = 0.25 * target + 0.75 * (1 - target)
    focal = (balance * ce * wrong**2).mean((-2, -1))
    both, total = (p * target).sum((-2, -1)), p.sum((-2, -1)) + target.sum((-2, -1))
    dice = 1 - (2 * both + 1) / (total + 1)
    with torch.no_grad():
        hard, true = logits > 0, target > 0.5
        iou = (hard & true).sum((-2, -1)) / (hard | true).sum((-2, -1)).clamp(min=1)
    return 20 * focal + dice, iou


class Affinity(torch.nn.Module):
    """Predicts from a scaled cosine whether two locations are on the same object."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = torch.nn.Linear(width, 48)
        self.scale = torch.nn.Parameter(torch.tensor(8.0))
        self.bias = torch.nn.Parameter(torch.tensor(-4.0))

    def forward(self, embedding: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Balanced cross-entropy over all pairs of locations, from (C, g, g) and labels (g, g)."""
        places = F.normalize(self.project(embedding.flatten(1).T), dim=1)
        same = (label.reshape(-1, 1) == label.reshape(1, -1)) & (label.reshape(-1, 1) >= 0)
        object_pairs = (label.reshape(-1, 1) > 0) | (label.reshape(1, -1) > 0)  # no backdrop pairs
        logits = self.scale * places @ places.T + self.bias
        loss = F.binary_cross_entropy_with_logits(logits, same.float(), reduction="none")
        together, apart = loss[same & object_pairs], loss[~same & object_pairs]
        return (together.mean() + apart.mean()) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to start from")
    parser.add_argument("--minutes", type=float, default=60, help="length of the whole schedule")
    parser.add_argument("--scenes", type=int, default=8000)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    sam = build_sam(CONFIG)
    if args.start:
        weights = load_file(args.start / "model.safetensors")
        sam.load_state_dict({key: value.float() for key, value in weights.items()})
    average = torch.optim.swa_utils.AveragedModel(
        sam, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    affinity = Affinity(CONFIG["prompt_width"])
    learning = [*sam.parameters(), *affinity.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=args.rate, weight_decay=0.02)
    state_path = args.out / "state.pt"
    parts = {"sam": sam, "average": average, "affinity": affinity, "optimizer": optimizer}
    spent, step = training.load_state(state_path, **parts)
    rng = np.random.default_rng(args.seed + step)
    images, labels, heights = load_pool(args.pool, args.scenes)
    history: list[tuple[float, ...]] = []
    start, saved = time.monotonic() - 60 * spent, time.monotonic()
    while spent < args.minutes:
        progress = spent / args.minutes
        warm = min(1.0, (step + 1) / 150)
        for group in optimizer.param_groups:
            group["lr"] = (
                args.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
            )
        batch = rng.integers(0, len(images), SCENES)
        flips = rng.random(SCENES) < 0.5
        picture = np.stack(
            [images[i][:, ::-1] if f else images[i] for i, f in zip(batch, flips, strict=True)]
        )
        x = torch.from_numpy(picture).permute(0, 3, 1, 2).float()
        x = (x - sam.pixel_mean) / sam.pixel_std
        for k, i in enumerate(batch):
            x[k, :, heights[i] :] = 0  # SAM pads after normalising
        embeddings = sam.image_encoder(x)
        total = torch.zeros(())
        for embedding, i, flip in zip(embeddings, batch, flips, strict=True):
            label = labels[i][:, ::-1] if flip else labels[i]
            points, numbers = prompts(label, rng)
            logits, predicted = decode(sam, embedding, torch.from_numpy(points))
            small = torch.from_numpy(np.ascontiguousarray(label[1::2, 1::2]))
            target = (small[None] == torch.from_numpy(numbers)[:, None, None]).float()
            loss, iou = losses(logits, target)
            best = loss.argmin(1, keepdim=True)
            # Objects have no parts here, so a point is not ambiguous: the other two masks should
            # also be the object, and not a group of objects that would later absorb its mask.
            spread = 0.5 * loss.mean()
            step_of = CONFIG["patch_size"]
            coarse = label[step_of // 2 :: step_of, step_of // 2 :: step_of].astype(int)
            together = affinity(embedding, torch.from_numpy(coarse))
            # weighted twice, since the automatic masks are ranked by these predictions
            masks = loss.gather(1, best).mean() + spread + 2 * F.mse_loss(predicted, iou)
            total = total + (masks + together) / SCENES
            history.append(
                (
                    loss.gather(1, best).mean().item(),
                    iou.gather(1, best).mean().item(),
                    (predicted - iou).abs().mean().item(),
                    together.item(),
                )
            )
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        average.update_parameters(sam)
        step += 1
        spent = (time.monotonic() - start) / 60
        if step % 50 == 0:
            loss, iou, error, together = np.mean(history, 0)
            history.clear()
            training.log(args.out, step, spent, loss=loss, iou=iou, error=error, affinity=together)
        if time.monotonic() - saved > 120 or spent >= args.minutes:
            saved = time.monotonic()
            training.save_state(state_path, spent, step, **parts)


if __name__ == "__main__":
    main()
