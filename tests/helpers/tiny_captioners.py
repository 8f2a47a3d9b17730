"""Tiny captioners of transformers' own classes with random weights, in the format of a hub.

Each has the real processor of its family, with the embedded tokenizer and the family's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tasnb.settings import make_settings

TOKENIZER = make_settings().data / "embedded" / "checkpoints" / "blip2"

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""How most chat models frame a message, with IMAGE for a family's own token."""

TURNS = ("<|im_start|>", "<|im_end|>")


def tokenizer(*tokens: str, **named: str) -> Any:
    """The embedded tokenizer with further special tokens."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(TOKENIZER, extra_special_tokens=named)
    found.add_tokens([*tokens, *named.values()], special_tokens=True)
    return found


VISION = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip


def ends(words: Any) -> dict[str, int]:
    """The ids of a tokenizer's tokens for the beginning, the end and padding."""
    return {
        f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }


def language(words: Any) -> dict[str, Any]:
    """The text part of a chat model."""
    return {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(words), **ends(words),
    }  # fmt: skip


def save(folder: Path, model: Any, processor: Any) -> Path:
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(8)  # so that the answer depends on the image
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def internvl_tokenizer() -> Any:
    return tokenizer(
        *TURNS, start_image_token="<img>", end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>", video_token="<video>",
    )  # fmt: skip


def internvl(folder: Path) -> Path:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    words = internvl_tokenizer()
    torch.manual_seed(0)
    config = InternVLConfig(
        vision_config={**VISION, "image_size": [28, 28], "patch_size": [7, 7]},
        text_config={"model_type": "qwen2", **language(words)},
        image_token_id=words.context_image_token_id,
        image_seq_length=4,
    )  # fmt: skip
    pictures = GotOcr2ImageProcessor(size={"height": 28, "width": 28}, max_patches=6)
    processor = InternVLProcessor(
        pictures, words, InternVLVideoProcessor(size={"height": 28, "width": 28}),
        image_seq_length=4, chat_template=TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>"),
    )  # fmt: skip
    return save(folder, InternVLForConditionalGeneration(config), processor)


def smolvlm(folder: Path) -> Path:
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    words = tokenizer(
        *TURNS, *tiles, fake_image_token="<fake_token_around_image>", image_token="<image>",
        end_of_utterance_token="<end_of_utterance>", global_image_token="<global-img>",
    )  # fmt: skip
    torch.manual_seed(0)
    config = SmolVLMConfig(
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **language(words)},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )  # fmt: skip
    pictures = SmolVLMImageProcessor(
        size={"longest_edge": 128}, max_image_size={"longest_edge": 32}
    )
    processor = SmolVLMProcessor(
        pictures, words,
        SmolVLMVideoProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 32}),
        image_seq_len=4, chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )  # fmt: skip
    return save(folder, SmolVLMForConditionalGeneration(config), processor)


def qwen(folder: Path) -> Path:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    words = tokenizer(
        *TURNS, "<|vision_start|>", "<|vision_end|>", image_token="<|image_pad|>",
        video_token="<|video_pad|>",
    )  # fmt: skip
    torch.manual_seed(0)
    ids = words.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32,
            "patch_size": 7, "out_hidden_size": 32, "window_size": 28,
            "fullatt_block_indexes": [1],
        },
        text_config={
            **language(words),
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1],
            },
        },
        image_token_id=ids("<|image_pad|>"), video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"), vision_end_token_id=ids("<|vision_end|>"),
    )  # fmt: skip
    pictures = Qwen2VLImageProcessor(
        patch_size=7, size={"shortest_edge": 784, "longest_edge": 7840}
    )
    template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = Qwen2_5_VLProcessor(
        pictures, words, Qwen2VLVideoProcessor(patch_size=7), chat_template=template
    )
    return save(folder, Qwen2_5_VLForConditionalGeneration(config), processor)


def florence(folder: Path) -> Path:
    from transformers import (
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    words = tokenizer(image_token="<image>")
    torch.manual_seed(0)
    config = Florence2Config(
        vision_config={
            "depths": [1, 1], "embed_dim": [8, 16], "num_heads": [1, 2], "num_groups": [1, 2],
            "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1],
            "patch_prenorm": [False, True], "window_size": 2, "projection_dim": 16,
        },
        text_config={
            "model_type": "bart", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32, "vocab_size": len(words), "max_position_embeddings": 128,
            **ends(words), "decoder_start_token_id": words.eos_token_id,
            "forced_eos_token_id": words.eos_token_id,
        },
        image_token_id=words.image_token_id, is_encoder_decoder=True,
    )  # fmt: skip
    size = {"height": 32, "width": 32}
    pictures = CLIPImageProcessor(size=size, do_center_crop=False)
    pictures.image_seq_length = 17  # 4 x 4 patches of the last stage, and their mean
    return save(
        folder, Florence2ForConditionalGeneration(config), Florence2Processor(pictures, words)
    )


CHATS: dict[str, Callable[[Path], Path]] = {
    "internvl": internvl, "smolvlm": smolvlm, "qwen2_5_vl": qwen
}  # fmt: skip
