"""ALBEF's two towers for image-text contrast (Table 7): timm's ViT and the lower half of a BERT.

Li et al. (2021) fuse the two towers in the upper six layers of BERT, which image-text contrast does
not use. `from_public` picks the weights that are needed from the published files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tasnb.models.checkpoints import fill

PUBLIC: dict[str, Any] = {
    "patch_size": 16,
    "width": 768,
    "depth": 12,
    "heads": 12,
    "text_width": 768,
    "text_depth": 6,
    "text_heads": 12,
    "vocabulary": 30522,
    "positions": 512,
    "embed_dim": 256,
    "mean": (0.48145466, 0.4578275, 0.40821073),  # CLIP's
    "std": (0.26862954, 0.26130258, 0.27577711),
}
"""Configuration of all published checkpoints, which differ in the image size only."""

UNUSED = re.compile(
    r"temp|(image|text|idx)_queue|queue_ptr|ptr_queue|itm_head\..*"
    r"|(visual_encoder|text_encoder|vision_proj|text_proj)_m\..*"  # the momentum copies
    r"|text_encoder\.cls\..*"  # masked language modelling
    r"|text_encoder\.(bert\.)?embeddings\.position_ids"
    r"|text_encoder\.(bert\.)?pooler\..*"
    r"|text_encoder\.(bert\.)?encoder\.layer\.([6-9]|1[01])\..*"  # fusion with the image
)
"""Keys of the public checkpoints that image-text contrast does not use."""


class Albef(nn.Module):
    """ALBEF's image and text towers, which share one embedding space.

    Args:
        config: The keys of ``PUBLIC``, and ``image_size``, the side of an image in pixels.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        from timm.models.vision_transformer import VisionTransformer
        from transformers import BertConfig, BertModel

        super().__init__()
        self.config = config
        self.visual_encoder = VisionTransformer(
            img_size=config["image_size"],
            patch_size=config["patch_size"],
            embed_dim=config["width"],
            depth=config["depth"],
            num_heads=config["heads"],
            num_classes=0,
            global_pool="",
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        self.text_encoder = BertModel(
            BertConfig(
                vocab_size=config["vocabulary"],
                hidden_size=config["text_width"],
                num_hidden_layers=config["text_depth"],
                num_attention_heads=config["text_heads"],
                intermediate_size=4 * config["text_width"],
                max_position_embeddings=config["positions"],
            ),
            add_pooling_layer=False,
        )
        self.vision_proj = nn.Linear(config["width"], config["embed_dim"])
        self.text_proj = nn.Linear(config["text_width"], config["embed_dim"])

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Unit vectors (B, D) for normalised images (B, 3, S, S)."""
        tokens = self.visual_encoder.forward_features(pixels)
        return F.normalize(self.vision_proj(tokens[:, 0]), dim=-1)

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors (B, D) for tokens (B, L), not normalised."""
        tokens = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        return self.text_proj(tokens.last_hidden_state[:, 0])


def from_public(weights: Mapping[str, Any]) -> Albef:
    """The towers with the weights of one of the authors' files (pre-training or retrieval).

    Args:
        weights: From ``checkpoints.load_weights``.

    Raises:
        KeyError: A weight is missing, or is not one of ALBEF's.
        ValueError: A weight has the wrong shape.
    """
    used = {
        re.sub(r"^text_encoder\.bert\.", "text_encoder.", key): value
        for key, value in weights.items()
        if not UNUSED.fullmatch(key)
    }
    if "visual_encoder.pos_embed" not in used:
        raise KeyError("no visual_encoder.pos_embed: not an ALBEF checkpoint")
    grid = round((used["visual_encoder.pos_embed"].shape[1] - 1) ** 0.5)
    model = Albef({**PUBLIC, "image_size": grid * PUBLIC["patch_size"]})
    fill(model, used)
    return model.eval()
