"""Trains a tiny CLIP for the embedded profile on natural crops and whole scenes.

    python train_clip.py --pool /tmp/pool --out runs/train/clip-vit --tower vit --minutes 25

Resumes from ``<out>/state.pt`` if it exists. With ``--start DIR`` it starts from a checkpoint, and
with ``--freeze`` that checkpoint's text tower stays as it is, so that only the image tower is
trained. Masked crops are never used: the gap between natural and masked images, which the paper is
about, is preserved. Captions that occur several times in a batch share their targets instead of
counting as negatives. A batch rarely contains nouns that look alike, so every crop is also compared
with a bank of captions, as embedded by the text tower a few steps earlier: one plain caption for
every noun, and one for every noun with every detail ("a photo of a red car").
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import crops
import numpy as np
import open_clip
import texts
import torch
import torch.nn.functional as F
import training

CONTEXT_LENGTH = 24
BANK_STEPS = 40  # steps between two embeddings of the bank
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


Caption = Callable[[dict, np.random.Generator], str]
"""A caption for an object's crop."""


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


class Clip:
    """An open_clip model with its tokenizer.

    Args:
        frozen: The text tower does not change, so that a caption need be embedded only once.
    """

    def __init__(self, folder: Path, tower: str, frozen: bool) -> None:
        self.model, self.tokenize = build(folder, tower)
        self.size = TOWERS[tower]["image_size"]
        self.frozen, self.known = frozen, {}

    @property
    def logit_scale(self) -> torch.nn.Parameter:
        return self.model.logit_scale

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixels, normalize=True)

    def texts(self, captions: list[str]) -> torch.Tensor:
        if not self.frozen:
            return self.model.encode_text(self._tokens(captions), normalize=True)
        new = [caption for caption in captions if caption not in self.known]
        if new:
            with torch.no_grad():
                vectors = self.model.encode_text(self._tokens(new), normalize=True)
            self.known.update(zip(new, vectors, strict=True))
        return torch.stack([self.known[caption] for caption in captions])

    def _tokens(self, captions: list[str]) -> torch.Tensor:
        return self.tokenize(captions).to(torch.get_default_device())

    def caption(self, thing: dict, rng: np.random.Generator) -> str:
        return texts.region_caption(thing, rng)


def similarity(images: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """Cosines (B, T); the largest one for images with several vectors, (B, Q, D)."""
    cosines = images @ captions.T
    return cosines if images.ndim == 2 else cosines.amax(1)


class Bank:
    """Plain captions of all nouns, and of all objects in the training scenes with their details."""

    def __init__(self, scenes: list[dict]) -> None:
        nouns = list(texts.VOCABULARY["nouns"])
        details = sorted({texts.detailed(t) for scene in scenes for t in scene["objects"]})
        self.nouns = {noun: number for number, noun in enumerate(nouns)}
        self.details = {text: len(nouns) + number for number, text in enumerate(details)}
        self.captions = [
            texts.FRAMES[0].format(text) for text in (*map(texts.article, nouns), *details)
        ]

    def loss(self, logits: torch.Tensor, things: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy of crops' logits (B, bank) with nouns and details, and the nouns hit."""
        count = len(self.nouns)
        nouns = torch.tensor([self.nouns[thing["noun"]] for thing in things])
        details = torch.tensor([self.details[texts.detailed(thing)] for thing in things]) - count
        loss = F.cross_entropy(logits[:, :count], nouns)
        loss = loss + F.cross_entropy(logits[:, count:], details)
        return loss / 2, (logits[:, :count].argmax(1) == nouns).float().mean()


def draw(
    pool: crops.Pool, size: int, caption: Caption, batch: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[str], list[dict]]:
    """Images (B, S, S, 3) and their captions, and the objects that the first of them, crops, show.

    One in eight images is a whole scene.
    """
    images, things = pool.crops(batch - batch // 8, size, rng)
    captions = [caption(thing, rng) for thing in things]
    wholes, held = pool.wholes(batch // 8, size, rng)
    captions += [texts.FRAMES[0].format(texts.scene_caption(objects, rng)) for objects in held]
    return np.concatenate([images, wholes]), captions, things


def learn(pair: Pair, args: argparse.Namespace) -> None:
    """Trains with image-text contrast until time is up; resumes from ``<out>/state.pt``."""
    model = pair.model
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = training.Optimizers(model, args.rate, decay=0.1)
    state_path = args.out / "state.pt"
    spent, step = training.load_state(state_path, model=model, optimizer=optimizer)
    pool = crops.Pool(args.pool, args.scenes, margin=args.margin, varied=not args.unvaried)
    bank = Bank(pool.scenes)
    history: list[tuple[torch.Tensor, ...]] = []
    clock, saved = training.Clock(spent), time.monotonic()
    model.train()
    drawn = partial(draw, pool, pair.size, pair.caption, args.batch)
    for images, captions, things in crops.ahead(drawn, args.seed + step, args.workers):
        training.set_rate(optimizer, args.rate, step, 100, spent / args.minutes)
        if step % BANK_STEPS == 0 or not history:
            with torch.no_grad():  # current text embeddings
                known = pair.texts(bank.captions)
        distinct, codes = np.unique(captions, return_inverse=True)
        image = pair.images(training.to_tensor(images))
        text = pair.texts(list(distinct))[codes]
        scale = pair.logit_scale.exp()
        logits = scale * similarity(image, text)
        same = torch.tensor(codes[:, None] == codes[None]).float()
        targets = same / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        guess, hits = bank.loss(scale * similarity(image[: len(things)], known), things)
        optimizer.zero_grad()
        (loss + 2 * guess).backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        with torch.no_grad():
            pair.logit_scale.clamp_(0, math.log(100))
        right = same.gather(1, logits.argmax(1, keepdim=True)).mean()
        history.append((loss.detach(), right, hits))
        step += 1
        spent = clock.minutes()
        if step % 100 == 0:
            loss, right, hits = training.means(history)
            training.log(args.out, step, spent, loss=loss, right=right, nouns=hits)
        if time.monotonic() - saved > 120 or spent >= args.minutes:
            saved = time.monotonic()
            training.save_state(state_path, spent, step, model=model, optimizer=optimizer)
        if spent >= args.minutes:
            return


def arguments(doc: str) -> argparse.ArgumentParser:
    """A parser with the options of all trainings with image-text contrast."""
    parser = training.arguments(doc)
    parser.add_argument("--margin", type=float, default=0.0, help="least margin of the crops")
    parser.add_argument(
        "--unvaried", action="store_true", help="keep light, sharpness and compression as they are"
    )
    return parser


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tower", choices=TOWERS, required=True)
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to start from")
    parser.add_argument("--freeze", action="store_true", help="keep the text tower as it is")
    args = training.parsed(parser)
    clip = Clip(args.out, args.tower, args.freeze)
    model = clip.model
    if args.tower == "vit":
        positions = model.visual.positional_embedding
        positions.data.copy_(waves(int(len(positions) ** 0.5), positions.shape[1]))
    if args.start:
        training.start_from(model, args.start, clip.tokenize.tokenizer)
    if args.freeze:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith("visual.") or name == "logit_scale"
    if args.tower == "rn":  # 1.5 times as fast on a CPU
        model.visual.to(memory_format=torch.channels_last)
    learn(clip, args)


if __name__ == "__main__":
    main()
