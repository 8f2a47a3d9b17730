"""Trains the tiny BLIP-2 captioner of the embedded profile on natural crops and whole scenes.

    python train_blip2.py --pool /tmp/pool --out runs/train/blip2 --minutes 35

Goes on from ``<out>/state.pt`` when it is there. The vision tower starts from the trained CLIP-ViT,
as the real one starts from a CLIP; Q-Former and language model start from nothing, so two linear
heads, thrown away afterwards, ask the vision tower and the queries which nouns the picture shows.
Captions are of the form "a red car" for crops and "a red car, a woman running and a tree" for
scenes.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import crops
import numpy as np
import texts
import torch
import torch.nn.functional as F
import training
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    OPTConfig,
    PreTrainedTokenizerFast,
)

SIZE, QUERIES = 84, 8
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def build() -> tuple[Blip2ForConditionalGeneration, PreTrainedTokenizerFast]:
    """The model with random weights and its tokenizer."""
    tokenizer = texts.build_tokenizer(context_length=48)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    width = 128
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            image_size=SIZE,
            patch_size=12,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=4,
            num_attention_heads=4,
        ),
        qformer_config=Blip2QFormerConfig(
            vocab_size=4,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            encoder_hidden_size=width,
            cross_attention_frequency=1,
            max_position_embeddings=4,
        ),
        text_config=OPTConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            word_embed_proj_dim=width,
            ffn_dim=4 * width,
            num_hidden_layers=3,
            num_attention_heads=4,
            dropout=0.0,
            max_position_embeddings=64,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens, std=0.5)  # zeros would stay equal for ever
    return model, tokenizer


def start_vision(model: Blip2ForConditionalGeneration, clip: dict[str, torch.Tensor]) -> None:
    """Puts the image tower of a trained CLIP-ViT into BLIP-2's vision tower, weight by weight."""
    names = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.position_embedding": "positional_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "post_layernorm.weight": "ln_post.weight",
        "post_layernorm.bias": "ln_post.bias",
    }
    parts = {
        "self_attn.qkv.weight": "attn.in_proj_weight",
        "self_attn.qkv.bias": "attn.in_proj_bias",
        "self_attn.projection.weight": "attn.out_proj.weight",
        "self_attn.projection.bias": "attn.out_proj.bias",
        "layer_norm1.weight": "ln_1.weight",
        "layer_norm1.bias": "ln_1.bias",
        "layer_norm2.weight": "ln_2.weight",
        "layer_norm2.bias": "ln_2.bias",
        "mlp.fc1.weight": "mlp.c_fc.weight",
        "mlp.fc1.bias": "mlp.c_fc.bias",
        "mlp.fc2.weight": "mlp.c_proj.weight",
        "mlp.fc2.bias": "mlp.c_proj.bias",
    }
    tower = model.vision_model
    for layer in range(len(tower.encoder.layers)):
        names |= {
            f"encoder.layers.{layer}.{ours}": f"transformer.resblocks.{layer}.{theirs}"
            for ours, theirs in parts.items()
        }
    own = tower.state_dict()
    with torch.no_grad():
        for ours, theirs in names.items():
            own[ours].copy_(clip[f"visual.{theirs}"].reshape(own[ours].shape))
        own["embeddings.patch_embedding.bias"].zero_()  # CLIP's convolution has none


def save(
    model: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, out: Path
) -> None:
    """Writes what ``AutoProcessor`` and ``from_pretrained`` read."""
    image_processor = BlipImageProcessor(
        size={"height": SIZE, "width": SIZE}, image_mean=MEAN, image_std=STD
    )
    model.save_pretrained(out)
    Blip2Processor(image_processor, tokenizer, num_query_tokens=QUERIES).save_pretrained(out)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


class Nouns(torch.nn.Module):
    """Which nouns a picture shows, asked of the vision tower and of the queries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.index = {noun: i for i, noun in enumerate(texts.VOCABULARY["nouns"])}
        self.of_vision = torch.nn.Linear(width, len(self.index))
        self.of_queries = torch.nn.Linear(QUERIES * width, len(self.index))

    def forward(self, out, shown: list[list[str]]) -> torch.Tensor:
        """Cross-entropy against the nouns shown, equally likely where there are several."""
        target = torch.zeros(len(shown), len(self.index))
        for row, nouns in zip(target, shown, strict=True):
            row[[self.index[noun] for noun in nouns]] = 1 / len(nouns)
        vision = self.of_vision(out.vision_outputs.last_hidden_state.mean(1))
        queries = self.of_queries(out.qformer_outputs.last_hidden_state.flatten(1))
        return (F.cross_entropy(vision, target) + F.cross_entropy(queries, target)) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="a checkpoint's folder to go on from")
    parser.add_argument("--vision-from", type=Path, help="folder of a finished CLIP-ViT training")
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--scenes", type=int, default=9000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    model, tokenizer = build()
    if args.start:
        model = Blip2ForConditionalGeneration.from_pretrained(args.start, dtype="float32")
    if args.vision_from:
        trained = torch.load(args.vision_from / "state.pt", weights_only=True)["model"]
        start_vision(model, trained)
    nouns = Nouns(model.config.qformer_config.hidden_size)
    learning = [*model.parameters(), *nouns.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=args.rate, weight_decay=0.05, betas=(0.9, 0.98))
    spent, step = 0.0, 0
    state_path = args.out / "state.pt"
    if state_path.is_file():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        nouns.load_state_dict(state["nouns"])
        optimizer.load_state_dict(state["optimizer"])
        spent, step = state["spent"], state["step"]
        rng = np.random.default_rng(args.seed + step)
    stored, things, wholes, held = crops.load(args.pool, args.scenes)
    images_before = torch.full((args.batch, QUERIES), model.config.image_token_index)
    history: list[tuple[float, float, float]] = []
    start, saved = time.monotonic() - 60 * spent, time.monotonic()
    scenes_in_batch = args.batch // 4
    model.train()
    while spent < args.minutes:
        warm = min(1.0, (step + 1) / 200)
        rate = (
            args.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * spent / args.minutes)))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        pick = np.sort(rng.integers(0, len(stored), args.batch - scenes_in_batch))
        images = crops.augment(stored[pick], SIZE, rng)
        captions = [texts.noun_phrase(things[i], rng, plain=rng.random() < 0.7) for i in pick]
        shown = [[things[i]["noun"]] for i in pick]
        pick = np.sort(rng.integers(0, len(wholes), scenes_in_batch))
        shown += [sorted({thing["noun"] for thing in held[i]["objects"]}) for i in pick]
        images = np.concatenate([images, crops.augment(wholes[pick], SIZE, rng, least=0.96)])
        captions += [
            texts.scene_caption(held[i]["objects"], held[i]["shares"], rng, plain=True)
            for i in pick
        ]
        words = tokenizer(captions, padding=True, return_tensors="pt")
        ids = torch.cat([images_before, words.input_ids], 1)
        mask = torch.cat([torch.ones_like(images_before), words.attention_mask], 1)
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, : QUERIES + 1] = -100  # neither the image nor the start is to be predicted
        out = model(
            pixel_values=to_tensor(images), input_ids=ids, attention_mask=mask, labels=labels
        )
        asked = nouns(out, shown)
        optimizer.zero_grad()
        (out.loss + asked).backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        with torch.no_grad():
            guess = out.logits[:, -ids.shape[1] :][:, :-1].argmax(-1)
            aim = labels[:, 1:]
            right = ((guess == aim) & (aim >= 0)).sum() / (aim >= 0).sum()
        history.append((out.loss.item(), right.item(), asked.item()))
        step += 1
        spent = (time.monotonic() - start) / 60
        if step % 100 == 0:
            loss, right, found = np.mean(history, 0)
            history.clear()
            training.log(args.out, step, spent, loss=loss, right=right, nouns=found)
        if time.monotonic() - saved > 120 or spent >= args.minutes:
            saved = time.monotonic()
            training.save_state(
                state_path, spent, step, model=model, nouns=nouns, optimizer=optimizer
            )
    save(model, tokenizer, args.out / "model")


if __name__ == "__main__":
    main()
