"""Segment Anything's network: of any size, or with its authors' weights (section 3.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segment_anything import sam_model_registry
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from tasnb.models.checkpoints import fill, load_weights, loading, placed
from tasnb.settings import unknown


def build_sam(config: dict[str, Any]) -> Sam:
    """A ``Sam`` of any size, from the fields of an embedded checkpoint's ``config.json``."""
    size, patch, width = config["image_size"], config["patch_size"], config["prompt_width"]
    grid = size // patch
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=size,
            patch_size=patch,
            embed_dim=config["encoder_width"],
            depth=config["encoder_depth"],
            num_heads=config["encoder_heads"],
            out_chans=width,
            use_rel_pos=True,
            window_size=config["window_size"],
            global_attn_indexes=tuple(config["global_attention"]),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=width,
            image_embedding_size=(grid, grid),
            input_image_size=(size, size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=width,
            transformer=TwoWayTransformer(
                depth=config["decoder_depth"],
                embedding_dim=width,
                num_heads=config["decoder_heads"],
                mlp_dim=config["decoder_mlp"],
            ),
            iou_head_hidden_dim=config["iou_head_width"],
        ),
    )


PUBLIC_SAM = {  # the authors' files
    "vit_h": "sam_vit_h_4b8939.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_b": "sam_vit_b_01ec64.pth",
}


def public_sam(name: str, data: Path) -> Sam:
    """A ``Sam`` with its authors' weights, for "sam:vit_h" fetched once, or "sam:vit_h/FILE".

    Args:
        name: The model.
        data: The data folder; if the weights are in its ``checkpoints`` or in torch.hub's folder,
            nothing is fetched.

    Raises:
        InputError: There is no such model or file, or it cannot be fetched.
    """
    from tasnb.fetch import fetched_file

    architecture, _, given = name.partition(":")[2].partition("/")
    if architecture not in PUBLIC_SAM:
        raise unknown("model of Segment Anything", architecture, PUBLIC_SAM)
    item = f"sam-{architecture.replace('_', '-')}"
    path = placed(given, data) if given else fetched_file(item, data)
    with loading(name, f"sam:{architecture}/ and the path of {PUBLIC_SAM[architecture]}"):
        sam = sam_model_registry[architecture]()
        fill(sam, load_weights(path))
    return sam
