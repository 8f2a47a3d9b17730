"""Tiny mask-generation models of transformers' own classes, random, in the format of a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 64


def _save(folder: Path, model: Any, processor: Any) -> Path:
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def sam(folder: Path) -> Path:
    from transformers import (
        SamConfig,
        SamImageProcessor,
        SamMaskDecoderConfig,
        SamModel,
        SamProcessor,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    torch.manual_seed(0)
    vision = SamVisionConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=16,
        output_channels=16, window_size=2, global_attn_indexes=[1], mlp_dim=32, num_pos_feats=8,
    )  # fmt: skip
    prompt = SamPromptEncoderConfig(
        hidden_size=16, image_size=SIDE, patch_size=16, mask_input_channels=4
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2,
        iou_head_hidden_dim=16,
    )  # fmt: skip
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    processor = SamImageProcessor(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE},
        mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16},
    )  # fmt: skip
    return _save(folder, SamModel(config), SamProcessor(processor))


_NECK = {
    "fpn_hidden_size": 16,
    "backbone_feature_sizes": [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
}
_PROMPT = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
_DECODER = {
    "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "iou_head_hidden_dim": 16,
}  # fmt: skip
_HIERA = {
    "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE],
    "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
    "window_size_per_stage": [8, 4, 4, 4], "global_attention_blocks": [3],
    "num_attention_heads_per_stage": [1, 1, 2, 2],
}  # fmt: skip


def _squares() -> Any:
    from transformers import Sam2ImageProcessor

    square = {"height": SIDE, "width": SIDE}
    return Sam2ImageProcessor(size=square, mask_size={"height": 16, "width": 16})


def sam2(folder: Path) -> Path:
    """As the hub's repositories of SAM 2.1: the configuration and weights are those for videos."""
    from transformers import Sam2Processor, Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(0)
    vision = {
        "model_type": "sam2_vision_model", "backbone_config": _HIERA,
        "backbone_channel_list": [64, 32, 16, 8], **_NECK,
    }  # fmt: skip
    config = Sam2VideoConfig(
        vision_config=vision, prompt_encoder_config=_PROMPT, mask_decoder_config=_DECODER,
        image_size=SIDE, memory_attention_hidden_size=16, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=16, memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=16, memory_encoder_output_channels=4,
        mask_downsampler_embed_dim=16, memory_fuser_embed_dim=16, memory_fuser_num_layers=1,
        memory_fuser_intermediate_dim=16,
    )  # fmt: skip
    return _save(folder, Sam2VideoModel(config), Sam2Processor(_squares()))


def edgetam(folder: Path) -> Path:
    from transformers import EdgeTamConfig, EdgeTamModel, Sam2Processor

    torch.manual_seed(0)
    features = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    backbone = {
        "model_type": "timm_wrapper", "architecture": "repvit_m1", "model_args": features,
        "num_classes": 2, "label_names": ["0", "1"],
    }  # fmt: skip
    vision = {"model_type": "edgetam_vision_model", "backbone_config": backbone, **_NECK}
    config = EdgeTamConfig(
        vision_config=vision, prompt_encoder_config=_PROMPT, mask_decoder_config=_DECODER
    )
    return _save(folder, EdgeTamModel(config), Sam2Processor(_squares()))


NETWORKS = {"sam": sam, "sam2": sam2, "edgetam": edgetam}
