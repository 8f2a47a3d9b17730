"""Trains a tiny CLIP for the embedded profile on natural crops and whole scenes.

    python train_clip.py --pool /tmp/pool --out runs/train/clip-vit --tower vit --minutes 25

Resumes from ``<out>/state.pt`` if it exists. With ``--text-from DIR`` the text tower is taken from
a finished training and frozen, so that only the image tower is trained. Masked crops are never
used: the gap between natural and masked images, which the paper is about, is preserved. Captions
that occur several times in a batch share their targets instead of counting as negatives. A batch
rarely contains nouns that look alike, so every crop is also compared with the plain captions of all
nouns, as embedded by the text tower a few steps earlier.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Protocol

import crops
import numpy as np
import open_clip
import texts
import torch
import torch.nn.functional as F
import training
from safetensors.torch import load_file

CONTEXT_LENGTH = 24
BANK_STEPS = 20  # steps between two embeddings of all nouns
TOWERS = {
    "rn": {
        "image_size": 64,
        "layers": [1, 2, 2, 1],
        "width": 20,
        "patch_size": None,
        "head_width": 32,
    },
    "vit": {
        "image_size": 84,
        "layers": 4,
        "width": 128,
        "patch_size": 12,
        "head_width": 32,
        "no_ln_pre": True,  # as in BLIP-2's vision tower, which is initialised with this one
    },
}


def config(tower: str, vocabulary: int) -> dict:
    """The content of ``open_clip_config.json`` for open_clip's ``local-dir:`` loader."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "quick_gelu": False,
            "vision_cfg": TOWERS[tower],
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocabulary,
                "hf_tokenizer_name": "local",
                "width": 128,
                "heads": 4,
                "layers": 2,
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }


def build(folder: Path, tower: str) -> tuple[torch.nn.Module, open_clip.tokenizer.HFTokenizer]:
    """Writes tokenizer and configuration to ``folder`` and builds the model from them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = texts.build_tokenizer(CONTEXT_LENGTH)
    tokenizer.save_pretrained(folder)
    cfg = config(tower, len(tokenizer))
    (folder / "open_clip_config.json").write_text(json.dumps(cfg, indent=1))
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    return model, open_clip.get_tokenizer(f"local-dir:{folder}")


def waves(grid: int, width: int) -> torch.Tensor:
    """Sine-cosine embedding of a class token and a grid of patches, (grid^2 + 1, width).

    A small image tower is initialised with it instead of noise, so that nearby positions have
    similar embeddings.
    """
    rates = 1 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * rates
    along = torch.cat([angles.sin(), angles.cos()], 1)  # (grid, width / 2)
    rows = along[:, None].expand(-1, grid, -1)
    columns = along[None].expand(grid, -1, -1)
    places = torch.cat([rows, columns], -1).reshape(grid * grid, width)
    return 0.3 * torch.cat([torch.zeros(1, width), places])


class Pair(Protocol):
    """An image tower and a text tower that are trained together."""

    model: torch.nn.Module
    size: int  # side of an image in pixels
    logit_scale: torch.nn.Parameter

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit vectors for images, (B, D), or (B, Q, D) with several per image."""

    def texts(self, captions: list[str]) -> torch.Tensor:
        """Unit vectors for texts, (T, D)."""

    def caption(self, thing: dict, rng: np.random.Generator) -> str:
        """A caption for a crop."""


def to_tensor(images: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


class Clip:
    """An open_clip model with its tokenizer."""

    def __init__(self, folder: Path, tower: str) -> None:
        self.model, self.tokenize = build(folder, tower)
        self.size = TOWERS[tower]["image_size"]

    @property
    def logit_scale(self) -> torch.nn.Parameter:
        return self.model.logit_scale

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixels, normalize=True)

    def texts(self, captions: list[str]) -> torch.Tensor:
        return self.model.encode_text(self.tokenize(captions), normalize=True)

    def caption(self, thing: dict, rng: np.random.Generator) -> str:
        return texts.region_caption(thing, rng)


def similarity(images: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """Cosines (B, T); the largest one for images with several vectors, (B, Q, D)."""
    cosines = images @ captions.T
    return cosines if images.ndim == 2 else cosines.amax(1)


def learn(pair: Pair, args: argparse.Namespace) -> None:
    """Trains with image-text contrast until time is up; resumes from ``<out>/state.pt``."""
    model, size = pair.model, pair.size
    learning = [p for p in model.parameters() if p.requires_grad]
    decay = [p for p in learning if p.ndim > 1]
    plain = [p for p in learning if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=args.rate,
        betas=(0.9, 0.98),
    )
    state_path = args.out / "state.pt"
    spent, step = training.load_state(state_path, model=model, optimizer=optimizer)
    rng = np.random.default_rng(args.seed + step)
    stored, things, wholes, held = crops.load(args.pool, args.scenes)
    noun_codes = {noun: code for code, noun in enumerate(texts.VOCABULARY["nouns"])}
    nouns = torch.tensor([noun_codes[thing["noun"]] for thing in things])
    plain_captions = [texts.FRAMES[0].format(texts.article(noun)) for noun in noun_codes]
    history: list[tuple[float, float, float]] = []
    start, saved = time.monotonic() - 60 * spent, time.monotonic()
    scenes_in_batch = args.batch // 8
    model.train()
    while spent < args.minutes:
        training.set_rate(optimizer, args.rate, step, 100, spent / args.minutes)
        if step % BANK_STEPS == 0 or not history:
            with torch.no_grad():  # current text embeddings of all nouns
                bank = pair.texts(plain_captions)
        pick = np.sort(rng.integers(0, len(stored), args.batch - scenes_in_batch))
        images = crops.augment(stored[pick], size, rng)
        captions = [pair.caption(things[i], rng) for i in pick]
        named = nouns[pick]
        pick = np.sort(rng.integers(0, len(wholes), scenes_in_batch))
        images = np.concatenate([images, crops.augment(wholes[pick], size, rng, least=0.95)])
        captions += [
            texts.FRAMES[0].format(texts.scene_caption(held[i]["objects"], held[i]["shares"], rng))
            for i in pick
        ]
        distinct, codes = np.unique(captions, return_inverse=True)
        image = pair.images(to_tensor(images))
        text = pair.texts(list(distinct))[codes]
        scale = pair.logit_scale.exp()
        logits = scale * similarity(image, text)
        same = torch.from_numpy(codes[:, None] == codes[None]).float()
        targets = same / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        guess = scale * similarity(image[: len(named)], bank)
        optimizer.zero_grad()
        (loss + F.cross_entropy(guess, named)).backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        with torch.no_grad():
            pair.logit_scale.clamp_(0, math.log(100))
        right = same.gather(1, logits.argmax(1, keepdim=True)).mean().item()
        noun_right = (guess.argmax(1) == named).float().mean().item()
        history.append((loss.item(), right, noun_right))
        step += 1
        spent = (time.monotonic() - start) / 60
        if step % 100 == 0:
            loss, right, noun_right = np.mean(history, 0)
            history.clear()
            training.log(args.out, step, spent, loss=loss, right=right, nouns=noun_right)
        if time.monotonic() - saved > 120 or spent >= args.minutes:
            saved = time.monotonic()
            training.save_state(state_path, spent, step, model=model, optimizer=optimizer)


def main() -> None:
    parser = training.arguments(__doc__)
    parser.add_argument("--tower", choices=TOWERS, required=True)
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to start from")
    parser.add_argument("--text-from", type=Path, help="folder of a finished training")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    clip = Clip(args.out, args.tower)
    model = clip.model
    if args.tower == "vit":
        positions = model.visual.positional_embedding
        positions.data.copy_(waves(int(len(positions) ** 0.5), positions.shape[1]))
    if args.start:
        weights = load_file(args.start / "open_clip_model.safetensors")
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    if args.text_from:
        trained = torch.load(args.text_from / "state.pt", weights_only=True)["model"]
        tower = {k: v for k, v in trained.items() if not k.startswith("visual.")}
        model.load_state_dict(tower, strict=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith("visual.") or name == "logit_scale"
    if args.tower == "rn":  # 1.5 times as fast on a CPU
        model.visual.to(memory_format=torch.channels_last)
    learn(clip, args)


if __name__ == "__main__":
    main()
