"""The floating-point operations and the memory of the public models, at their published sizes."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tasnb.bench.passes import Cost, Pass, bytes_of, empty, on_meta, one_pass
from tasnb.models.clip.towers import is_plain

if TYPE_CHECKING:
    from transformers import Blip2Config, Sam2Model

WORDS = 12
"""Tokens of a caption, as the longest beam has them: "two cats laying on a couch" has 7."""

TOKENS = 24
"""Tokens of an expression or a caption for the parser."""

CHAT = 40
"""Tokens of a chat's turns and of the prompt, besides those of the image."""

SAM2: dict[str, dict[str, Any]] = {
    "tiny": {},  # what transformers assumes
    "large": {
        "model_type": "sam2_hiera_det_model", "hidden_size": 144, "num_attention_heads": 2,
        "blocks_per_stage": [2, 6, 36, 4], "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16], "window_size_per_stage": [8, 4, 16, 8],
        "global_attention_blocks": [23, 33, 43],
    },
}  # fmt: skip
"""The image encoders of SAM 2 and 2.1, by size, for ``sam2``."""

QWEN = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151674,
}  # fmt: skip
"""The language model of InternVL3 1B, whose image tower is what transformers assumes."""


@lru_cache
def proposals(name: str, points: int) -> Cost | None:
    """Of one image by a proposal network; None if its sizes are not known here.

    Felzenszwalb's method is not a network and costs nothing here.

    Args:
        name: As in the settings.
        points: Number of points at which SAM is asked.
    """
    kind, _, rest = name.partition(":")
    if kind == "felzenszwalb":
        return Cost((), 0)
    if kind == "freesolo":
        from tasnb.models.freesolo import PUBLIC, FreeSolo

        network = on_meta(lambda: FreeSolo(PUBLIC))
        done = one_pass(network, lambda: network(empty(1, 3, 800, 1088)))
        return Cost(((done, 1.0),), bytes_of(network))
    if found := re.fullmatch(r"hf:facebook/sam2(?:\.1)?-hiera-(\w+)", name):
        return _sam2_proposals(found[1], points) if found[1] in SAM2 else None
    architecture = rest.partition("/")[0]
    if kind != "sam" or not architecture.startswith("vit_"):
        return None
    from segment_anything import sam_model_registry

    sam = on_meta(sam_model_registry[architecture])
    encoder, decoder = sam.image_encoder, sam.mask_decoder
    image = one_pass(encoder, lambda: encoder(empty(1, 3, 1024, 1024)))
    batch = min(points, 64)
    masks = one_pass(
        decoder,
        lambda: decoder(
            image_embeddings=empty(1, 256, 64, 64),
            image_pe=empty(1, 256, 64, 64),
            sparse_prompt_embeddings=empty(batch, 2, 256),
            dense_prompt_embeddings=empty(batch, 256, 64, 64),
            multimask_output=True,
        ),
    )
    return Cost(((image, 1.0), (masks, points / batch)), bytes_of(sam))


def sam2(size: str) -> Sam2Model:
    """SAM 2 for images, without weights; ``size`` is a key of ``SAM2``."""
    from transformers import Sam2Config, Sam2Model

    vision: dict[str, Any] = {"model_type": "sam2_vision_model"}
    if backbone := SAM2[size]:
        channels = backbone["embed_dim_per_stage"][::-1]
        vision |= {"backbone_config": backbone, "backbone_channel_list": channels}
    return on_meta(lambda: Sam2Model(Sam2Config(vision_config=vision)))


def _sam2_proposals(size: str, points: int) -> Cost:
    model = sam2(size)
    encoder, decoder = model.vision_encoder, model.mask_decoder
    image = one_pass(encoder, lambda: encoder(empty(1, 3, 1024, 1024)))
    batch = min(points, 64)
    masks = one_pass(
        decoder,
        lambda: decoder(
            image_embeddings=empty(1, 256, 64, 64),
            image_positional_embeddings=empty(1, 256, 64, 64),
            sparse_prompt_embeddings=empty(1, batch, 2, 256),
            dense_prompt_embeddings=empty(1, 256, 64, 64),
            multimask_output=True,
            high_resolution_features=[empty(1, 32, 256, 256), empty(1, 64, 128, 128)],
        ),
    )
    return Cost(((image, 1.0), (masks, points / batch)), bytes_of(model))


@lru_cache
def crops(name: str, batch: int) -> Cost | None:
    """Of the embedding of one masked image; None if the encoder's sizes are not known here."""
    kind, _, rest = name.partition(":")
    if kind == "open_clip":
        clip = _clip(rest.partition("/")[0])
        if clip is None:
            return None
        side = clip.visual.image_size
        side = side if isinstance(side, int) else side[0]
        done = one_pass(clip.visual, lambda: clip.encode_image(empty(batch, 3, side, side)))
        return Cost(((done, 1 / batch),), bytes_of(clip))
    if kind == "albef":
        from tasnb.models.albef import PUBLIC, Albef

        albef = on_meta(lambda: Albef({**PUBLIC, "image_size": 256}))
        tower = albef.visual_encoder
        done = one_pass(tower, lambda: albef.encode_images(empty(batch, 3, 256, 256)))
        return Cost(((done, 1 / batch),), bytes_of(albef))
    if kind == "blip2-itc":
        from transformers import Blip2ForImageTextRetrieval

        config = _blip2(qformer_config={"use_qformer_text_input": True, "vocab_size": 30523})
        model = on_meta(lambda: Blip2ForImageTextRetrieval(config))
        return Cost(_seen(model, batch), bytes_of(model))
    return None


@lru_cache
def texts(name: str, batch: int = 64) -> Cost | None:
    """Of the embedding of one text by an encoder of open_clip; None for others."""
    kind, _, rest = name.partition(":")
    clip = _clip(rest.partition("/")[0]) if kind == "open_clip" else None
    if clip is None:
        return None
    tokens = empty(batch, clip.context_length, dtype=torch.long)
    done = one_pass(clip, lambda: clip.encode_text(tokens))
    return Cost(((done, 1 / batch),), bytes_of(clip))


def has_maps(name: str) -> bool:
    """Whether the other methods of Table 1 can use an encoder's image tower."""
    kind, _, rest = name.partition(":")
    clip = _clip(rest.partition("/")[0]) if kind == "open_clip" else None
    return clip is not None and is_plain(clip.visual)


@lru_cache
def _clip(architecture: str) -> Any:
    """A model of open_clip; None if it is a checkpoint rather than an architecture."""
    import open_clip

    if architecture not in open_clip.list_models():
        return None
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # that it has no weights
    try:
        return open_clip.create_model(architecture, device="meta").eval()
    finally:
        logging.disable(level)


@lru_cache
def captions(name: str, batch: int, beams: int, half: bool) -> Cost | None:
    """Of one caption of ``WORDS`` tokens; None if the captioner's sizes are not known here.

    Args:
        batch: Images at a time, each with ``beams`` beams.
        half: Whether the weights have 16 bits, but for BLIP-2's Q-Former.
    """
    kind, _, rest = name.partition(":")
    if kind == "blip2" and rest.endswith("opt-2.7b"):
        return _blip2_caption(batch, beams, half)
    if name == "hf:OpenGVLab/InternVL3-1B-hf":
        return _internvl_caption(batch, beams, half)
    return _git_caption(batch, beams, half) if kind == "git" else None


@lru_cache
def parsing(name: str, batch: int = 64) -> Cost | None:
    """Of reading one text by a parser of spaCy that is a transformer; None for others."""
    if not name.endswith("_trf"):
        return None
    from transformers import RobertaConfig, RobertaModel

    model = on_meta(lambda: RobertaModel(RobertaConfig(), add_pooling_layer=False))
    tokens = empty(batch, TOKENS, dtype=torch.long)
    mask, places = _unmasked(batch, TOKENS, torch.float32)
    call = {"input_ids": tokens, "attention_mask": mask, "position_ids": places}
    done = one_pass(model, lambda: model(**call))
    return Cost(((done, 1 / batch),), bytes_of(model))


def _blip2(**changes: Any) -> Blip2Config:
    from transformers import Blip2Config

    return Blip2Config(num_query_tokens=32, image_text_hidden_size=256, **changes)


def _seen(model: nn.Module, batch: int) -> tuple[tuple[Pass, float], ...]:
    """BLIP-2's ViT and Q-Former on a batch of images."""
    vision, qformer = model.vision_model, model.qformer
    kind = next(vision.parameters()).dtype
    image = one_pass(vision, lambda: vision(empty(batch, 3, 224, 224, dtype=kind)))
    width = vision.config.hidden_size
    queries, seen = empty(batch, 32, 768), empty(batch, 257, width)
    asked = one_pass(qformer, lambda: qformer(query_embeds=queries, encoder_hidden_states=seen))
    return (image, 1 / batch), (asked, 1 / batch)


def _blip2_caption(batch: int, beams: int, half: bool) -> Cost:
    from transformers import Blip2ForConditionalGeneration, OPTConfig

    text = OPTConfig(
        hidden_size=2560, word_embed_proj_dim=2560, ffn_dim=10240, num_hidden_layers=32,
        num_attention_heads=32, vocab_size=50304, max_position_embeddings=2048,
    )  # fmt: skip
    model = on_meta(lambda: Blip2ForConditionalGeneration(_blip2(text_config=text)))
    if half:
        for part in (model.vision_model, model.language_model, model.language_projection):
            part.half()
    language, rows = model.language_model, batch * beams
    kind = next(language.parameters()).dtype
    read = _reading(language, rows, 33, 2560, kind)
    said = _reading(language, rows, 1, 2560, kind)
    said = _remembering(said, rows * (33 + WORDS) * 32 * 2560 * kind.itemsize)
    passes = (*_seen(model, batch), (read, 1 / batch), (said, (WORDS - 1) / batch))
    return Cost(passes, bytes_of(model))


def _internvl_caption(batch: int, beams: int, half: bool) -> Cost:
    """One tile per image, as with ``split_images`` off."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    config = InternVLConfig(text_config=QWEN, tie_word_embeddings=False)  # by the file's size
    model = on_meta(lambda: InternVLForConditionalGeneration(config))
    model = model.half() if half else model
    inner, language, text = model.model, model.model.language_model, model.config.text_config
    rows, kind = batch * beams, model.dtype  # it encodes an image once per beam
    length, wide = config.image_seq_length + CHAT, text.hidden_size
    eyes = nn.ModuleList([inner.vision_tower, inner.multi_modal_projector])
    pixels = empty(rows, 3, *config.vision_config.image_size, dtype=kind)
    seen = one_pass(eyes, lambda: inner.get_image_features(pixels))
    first, others = (
        _reading(language, rows, count, wide, kind, model.lm_head) for count in (length, 1)
    )
    heads = text.num_key_value_heads * wide // text.num_attention_heads
    kept = rows * (length + WORDS) * text.num_hidden_layers * heads * kind.itemsize
    others = _remembering(others, kept)
    passes = ((seen, 1 / batch), (first, 1 / batch), (others, (WORDS - 1) / batch))
    return Cost(passes, bytes_of(model))


def _remembering(one: Pass, size: float) -> Pass:
    """A pass beside the keys of earlier positions, of this size in all, and as many values."""
    return one._replace(peak=one.peak + 2 * size)


def _reading(
    language: nn.Module,
    rows: int,
    length: int,
    width: int,
    kind: torch.dtype,
    head: nn.Module | None = None,
) -> Pass:
    """A pass of a language model on so many positions, without earlier ones.

    Args:
        head: Turns the last position into the next word, if the model does not.
    """
    given = empty(rows, length, width, dtype=kind)
    mask, places = _unmasked(rows, length, kind)
    call = {"attention_mask": mask, "position_ids": places, "use_cache": False}
    if head is None:
        return one_pass(language, lambda: language(inputs_embeds=given, **call))
    # Of the embeddings of words, only some rows are read.
    parts = [part for name, part in language.named_children() if name != "embed_tokens"]
    read = nn.ModuleList([*parts, head])
    return one_pass(read, lambda: head(language(inputs_embeds=given, **call)[0][:, -1:]))


def _unmasked(rows: int, length: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """A mask for each pair of positions, and positions: both are used as they are, unread."""
    return empty(rows, 1, length, length, dtype=kind), empty(rows, length, dtype=torch.long)


def _git_caption(batch: int, beams: int, half: bool) -> Cost:
    from transformers import GitConfig, GitForCausalLM

    config = GitConfig()
    model = on_meta(lambda: GitForCausalLM(config))
    model = model.half() if half else model
    kind = next(model.parameters()).dtype
    rows = batch * beams  # GIT encodes an image once per beam
    pixels = empty(rows, 3, 224, 224, dtype=kind)
    vision, decoder = model.git.image_encoder, model.git.encoder
    image = one_pass(vision, lambda: vision(pixels))

    def step(length: int) -> Pass:
        hidden = empty(rows, length, config.hidden_size, dtype=kind)
        mask = empty(rows, 1, length, length, dtype=kind)
        return one_pass(
            nn.ModuleList([decoder, model.output]),
            lambda: model.output(decoder(hidden, attention_mask=mask)[0]),
        )

    first, others = step(198), step(1)  # 197 positions of the image, and the first token
    passes = ((image, 1 / batch), (first, 1 / batch), (others, (WORDS - 1) / batch))
    return Cost(passes, bytes_of(model))
