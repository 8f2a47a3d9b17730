"""Trains a tiny captioner of the embedded profile on natural crops and whole scenes.

    python train_captioner.py --model blip2 --pool /tmp/pool --out runs/train/blip2 \
        --vision-from ../checkpoints/clip-vit --minutes 35

Resumes from ``<out>/state.pt`` if it exists. The vision tower starts from the trained CLIP-ViT, as
the real models start from a CLIP; BLIP-2's sees more patches, so that it can tell the objects of a
whole scene. The rest starts from scratch or, with ``--start``, from a checkpoint, helped by linear
heads, discarded afterwards, that predict the nouns in the image. Captions have the form "a red car"
for crops and "a red car, a woman running and a tree" for scenes. Half of the crops are padded to a
square with black bars, as the method pads what it shows a captioner; none is masked.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import crops
import numpy as np
import texts
import torch
import torch.nn.functional as F
import training
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    CLIPImageProcessor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

PATCH, WIDTH, LAYERS, HEADS = 12, 128, 4, 4  # of the vision tower, as in the CLIP-ViT
SIZE, LARGE = 84, 144  # side of an image in pixels, as in the CLIP-ViT, and for BLIP-2
BARS = 0.5  # share of the crops that are padded with black bars
QUERIES = 8
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]

BLOCK = {
    "layer_norm1.weight": "ln_1.weight",
    "layer_norm1.bias": "ln_1.bias",
    "layer_norm2.weight": "ln_2.weight",
    "layer_norm2.bias": "ln_2.bias",
    "mlp.fc1.weight": "mlp.c_fc.weight",
    "mlp.fc1.bias": "mlp.c_fc.bias",
    "mlp.fc2.weight": "mlp.c_proj.weight",
    "mlp.fc2.bias": "mlp.c_proj.bias",
}
"""Weights of a block in transformers' vision towers -> in open_clip's, except the attention."""


class Read(NamedTuple):
    """A captioner's outputs for a batch."""

    loss: Tensor
    guess: Tensor  # (B, L) the most likely next tokens
    aim: Tensor  # (B, L) the true next tokens, -100 where ignored
    seen: dict[str, Tensor]  # inputs of the heads that predict nouns, (B, C)


class Captioner(Protocol):
    """A captioner to be trained."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    size: int

    def start_vision(self, clip: dict[str, Tensor]) -> None:
        """Initialises the vision tower with the weights of a trained CLIP-ViT."""

    def read(self, pixels: Tensor, captions: list[str]) -> Read:
        """The loss and other outputs for some images and their captions."""

    def save(self, out: Path) -> None:
        """Writes the files that ``AutoProcessor`` and ``from_pretrained`` load."""


class Blip2:
    """``Blip2ForConditionalGeneration``: vision tower, Q-Former, OPT."""

    size = LARGE

    def __init__(self) -> None:
        self.tokenizer = texts.build_tokenizer(context_length=48)
        self.tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
        config = Blip2Config(
            vision_config=blip2_vision(self.size),
            qformer_config=Blip2QFormerConfig(
                vocab_size=4,
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=2,
                num_attention_heads=HEADS,
                encoder_hidden_size=WIDTH,
                cross_attention_frequency=1,
                max_position_embeddings=4,
            ),
            text_config=OPTConfig(
                vocab_size=len(self.tokenizer),
                hidden_size=WIDTH,
                word_embed_proj_dim=WIDTH,
                ffn_dim=4 * WIDTH,
                num_hidden_layers=3,
                num_attention_heads=HEADS,
                dropout=0.0,
                max_position_embeddings=64,
                pad_token_id=self.tokenizer.pad_token_id,
                bos_token_id=self.tokenizer.bos_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
            ),
            num_query_tokens=QUERIES,
            image_token_index=self.tokenizer.convert_tokens_to_ids("<image>"),
        )
        self.model = Blip2ForConditionalGeneration(config)
        torch.nn.init.normal_(self.model.query_tokens, std=0.5)  # zeros would stay identical

    def start_vision(self, clip: dict[str, Tensor]) -> None:
        start_blip2_vision(self.model.vision_model, clip)

    def read(self, pixels: Tensor, captions: list[str]) -> Read:
        words = training.tokens(self.tokenizer, captions)
        before = torch.full((len(captions), QUERIES), self.model.config.image_token_index)
        ids = torch.cat([before, words.input_ids], 1)
        mask = torch.cat([torch.ones_like(before), words.attention_mask], 1)
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, : QUERIES + 1] = -100  # image and start tokens are not predicted
        out = self.model(pixel_values=pixels, input_ids=ids, attention_mask=mask, labels=labels)
        seen = {
            "vision": out.vision_outputs.last_hidden_state.mean(1),
            "queries": out.qformer_outputs.last_hidden_state.flatten(1),
        }
        guess = out.logits[:, -ids.shape[1] :][:, :-1].argmax(-1)
        return Read(out.loss, guess, labels[:, 1:], seen)

    def save(self, out: Path) -> None:
        self.model.save_pretrained(out)
        images = blip2_images(self.size)
        processor = Blip2Processor(images, self.tokenizer, num_query_tokens=QUERIES)
        processor.save_pretrained(out)


class Git:
    """``GitForCausalLM``: one decoder reads the image patches and then the words."""

    size = SIZE

    def __init__(self) -> None:
        self.tokenizer = texts.build_tokenizer(context_length=48)
        config = GitConfig(
            vision_config={
                "hidden_size": WIDTH,
                "intermediate_size": 4 * WIDTH,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": HEADS,
                "image_size": SIZE,
                "patch_size": PATCH,
                "hidden_act": "gelu",
            },
            vocab_size=len(self.tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=HEADS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            max_position_embeddings=64,
            pad_token_id=self.tokenizer.pad_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
        )
        self.model = GitForCausalLM(config)

    def start_vision(self, clip: dict[str, Tensor]) -> None:
        tower = self.model.git.image_encoder.vision_model
        start_tower(
            tower.state_dict(),
            clip,
            {
                "embeddings.position_embedding.weight": "positional_embedding",
                "encoder.layers.{}.self_attn.out_proj.weight": "attn.out_proj.weight",
                "encoder.layers.{}.self_attn.out_proj.bias": "attn.out_proj.bias",
            },
        )
        with torch.no_grad():
            for number, layer in enumerate(tower.encoder.layers):
                heads = [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj]
                block = f"visual.transformer.resblocks.{number}.attn.in_proj"
                for kind in ("weight", "bias"):
                    for part, values in zip(heads, clip[f"{block}_{kind}"].chunk(3), strict=True):
                        getattr(part, kind).copy_(values)
            # The CLIP-ViT has no norm before its blocks; with this weight the norm changes little.
            tower.pre_layrnorm.weight.fill_(float(tower.embeddings.position_embedding.weight.std()))

    def read(self, pixels: Tensor, captions: list[str]) -> Read:
        words = training.tokens(self.tokenizer, captions)
        labels = words.input_ids.masked_fill(words.attention_mask == 0, -100)
        out = self.model(
            pixel_values=pixels,
            input_ids=words.input_ids,
            attention_mask=words.attention_mask,
            labels=labels,
            output_hidden_states=True,
        )
        patches = out.logits.shape[1] - labels.shape[1]
        guess = out.logits[:, patches:-1].argmax(-1)
        seen = {"patches": out.hidden_states[0][:, :patches].mean(1)}
        return Read(out.loss, guess, labels[:, 1:], seen)

    def save(self, out: Path) -> None:
        image_processor = CLIPImageProcessor(
            size={"height": SIZE, "width": SIZE},
            do_center_crop=False,
            image_mean=MEAN,
            image_std=STD,
        )
        self.model.save_pretrained(out)
        GitProcessor(image_processor, self.tokenizer).save_pretrained(out)


MODELS: dict[str, type[Captioner]] = {"blip2": Blip2, "git": Git}


def blip2_images(side: int) -> BlipImageProcessor:
    """The image processor, which resizes to the tower's input of ``side`` pixels."""
    size = {"height": side, "width": side}
    return BlipImageProcessor(size=size, image_mean=MEAN, image_std=STD)


def blip2_vision(side: int) -> Blip2VisionConfig:
    """Configuration of a vision tower for images of ``side`` pixels that fits the CLIP-ViT."""
    return Blip2VisionConfig(
        image_size=side,
        patch_size=PATCH,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
    )


def start_blip2_vision(tower: torch.nn.Module, clip: dict[str, Tensor]) -> None:
    """Copies the weights of a trained CLIP-ViT's image tower to BLIP-2's."""
    own = tower.state_dict()
    names = {"embeddings.position_embedding": "positional_embedding"}
    for kind in ("weight", "bias"):
        names[f"encoder.layers.{{}}.self_attn.qkv.{kind}"] = f"attn.in_proj_{kind}"
        names[f"encoder.layers.{{}}.self_attn.projection.{kind}"] = f"attn.out_proj.{kind}"
    start_tower(own, clip, names)
    own["embeddings.patch_embedding.bias"].zero_()  # CLIP's convolution has none


def at_grid(positions: Tensor, count: int) -> Tensor:
    """Embeddings of a class token and a grid of patches (N, C), resampled to ``count`` in all."""
    old, new = math.isqrt(len(positions) - 1), math.isqrt(count - 1)
    grid = positions[1:].T.reshape(1, -1, old, old)
    resized = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], resized[0].flatten(1).T])


def start_tower(own: dict[str, Tensor], clip: dict[str, Tensor], names: dict[str, str]) -> None:
    """Copies the weights that transformers' vision towers share with open_clip's ViT.

    Args:
        own: The weights of the tower, modified in place.
        clip: The weights of the CLIP model.
        names: Further weights to copy, tower -> CLIP; ``{}`` in a name stands for each layer.
    """
    names = names | {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "post_layernorm.weight": "ln_post.weight",
        "post_layernorm.bias": "ln_post.bias",
        **{f"encoder.layers.{{}}.{ours}": theirs for ours, theirs in BLOCK.items()},
    }
    with torch.no_grad():
        for ours, theirs in names.items():
            if "{}" not in ours:
                given = clip[f"visual.{theirs}"]
                if theirs == "positional_embedding":
                    given = at_grid(given, own[ours].reshape(-1, WIDTH).shape[0])
                own[ours].copy_(given.reshape(own[ours].shape))
                continue
            for layer in range(LAYERS):
                block = f"visual.transformer.resblocks.{layer}.{theirs}"
                own[ours.format(layer)].copy_(clip[block])


class Nouns(torch.nn.Module):
    """Predicts the nouns in an image from a captioner's features."""

    def __init__(self, seen: dict[str, Tensor]) -> None:
        super().__init__()
        self.index = {noun: i for i, noun in enumerate(texts.VOCABULARY["nouns"])}
        self.heads = torch.nn.ModuleDict(
            {name: torch.nn.Linear(x.shape[1], len(self.index)) for name, x in seen.items()}
        )

    def forward(self, seen: dict[str, Tensor], shown: list[list[str]]) -> Tensor:
        """Cross-entropy with the nouns shown, with equal probabilities if there are several."""
        target = torch.zeros(len(shown), len(self.index))
        for row, nouns in zip(target, shown, strict=True):
            row[[self.index[noun] for noun in nouns]] = 1 / len(nouns)
        losses = [F.cross_entropy(head(seen[name]), target) for name, head in self.heads.items()]
        return sum(losses) / len(losses)


def draw(
    pool: crops.Pool, size: int, batch: int, scenes: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[str], list[list[str]]]:
    """Images (B, S, S, 3), the last of them ``scenes``; their captions, and the nouns they show."""
    images, things = pool.crops(batch - scenes, size, rng)
    captions = [texts.noun_phrase(thing, rng, plain=rng.random() < 0.7) for thing in things]
    shown = [[thing["noun"]] for thing in things]
    wholes, held = pool.wholes(scenes, size, rng)
    captions += [texts.scene_caption(objects, rng, plain=True) for objects in held]
    shown += [sorted({thing["noun"] for thing in objects}) for objects in held]
    return np.concatenate([images, wholes]), captions, shown


def learn(captioner: Captioner, args: argparse.Namespace) -> None:
    """Trains until time is up; resumes from ``<out>/state.pt``."""
    model, size = captioner.model, captioner.size
    with torch.no_grad():
        seen = captioner.read(torch.zeros(1, 3, size, size), ["a cat"]).seen
    nouns = Nouns(seen)
    learning = [*model.parameters(), *nouns.parameters()]
    optimizer = training.Optimizers(torch.nn.ModuleList([model, nouns]), args.rate, decay=0.05)
    parts = {"model": model, "nouns": nouns, "optimizer": optimizer}
    spent, step = training.load_state(args.out / "state.pt", **parts)
    pool = crops.Pool(args.pool, args.scenes, BARS)
    history: list[tuple[Tensor, ...]] = []
    clock, saved = training.Clock(spent), time.monotonic()
    model.train()
    scenes = round(args.batch * args.wholes)
    drawn = partial(draw, pool, size, args.batch, scenes)
    for images, captions, shown in crops.ahead(drawn, args.seed + step, args.workers):
        training.set_rate(optimizer, args.rate, step, 200, spent / args.minutes)
        read = captioner.read(training.to_tensor(images), captions)
        asked = nouns(read.seen, shown)
        optimizer.zero_grad()
        (read.loss + asked).backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        right = ((read.guess == read.aim) & (read.aim >= 0)).sum() / (read.aim >= 0).sum()
        history.append((read.loss.detach(), right, asked.detach()))
        step += 1
        spent = clock.minutes()
        if step % 100 == 0:
            loss, right, found = training.means(history)
            training.log(args.out, step, spent, loss=loss, right=right, nouns=found)
        if time.monotonic() - saved > 120 or spent >= args.minutes:
            saved = time.monotonic()
            training.save_state(args.out / "state.pt", spent, step, **parts)
        if spent >= args.minutes:
            return


def main() -> None:
    parser = training.arguments(__doc__, minutes=35, batch=64)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to start from")
    parser.add_argument("--vision-from", type=Path, help="folder of a CLIP-ViT's checkpoint")
    parser.add_argument("--wholes", type=float, default=0.35, help="share of whole scenes")
    args = training.parsed(parser)
    captioner = MODELS[args.model]()
    if args.start:
        training.start_from(captioner.model, args.start, captioner.tokenizer)
    if args.vision_from:
        weights = load_file(args.vision_from / "open_clip_model.safetensors")
        captioner.start_vision({name: value.float() for name, value in weights.items()})
    learn(captioner, args)


if __name__ == "__main__":
    main()
