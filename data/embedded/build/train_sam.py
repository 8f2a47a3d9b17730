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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import training
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from tasnb.models.sam import Sam, build_sam

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


MOST = 8  # objects of a scene, at most
LEAST = 12  # pixels of an object that is prompted, at least


def load_pool(folder: Path, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, S, S) and label maps (N, S, S), uint8, padded at the bottom; heights (N,)."""
    size = CONFIG["image_size"]
    paths = sorted(folder.glob("*.jpg"))[:count]
    images = np.zeros((len(paths), size, size, 3), np.uint8)
    labels = np.zeros((len(paths), size, size), np.uint8)
    heights = np.zeros(len(paths), int)

    def load(i: int) -> None:
        image = cv2.cvtColor(cv2.imread(str(paths[i])), cv2.COLOR_BGR2RGB)
        label = cv2.imread(str(paths[i].with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        scale = size / max(image.shape[:2])
        h, w = round(image.shape[0] * scale), round(image.shape[1] * scale)
        heights[i] = h
        images[i, :h, :w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
        labels[i, :h, :w] = cv2.resize(label, (w, h), interpolation=cv2.INTER_NEAREST)

    with ThreadPoolExecutor() as pool:
        for _ in tqdm(
            pool.map(load, range(len(paths))), "loading scenes", len(paths), mininterval=10
        ):
            pass
    device = torch.get_default_device()
    images, labels, heights = (torch.from_numpy(a).to(device) for a in (images, labels, heights))
    return images.permute(0, 3, 1, 2), labels, heights


def draw(pool: tuple[Tensor, Tensor, Tensor], count: int, sam: Sam) -> tuple[Tensor, Tensor]:
    """Scenes as the network sees them, (B, 3, S, S), half of them mirrored, and labels (B, S, S).

    Light and colour vary a little.
    """
    images, labels, heights = pool
    pick = torch.randint(len(images), (count,))
    flip = torch.rand(count) < 0.5
    x, label = images[pick].float(), labels[pick]
    x = torch.where(flip[:, None, None, None], x.flip(-1), x)
    label = torch.where(flip[:, None, None], label.flip(-1), label)
    gain, shift = 1 + 0.15 * (2 * torch.rand(count, 1, 1, 1) - 1), 10 * torch.randn(count, 3, 1, 1)
    x = (gain * x + shift).clamp(0, 255)
    x = (x - sam.pixel_mean) / sam.pixel_std
    below = torch.arange(x.shape[-1]) >= heights[pick, None]
    return x.masked_fill(below[:, None, :, None], 0), label  # SAM pads after normalising


def prompts(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Random points (B, P, 2) as x, y in pixels, and the number (B, P) of the object under each.

    Every object of a scene (B, S, S) is prompted about equally often.
    """
    flat = labels.flatten(1)
    sizes = (flat[:, None] == torch.arange(1, MOST + 1)[:, None]).sum(-1)  # (B, MOST)
    there = sizes >= LEAST
    order = torch.where(there, torch.rand(there.shape), 2.0).argsort(
        1
    )  # those that are there first
    place = torch.arange(PROMPTS) % there.sum(1, keepdim=True)
    numbers = order.gather(1, place) + 1
    chance = torch.rand(len(flat), PROMPTS, flat.shape[1])
    at = chance.masked_fill(flat[:, None] != numbers[..., None], -1).argmax(-1)
    size = labels.shape[-1]
    return torch.stack([at % size, at // size], -1) + 0.5, numbers


def decode(sam: Sam, embeddings: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Mask logits (B, P, 3, S / 2, S / 2) and predicted IoUs (B, P, 3) for points (B, P, 2)."""
    count = points.shape[1]
    there = points.flatten(0, 1)[:, None]
    ones = torch.ones(there.shape[:2], dtype=torch.int)
    sparse, dense = sam.prompt_encoder(points=(there, ones), boxes=None, masks=None)
    logits, predicted = sam.mask_decoder(
        # It would be added to each prompt, but there it is already: the images differ.
        image_embeddings=torch.zeros_like(embeddings[:1]),
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense + embeddings.repeat_interleave(count, 0),
        multimask_output=True,
    )
    return logits.unflatten(0, (-1, count)), predicted.unflatten(0, (-1, count))


def losses(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """20 focal + dice and the measured IoU, each (..., 3), for logits (..., 3, h, w).

    Args:
        target: The share of each cell that the object covers, (..., h, w).
    """
    target = target[..., None, :, :].expand_as(logits)
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

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of all heads, from embeddings (B, C, g, g) and labels (B, FINE g, FINE g)."""
        coarse = labels[:, FINE // 2 :: FINE, FINE // 2 :: FINE]
        return self.affinity(embeddings, coarse).mean() + self.details(embeddings, labels)

    def affinity(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Whether two locations are on the same object, from a scaled cosine of their features.

        Balanced cross-entropy over all pairs of locations, (B,), from (B, C, g, g) and (B, g, g).
        """
        places = F.normalize(self.project(embeddings.flatten(2).mT), dim=-1)
        label = labels.flatten(1)
        same = label[:, :, None] == label[:, None]
        object_pairs = (label[:, :, None] > 0) | (label[:, None] > 0)  # no pairs of the backdrop
        logits = self.scale * places @ places.mT + self.bias
        loss = F.binary_cross_entropy_with_logits(logits, same.float(), reduction="none")
        means = [
            (loss * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)
            for pairs in (same & object_pairs, ~same & object_pairs)
        ]
        return (means[0] + means[1]) / 2

    def details(self, embeddings: Tensor, labels: Tensor) -> Tensor:
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


def start(sam: Sam, folder: Path) -> None:
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


def prompted(sam: Sam, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss of the masks for some points on the objects of scenes.

    Args:
        embeddings: (B, C, g, g).
        labels: At the input's resolution, (B, S, S).

    Returns:
        The loss, and what is logged: loss and IoU of the best mask, error of the predicted IoU.
    """
    points, numbers = prompts(labels)
    logits, predicted = decode(sam, embeddings, points)
    alone = (labels[:, None] == numbers[..., None, None]).float()
    # The share of each cell that the object covers. A label sampled from the cell would be off by
    # half a pixel: at best, six points of IoU less for objects under 3 % of the scene.
    target = F.avg_pool2d(alone, CONFIG["patch_size"] // FINE)
    loss, iou = losses(logits, target)
    best = loss.argmin(-1, keepdim=True)
    least, error = loss.gather(-1, best).mean(), (predicted - iou).abs().mean()
    # Objects have no parts here, so a point is not ambiguous: the other two masks should also be
    # the object, and not a group of objects that would later absorb its mask. The predicted IoU
    # is weighted twice, since the automatic masks are ranked by it.
    total = least + 0.5 * loss.mean() + 2 * F.mse_loss(predicted, iou)
    return total, (least.detach(), iou.gather(-1, best).mean(), error.detach())


def reduced(labels: Tensor) -> Tensor:
    """Label maps at the resolution of the masks, a part of the input's."""
    step = CONFIG["patch_size"] // FINE
    return labels[..., step // 2 :: step, step // 2 :: step]


def main() -> None:
    parser = training.arguments(__doc__, minutes=60, batch=SCENES, rate=8e-4)
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to start from")
    parser.add_argument("--dense", type=float, default=0.15, help="share without any prompts")
    args = training.parsed(parser)
    sam = build_sam(CONFIG).to(args.device)
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
    torch.manual_seed(args.seed + step)
    pool = load_pool(args.pool, args.scenes)
    history: list[tuple[Tensor, ...]] = []
    clock, saved = training.Clock(spent), time.monotonic()
    while spent < args.minutes:
        training.set_rate(optimizer, args.rate, step, 150, spent / args.minutes)
        alone = spent < args.dense * args.minutes
        x, label = draw(pool, args.batch * (2 if alone else 1), sam)
        with torch.autocast(x.device.type, torch.bfloat16):  # a third faster where a CPU has it
            embeddings = sam.image_encoder(x)
        embeddings = embeddings.float()
        everywhere = total = dense(embeddings, reduced(label).int())
        logged = (torch.zeros(()),) * 3
        if not alone:
            loss, logged = prompted(sam, embeddings, label)
            total = total + loss
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        average.update_parameters(sam)
        history.append((*logged, everywhere.detach()))
        step += 1
        spent = clock.minutes()
        if step % 50 == 0:
            loss, iou, error, everywhere = training.means(history)
            training.log(args.out, step, spent, loss=loss, iou=iou, error=error, dense=everywhere)
        if time.monotonic() - saved > 120 or spent >= args.minutes:
            saved = time.monotonic()
            training.save_state(state_path, spent, step, **parts)


if __name__ == "__main__":
    main()
