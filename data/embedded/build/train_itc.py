"""Trains a tiny ALBEF or BLIP-2 (image-text contrast) for Table 7 on natural crops and scenes.

    python train_itc.py --model albef --pool /tmp/pool --out runs/train/albef \
        --images-from ../checkpoints/clip-vit --minutes 25

Works like ``train_clip.py``, with the same loss, and resumes from ``<out>/state.pt`` if it exists.
The image side starts from a finished training (ALBEF's from the CLIP-ViT, BLIP-2's from the
captioner), the text side from scratch. Half of the captions of crops are in other templates and
followed by other words, as in ``train_text.py``, so that the text tower learns to ignore these from
the start.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import texts
import torch
import torch.nn.functional as F
import train_captioner
import training
from safetensors.torch import load_file, save_file
from torch import Tensor
from train_clip import arguments, learn
from train_text import framed, neutral_words
from transformers import (
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    Blip2QFormerConfig,
)

from tasnb.models.albef import Albef

SIZE, WIDTH, DIM = train_captioner.SIZE, train_captioner.WIDTH, 128


class WithScale(torch.nn.Module):
    """A model with the temperature, which is needed for training only."""

    def __init__(self, towers: torch.nn.Module) -> None:
        super().__init__()
        self.towers = towers
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))


class Contrast:
    """What both models share: tokenization, captions and temperature."""

    size = SIZE

    def __init__(self, towers: torch.nn.Module) -> None:
        self.model = WithScale(towers)
        self.logit_scale = self.model.logit_scale
        self.words = neutral_words()

    def tokens(self, captions: list[str]) -> dict[str, Tensor]:
        words = training.tokens(self.tokenizer, captions)
        return {"input_ids": words.input_ids, "attention_mask": words.attention_mask}

    def caption(self, thing: dict, rng: np.random.Generator) -> str:
        if rng.random() < 0.5:
            return texts.region_caption(thing, rng)
        return framed(texts.noun_phrase(thing, rng), texts.noun_phrase(thing, rng), self.words, rng)


class AlbefPair(Contrast):
    """ALBEF: compares the class tokens of a ViT and a BERT."""

    def __init__(self) -> None:
        self.tokenizer = texts.build_tokenizer(context_length=32)
        self.config = {
            "image_size": SIZE,
            "patch_size": train_captioner.PATCH,
            "width": WIDTH,
            "depth": train_captioner.LAYERS,
            "heads": train_captioner.HEADS,
            "text_width": WIDTH,
            "text_depth": 2,
            "text_heads": 4,
            "vocabulary": len(self.tokenizer),
            "positions": 32,
            "embed_dim": DIM,
            "mean": train_captioner.MEAN,
            "std": train_captioner.STD,
        }
        super().__init__(Albef(self.config))
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0

    def start_from(self, clip: dict[str, Tensor]) -> None:
        """Initialises the image tower with that of the trained CLIP-ViT."""
        tower = self.model.towers.visual_encoder
        names = {
            "cls_token": "class_embedding",
            "pos_embed": "positional_embedding",
            "patch_embed.proj.weight": "conv1.weight",
            "norm.weight": "ln_post.weight",
            "norm.bias": "ln_post.bias",
        }
        for layer in range(train_captioner.LAYERS):
            for kind in ("weight", "bias"):
                for ours, theirs in {
                    "norm1.": "ln_1.",
                    "norm2.": "ln_2.",
                    "attn.qkv.": "attn.in_proj_",
                    "attn.proj.": "attn.out_proj.",
                    "mlp.fc1.": "mlp.c_fc.",
                    "mlp.fc2.": "mlp.c_proj.",
                }.items():
                    block = f"transformer.resblocks.{layer}.{theirs}{kind}"
                    names[f"blocks.{layer}.{ours}{kind}"] = block
        own = tower.state_dict()
        with torch.no_grad():
            for ours, theirs in names.items():
                own[ours].copy_(clip[f"visual.{theirs}"].reshape(own[ours].shape))
            own["patch_embed.proj.bias"].zero_()  # CLIP's convolution has none

    def save(self, out: Path) -> None:
        save_file(self.model.towers.state_dict(), out / "model.safetensors")
        (out / "config.json").write_text(json.dumps(self.config, indent=1) + "\n")
        self.tokenizer.save_pretrained(out)

    def images(self, pixels: Tensor) -> Tensor:
        return self.model.towers.encode_images(pixels)

    def texts(self, captions: list[str]) -> Tensor:
        return F.normalize(self.model.towers.encode_texts(**self.tokens(captions)), dim=-1)


class Blip2Pair(Contrast):
    """BLIP-2: compares its queries, after reading the image, with the first token of the text."""

    def __init__(self) -> None:
        self.tokenizer = texts.build_tokenizer(context_length=32)
        config = Blip2Config(
            vision_config=train_captioner.blip2_vision(SIZE),
            qformer_config=Blip2QFormerConfig(
                vocab_size=len(self.tokenizer),
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=2,
                num_attention_heads=train_captioner.HEADS,
                encoder_hidden_size=WIDTH,
                cross_attention_frequency=1,
                max_position_embeddings=32,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                pad_token_id=self.tokenizer.pad_token_id,
                use_qformer_text_input=True,
            ),
            image_text_hidden_size=DIM,
            num_query_tokens=train_captioner.QUERIES,
            image_token_index=None,
        )
        super().__init__(Blip2ForImageTextRetrieval(config))
        torch.nn.init.normal_(self.model.towers.query_tokens, std=0.5)

    def start_from(self, trained: dict[str, Tensor]) -> None:
        """Initialises the image side with the trained captioner's; the text side stays random."""
        own, positions = (
            self.model.towers.state_dict(),
            "vision_model.embeddings.position_embedding",
        )
        given = train_captioner.at_grid(trained[positions][0], own[positions].shape[1])[None]
        side = {k: v for k, v in trained.items() if k in own and v.shape == own[k].shape}
        self.model.towers.load_state_dict({**side, positions: given}, strict=False)

    def save(self, out: Path) -> None:
        self.model.towers.save_pretrained(out)
        Blip2Processor(train_captioner.blip2_images(SIZE), self.tokenizer).save_pretrained(out)

    def images(self, pixels: Tensor) -> Tensor:
        model = self.model.towers
        patches = model.vision_model(pixel_values=pixels).last_hidden_state
        queries = model.query_tokens.expand(len(patches), -1, -1)
        seen = model.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
        return F.normalize(model.vision_projection(seen), dim=-1)

    def texts(self, captions: list[str]) -> Tensor:
        model, tokens = self.model.towers, self.tokens(captions)
        words = model.embeddings(input_ids=tokens["input_ids"])
        read = model.qformer(
            query_embeds=words, query_length=0, attention_mask=tokens["attention_mask"]
        ).last_hidden_state
        return F.normalize(model.text_projection(read[:, 0]), dim=-1)


PAIRS = {"albef": AlbefPair, "blip2-itc": Blip2Pair}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", choices=PAIRS, required=True)
    parser.add_argument("--start", type=Path, help="folder of a checkpoint to start from")
    parser.add_argument("--images-from", type=Path, help="folder of a checkpoint of images' towers")
    args = training.parsed(parser)
    pair = PAIRS[args.model]()
    if args.start:
        training.start_from(pair.model.towers, args.start, pair.tokenizer)
    if args.images_from:
        (path,) = args.images_from.glob("*.safetensors")
        pair.start_from({name: value.float() for name, value in load_file(path).items()})
    learn(pair, args)


if __name__ == "__main__":
    main()
