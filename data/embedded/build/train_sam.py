"""Trains the tiny Segment Anything of the embedded profile on training scenes.

    python train_sam.py --pool /tmp/pool --out runs/train/sam --minutes 60

Resumes from ``<out>/state.pt`` if it exists. Objects are prompted with random points on them. The
best of the three masks is trained with 20 focal + dice, as by SAM's authors. The other two are
trained as well, with a smaller weight, since the objects here have no parts. All three predicted
IoUs are trained to match the measured ones.

So that the encoder learns from every location of a scene and not just from the few that are
prompted, linear heads on the image embedding, discarded afterwards, predict three things: whether
two locations belong to the same object; what is object and what is backdrop; and where one object
ends and the next begins, the last two at the resolution of the masks. In the first part of the
schedule (``--dense``), the encoder learns from these alone, at half the cost of a step.
"""

from __future__ import annotations

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
    "encoder_depth": 6,
    "encoder_heads": 4,
    "global_attention": [1, 3, 5],
    "window_size": 8,
    "prompt_width": 96,
    "decoder_depth": 2,
    "decoder_heads": 4,
    "decoder_mlp": 256,
    "iou_head_width": 128,
}
SCENES, PROMPTS = 4, 8  # scenes per step, points per scene
FINE = 4  # pixels of a mask along each side of a patch


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


class Dense(torch.nn.Module):
    """Linear heads on the image embedding that learn from every location of a scene."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = torch.nn.Linear(width, 48)
        self.scale = torch.nn.Parameter(torch.tensor(8.0))
        self.bias = torch.nn.Parameter(torch.tensor(-4.0))
        self.detail = torch.nn.Conv2d(width, 3 * FINE**2, 1)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of all heads, from embeddings (B, C, g, g) and labels (B, FINE g, FINE g)."""
        coarse = labels[:, FINE // 2 :: FINE, FINE // 2 :: FINE]
        groups = [self.affinity(*pair) for pair in zip(embeddings, coarse, strict=True)]
        return torch.stack(groups).mean() + self.details(embeddings, labels)

    def affinity(self, embedding: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Whether two locations are on the same object, from a scaled cosine of their features.

        Balanced cross-entropy over all pairs of locations, from (C, g, g) and labels (g, g).
        """
        places = F.normalize(self.project(embedding.flatten(1).T), dim=1)
        same = label.reshape(-1, 1) == label.reshape(1, -1)
        object_pairs = (label.reshape(-1, 1) > 0) | (label.reshape(1, -1) > 0)  # no backdrop pairs
        logits = self.scale * places @ places.T + self.bias
        loss = F.binary_cross_entropy_with_logits(logits, same.float(), reduction="none")
        together, apart = loss[same & object_pairs], loss[~same & object_pairs]
        return (together.mean() + apart.mean()) / 2

    def details(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Object or backdrop, and whether the pixel to the right or below is another object."""
        inside, right, below = F.pixel_shuffle(self.detail(embeddings), FINE).unbind(1)
        objects = F.binary_cross_entropy_with_logits(inside, (labels > 0).float())
        ends = F.binary_cross_entropy_with_logits(
            torch.cat([right[:, :, :-1].flatten(), below[:, :-1].flatten()]),
            torch.cat(
                [
                    (labels[:, :, :-1] != labels[:, :, 1:]).flatten(),
                    (labels[:, :-1] != labels[:, 1:]).flatten(),
                ]
            ).float(),
            pos_weight=torch.tensor(4.0),  # few pixels are at the end of an object
        )
        return objects + ends


def start(sam: torch.nn.Module, folder: Path) -> None:
    """Copies the weights of a checkpoint that fit; blocks that it lacks begin as the identity."""
    own = sam.state_dict()
    given = load_file(folder / "model.safetensors")
    fitting = {k: v.float() for k, v in given.items() if k in own and v.shape == own[k].shape}
    sam.load_state_dict(fitting, strict=False)
    with torch.no_grad():
        for number, block in enumerate(sam.image_encoder.blocks):
            if f"image_encoder.blocks.{number}.norm1.weight" not in given:
                for part in (block.attn.proj, block.mlp.lin2):
                    part.weight.zero_()
                    part.bias.zero_()


def prompted(
    sam: torch.nn.Module, embedding: torch.Tensor, label: np.ndarray, rng: np.random.Generator
) -> tuple[torch.Tensor, tuple[float, float, float]]:
    """The loss of the masks for some points on a scene's objects.

    Args:
        embedding: (C, g, g).
        label: At the input's resolution, (S, S).

    Returns:
        The loss, and what is logged: loss and IoU of the best mask, error of the predicted IoU.
    """
    points, numbers = prompts(label, rng)
    logits, predicted = decode(sam, embedding, torch.from_numpy(points))
    alone = torch.from_numpy(label)[None] == torch.from_numpy(numbers)[:, None, None]
    # The share of each cell that the object covers. A label sampled from the cell would be off by
    # half a pixel: at best, six points of IoU less for objects under 3 % of the scene.
    target = F.avg_pool2d(alone.float(), CONFIG["patch_size"] // FINE)
    loss, iou = losses(logits, target)
    best = loss.argmin(1, keepdim=True)
    least, error = loss.gather(1, best).mean(), (predicted - iou).abs().mean()
    # Objects have no parts here, so a point is not ambiguous: the other two masks should also be
    # the object, and not a group of objects that would later absorb its mask. The predicted IoU
    # is weighted twice, since the automatic masks are ranked by it.
    total = least + 0.5 * loss.mean() + 2 * F.mse_loss(predicted, iou)
    return total, (least.item(), iou.gather(1, best).mean().item(), error.item())


def reduced(label: np.ndarray) -> np.ndarray:
    """A label map at the resolution of the masks, a part of the input's."""
    step = CONFIG["patch_size"] // FINE
    return np.ascontiguousarray(label[..., step // 2 :: step, step // 2 :: step])


def main() -> None:
    parser = training.arguments(__doc__, minutes=60, batch=SCENES, rate=8e-4)
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to start from")
    parser.add_argument("--dense", type=float, default=0.15, help="share without any prompts")
    args = training.parsed(parser)
    sam = build_sam(CONFIG)
    if args.start:
        start(sam, args.start)
    average = torch.optim.swa_utils.AveragedModel(
        sam, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    dense = Dense(CONFIG["prompt_width"])
    learning = [*sam.parameters(), *dense.parameters()]
    optimizer = training.Optimizers(torch.nn.ModuleList([sam, dense]), args.rate, decay=0.02)
    state_path = args.out / "state.pt"
    parts = {"sam": sam, "average": average, "dense": dense, "optimizer": optimizer}
    spent, step = training.load_state(state_path, **parts)
    rng = np.random.default_rng(args.seed + step)
    images, labels, heights = load_pool(args.pool, args.scenes)
    history: list[tuple[float, ...]] = []
    clock, saved = training.Clock(spent), time.monotonic()
    while spent < args.minutes:
        training.set_rate(optimizer, args.rate, step, 150, spent / args.minutes)
        alone = spent < args.dense * args.minutes
        batch = rng.integers(0, len(images), args.batch * (2 if alone else 1))
        flips = rng.random(len(batch)) < 0.5
        pairs = list(zip(batch, flips, strict=True))
        picture = np.stack([images[i][:, ::-1] if f else images[i] for i, f in pairs])
        label = np.stack([labels[i][:, ::-1] if f else labels[i] for i, f in pairs])
        x = torch.from_numpy(picture).permute(0, 3, 1, 2).float()
        x = (x - sam.pixel_mean) / sam.pixel_std
        for k, i in enumerate(batch):
            x[k, :, heights[i] :] = 0  # SAM pads after normalising
        with torch.autocast("cpu", torch.bfloat16):  # a third faster where the CPU has it
            embeddings = sam.image_encoder(x)
        embeddings = embeddings.float()
        everywhere = dense(embeddings, torch.from_numpy(reduced(label)).int())
        total, logged = everywhere, (0.0, 0.0, 0.0)
        if not alone:
            found = [prompted(sam, *pair, rng) for pair in zip(embeddings, label, strict=True)]
            total = total + torch.stack([loss for loss, _ in found]).mean()
            logged = tuple(np.mean([values for _, values in found], 0))
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        average.update_parameters(sam)
        history.append((*logged, everywhere.item()))
        step += 1
        spent = clock.minutes()
        if step % 50 == 0:
            loss, iou, error, everywhere = np.mean(history, 0)
            history.clear()
            training.log(args.out, step, spent, loss=loss, iou=iou, error=error, dense=everywhere)
        if time.monotonic() - saved > 120 or spent >= args.minutes:
            saved = time.monotonic()
            training.save_state(state_path, spent, step, **parts)


if __name__ == "__main__":
    main()
