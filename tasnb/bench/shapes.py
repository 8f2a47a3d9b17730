"""The floating-point operations and the memory of the public models, counted without weights.

Every network is built with its published sizes on torch's meta device, where tensors have shapes
but no content, and is passed once. One multiplication and addition counts as two operations.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from transformers import Blip2Config

WORDS = 12
"""Tokens of a caption, as the longest beam has them: "two cats laying on a couch" has 7."""

TOKENS = 24
"""Tokens of an expression or a caption for the parser."""


class Pass(NamedTuple):
    """One pass of a part of a model.

    Attributes:
        flop: Floating-point operations.
        read: Bytes of weights that it reads.
        peak: Bytes of intermediate results and outputs that are in memory together.
        half: Whether it computes in 16 bits.
    """

    flop: float
    read: float
    peak: float
    half: bool = False


class Cost(NamedTuple):
    """What one image, masked image or text costs.

    Attributes:
        passes: The passes, and the share of each that one item takes, as 1/16 in a batch of 16.
        weights: Bytes of all weights of the model.
    """

    passes: tuple[tuple[Pass, float], ...]
    weights: float

    @property
    def flop(self) -> float:
        return sum(one.flop * share for one, share in self.passes)

    @property
    def memory(self) -> float:
        """Bytes of the weights and of the largest pass."""
        return self.weights + max((one.peak for one, _ in self.passes), default=0)


class _Peak(TorchDispatchMode):
    """Follows the bytes of all tensors that are made inside it and still referred to.

    Args:
        apart: Tensors that do not count, nor do views of them.
    """

    def __init__(self, apart: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._apart = {tensor.untyped_storage()._cdata for tensor in apart}
        self.now = self.most = 0.0
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._follow(tensor)
        return out

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._apart:
            return
        if not self._users[key]:
            self.now += size
            self.most = max(self.most, self.now)
        self._users[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            self.now -= size


def one_pass(model: nn.Module, call: Callable[[], object]) -> Pass:
    """Counts a pass of a model, all of whose weights are read."""
    weights = list(model.parameters())
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), _Peak(weights) as peak, counter:
        call()
    half = all(w.element_size() == 2 for w in weights)
    return Pass(counter.get_total_flops(), _bytes(model), peak.most, half)


def _bytes(*models: nn.Module) -> float:
    kept = (tensor for model in models for tensor in (*model.parameters(), *model.buffers()))
    return float(sum(tensor.numel() * tensor.element_size() for tensor in kept))


def on_meta(build: Callable[[], Any]) -> Any:
    with torch.device("meta"):
        return build().eval()


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


# --- Models ---------------------------------------------------------------------------------------


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
        done = one_pass(network, lambda: network(_empty(1, 3, 800, 1088)))
        return Cost(((done, 1.0),), _bytes(network))
    architecture = rest.partition("/")[0]
    if kind != "sam" or not architecture.startswith("vit_"):
        return None
    from segment_anything import sam_model_registry

    sam = on_meta(sam_model_registry[architecture])
    encoder, decoder = sam.image_encoder, sam.mask_decoder
    image = one_pass(encoder, lambda: encoder(_empty(1, 3, 1024, 1024)))
    batch = min(points, 64)
    masks = one_pass(
        decoder,
        lambda: decoder(
            image_embeddings=_empty(1, 256, 64, 64),
            image_pe=_empty(1, 256, 64, 64),
            sparse_prompt_embeddings=_empty(batch, 2, 256),
            dense_prompt_embeddings=_empty(batch, 256, 64, 64),
            multimask_output=True,
        ),
    )
    return Cost(((image, 1.0), (masks, points / batch)), _bytes(sam))


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
        done = one_pass(clip.visual, lambda: clip.encode_image(_empty(batch, 3, side, side)))
        return Cost(((done, 1 / batch),), _bytes(clip))
    if kind == "albef":
        from tasnb.models.albef import PUBLIC, Albef

        albef = on_meta(lambda: Albef({**PUBLIC, "image_size": 256}))
        tower = albef.visual_encoder
        done = one_pass(tower, lambda: albef.encode_images(_empty(batch, 3, 256, 256)))
        return Cost(((done, 1 / batch),), _bytes(albef))
    if kind == "blip2-itc":
        from transformers import Blip2ForImageTextRetrieval

        config = _blip2(qformer_config={"use_qformer_text_input": True, "vocab_size": 30523})
        model = on_meta(lambda: Blip2ForImageTextRetrieval(config))
        return Cost(_seen(model, batch), _bytes(model))
    return None


@lru_cache
def texts(name: str, batch: int = 64) -> Cost | None:
    """Of the embedding of one text by an encoder of open_clip; None for others."""
    kind, _, rest = name.partition(":")
    clip = _clip(rest.partition("/")[0]) if kind == "open_clip" else None
    if clip is None:
        return None
    tokens = _empty(batch, clip.context_length, dtype=torch.long)
    done = one_pass(clip, lambda: clip.encode_text(tokens))
    return Cost(((done, 1 / batch),), _bytes(clip))


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
    return _git_caption(batch, beams, half) if kind == "git" else None


@lru_cache
def parsing(name: str, batch: int = 64) -> Cost | None:
    """Of reading one text by a parser of spaCy that is a transformer; None for others."""
    if not name.endswith("_trf"):
        return None
    from transformers import RobertaConfig, RobertaModel

    model = on_meta(lambda: RobertaModel(RobertaConfig(), add_pooling_layer=False))
    tokens = _empty(batch, TOKENS, dtype=torch.long)
    mask, places = _unmasked(batch, TOKENS, torch.float32)
    call = {"input_ids": tokens, "attention_mask": mask, "position_ids": places}
    done = one_pass(model, lambda: model(**call))
    return Cost(((done, 1 / batch),), _bytes(model))


def _blip2(**changes: Any) -> Blip2Config:
    from transformers import Blip2Config

    return Blip2Config(num_query_tokens=32, image_text_hidden_size=256, **changes)


def _seen(model: nn.Module, batch: int) -> tuple[tuple[Pass, float], ...]:
    """BLIP-2's ViT and Q-Former on a batch of images."""
    vision, qformer = model.vision_model, model.qformer
    kind = next(vision.parameters()).dtype
    image = one_pass(vision, lambda: vision(_empty(batch, 3, 224, 224, dtype=kind)))
    width = vision.config.hidden_size
    queries, seen = _empty(batch, 32, 768), _empty(batch, 257, width)
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
    # Keys and values of all positions: two per layer.
    kept = rows * (33 + WORDS) * 2 * 32 * 2560 * kind.itemsize
    said = said._replace(peak=said.peak + kept)
    passes = (*_seen(model, batch), (read, 1 / batch), (said, (WORDS - 1) / batch))
    return Cost(passes, _bytes(model))


def _reading(language: nn.Module, rows: int, length: int, width: int, kind: torch.dtype) -> Pass:
    """A pass of a language model on so many positions, without earlier ones."""
    given = _empty(rows, length, width, dtype=kind)
    mask, places = _unmasked(rows, length, kind)
    call = {"attention_mask": mask, "position_ids": places, "use_cache": False}
    return one_pass(language, lambda: language(inputs_embeds=given, **call))


def _unmasked(rows: int, length: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """A mask for each pair of positions, and positions: both are used as they are, unread."""
    return _empty(rows, 1, length, length, dtype=kind), _empty(rows, length, dtype=torch.long)


def _git_caption(batch: int, beams: int, half: bool) -> Cost:
    from transformers import GitConfig, GitForCausalLM

    config = GitConfig()
    model = on_meta(lambda: GitForCausalLM(config))
    model = model.half() if half else model
    kind = next(model.parameters()).dtype
    rows = batch * beams  # GIT encodes an image once per beam
    pixels = _empty(rows, 3, 224, 224, dtype=kind)
    vision, decoder = model.git.image_encoder, model.git.encoder
    image = one_pass(vision, lambda: vision(pixels))

    def step(length: int) -> Pass:
        hidden = _empty(rows, length, config.hidden_size, dtype=kind)
        mask = _empty(rows, 1, length, length, dtype=kind)
        return one_pass(
            nn.ModuleList([decoder, model.output]),
            lambda: model.output(decoder(hidden, attention_mask=mask)[0]),
        )

    first, others = step(198), step(1)  # 197 positions of the image, and the first token
    passes = ((image, 1 / batch), (first, 1 / batch), (others, (WORDS - 1) / batch))
    return Cost(passes, _bytes(model))
