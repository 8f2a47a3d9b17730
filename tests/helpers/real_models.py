"""Models at their real size with random weights, written as they are published.

Tests cannot download weights. Instead, the real classes are built on the meta device, given random
weights, and written in the published layouts, with embedded tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_captioners
import torch
from freesolo_layout import published

from tasnb.bench import shapes
from tasnb.models import albef
from tasnb.models.sam import PUBLIC_SAM
from tasnb.settings import ROOT

OURS = ROOT / "data" / "embedded" / "checkpoints"


def random_weights(model: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Gives random weights to a model that was built on the meta device."""
    return random_values(model.state_dict(), dtype)


def random_values(sizes: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Small noise, and norms of 1."""
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(dtype) * 0.02
    found = {}
    for name, value in sizes.items():
        if not value.is_floating_point():
            continue
        count = value.numel()
        flat = noise.repeat(-(-count // len(noise)))[:count]
        is_scale = ("norm" in name.lower() and name.endswith("weight")) or "running_var" in name
        found[name] = (torch.ones(count, dtype=dtype) if is_scale else flat).reshape(value.shape)
    return found


def on_meta(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    with torch.device("meta"):
        return build()


def write_folder(
    folder: Path, config: Any, build: Callable[[], Any], dtype: torch.dtype, beside: str, side: int
) -> None:
    """Writes a transformers model: config, weights, and an embedded processor at its image size."""
    from safetensors.torch import save_file
    from transformers import AutoProcessor

    folder.mkdir()
    model = on_meta(build)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    tied = model.all_tied_weights_keys  # which are not in files
    weights = {k: v for k, v in random_weights(model, dtype).items() if k not in tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    processor = AutoProcessor.from_pretrained(OURS / beside)
    processor.image_processor.size = {"height": side, "width": side}
    if getattr(processor.image_processor, "crop_size", None):
        processor.image_processor.crop_size = {"height": side, "width": side}
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)  # in a file of its own, as it is published


def write_blip2(folder: Path) -> str:
    from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig

    text = OPTConfig(
        hidden_size=2560, word_embed_proj_dim=2560, ffn_dim=10240, num_hidden_layers=32,
        num_attention_heads=32, vocab_size=50304, max_position_embeddings=2048,
    )  # fmt: skip
    config = Blip2Config(text_config=text, num_query_tokens=32, image_token_index=50265)
    build = lambda: Blip2ForConditionalGeneration(config)  # noqa: E731
    write_folder(folder, config, build, torch.bfloat16, "blip2", 224)
    return f"blip2:{folder}"


def write_git(folder: Path) -> str:
    from transformers import GitConfig, GitForCausalLM

    config = GitConfig()
    write_folder(folder, config, lambda: GitForCausalLM(config), torch.float32, "git", 224)
    return f"git:{folder}"


def write_blip2_itc(folder: Path) -> str:
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    config = Blip2Config(
        qformer_config={"use_qformer_text_input": True, "vocab_size": 30523},
        image_text_hidden_size=256,
    )
    build = lambda: Blip2ForImageTextRetrieval(config)  # noqa: E731
    write_folder(folder, config, build, torch.float16, "blip2-itc", 224)
    return f"blip2-itc:{folder}"


def write_sam(size: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        from segment_anything import sam_model_registry

        folder.mkdir()
        model = on_meta(sam_model_registry[size])
        torch.save(random_weights(model, torch.float32), folder / PUBLIC_SAM[size])
        return f"sam:{size}/{folder / PUBLIC_SAM[size]}"

    return write


def write_hf_sam(folder: Path) -> str:
    from safetensors.torch import save_file
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    folder.mkdir()
    config = SamConfig()
    config.architectures = ["SamModel"]
    config.save_pretrained(folder)
    weights = random_weights(on_meta(lambda: SamModel(config)), torch.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    SamProcessor(SamImageProcessor()).save_pretrained(folder)
    return f"hf:{folder}"


def write_clip(architecture: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        import open_clip

        folder.mkdir()
        model = open_clip.create_model(architecture, device="meta")
        torch.save(random_weights(model, torch.float32), folder / "clip.pt")
        return f"open_clip:{architecture}/{folder / 'clip.pt'}"

    return write


def write_albef(folder: Path) -> str:
    folder.mkdir()
    model = on_meta(lambda: albef.Albef({**albef.PUBLIC, "image_size": 384}))
    weights = random_weights(model, torch.float32)
    inner = "text_encoder."
    weights = {k.replace(inner, f"{inner}bert.") if k.startswith(inner) else k: v
               for k, v in weights.items()}  # fmt: skip
    torch.save({"model": weights}, folder / "ALBEF.pth")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "left", "cat"]
    words += [f"[unused{i}]" for i in range(albef.PUBLIC["vocabulary"] - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words))
    return f"albef:{folder / 'ALBEF.pth'}"


def write_freesolo(folder: Path) -> str:
    folder.mkdir()
    sizes = {name: torch.empty(shape, device="meta") for name, shape in published().items()}
    torch.save({"model": random_values(sizes, torch.float32)}, folder / "FreeSOLO.pth")
    return f"freesolo:{folder / 'FreeSOLO.pth'}"


def write_transformers(folder: Path, model: Any, processor: Any, dtype: torch.dtype) -> str:
    """Writes a model from the meta device with a processor of its own size."""
    from safetensors.torch import save_file

    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tied = model.all_tied_weights_keys
    weights = {k: v for k, v in random_weights(model, dtype).items() if k not in tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)  # in a file of its own, as it is published
    return f"hf:{folder}"


def write_sam2(size: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        from transformers import Sam2ImageProcessor, Sam2Processor

        processor = Sam2Processor(Sam2ImageProcessor())
        return write_transformers(folder, shapes.sam2(size), processor, torch.float32)

    return write


def write_internvl(folder: Path) -> str:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    words = tiny_captioners.internvl_tokenizer()
    config = InternVLConfig(
        text_config={**shapes.QWEN, **tiny_captioners.ends(words)},
        image_token_id=words.context_image_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size={"height": 448, "width": 448}), words, InternVLVideoProcessor(),
        image_seq_length=256,
        chat_template=tiny_captioners.TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>"),
    )  # fmt: skip
    model = on_meta(lambda: InternVLForConditionalGeneration(config))
    return write_transformers(folder, model, processor, torch.bfloat16)


def write_clip_of_hub(architecture: str, *tokenizer: str) -> Callable[[Path], str]:
    """As in the repository from which open_clip loads it.

    Args:
        tokenizer: Files of a tokenizer there, if it is not the one that comes with open_clip.
    """

    def write(folder: Path) -> str:
        import open_clip
        from safetensors.torch import save_file
        from transformers import AutoTokenizer

        folder.mkdir()
        model = open_clip.create_model(architecture, device="meta")
        save_file(random_weights(model, torch.float32), folder / "open_clip_model.safetensors")
        if tokenizer:
            AutoTokenizer.from_pretrained(OURS / "blip2").save_pretrained(folder)
        for name in tokenizer:
            if not (folder / name).is_file():
                (folder / name).write_text("{}")
        return f"open_clip:{architecture}"

    return write
