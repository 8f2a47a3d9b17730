"""Image-text encoders E_v and E_t: CLIP and similar models (section 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasnb.models.checkpoints import (
    checkpoint_folder,
    from_folder,
    is_elsewhere,
    load_weights,
    loading,
    model_source,
    placed,
    registered,
    resident_model,
)
from tasnb.models.devices import Batches, device, device_of
from tasnb.models.dual_encoders import BertTowers, Encoder, Pixels, Towers
from tasnb.models.processors import load_processor, pixels_of
from tasnb.settings import Settings, unknown

if TYPE_CHECKING:
    from torch import Tensor


class OpenClip(Towers):
    """An open_clip model, with its own preprocessing and tokenizer."""

    def __init__(self, name: str, settings: Settings) -> None:
        import open_clip

        if is_elsewhere(name):
            architecture, options = _hub_model(name, settings.data)
        else:
            architecture, options = f"local-dir:{checkpoint_folder(name, settings)}", {}
        instead = (
            "a weights file after the slash (convert OpenAI's own with `python -m tasnb convert`) "
            "or an open_clip tag (needs network access)"
        )
        with loading(name, instead), quiet():
            model, _, self.preprocess = open_clip.create_model_and_transforms(
                architecture, **options
            )
            self.tokenizer = _tokenizer(architecture)
        self.model = model.eval().to(device())
        logging.getLogger("transformers").setLevel(logging.ERROR)
        self.batches = Batches(settings.batch_size)
        self.room = self.tokenizer.context_length - 2

    def _images(self, images: Sequence[Pixels]) -> Tensor:
        import torch
        from PIL import Image

        pixels = torch.stack([self.preprocess(Image.fromarray(image)) for image in images])
        return self.model.encode_image(pixels.to(device_of(self.model)), normalize=True)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        return self.model.encode_text(self.tokenizer(list(texts)).to(device_of(self.model)))

    def _count_tokens(self, text: str) -> int:
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner:
            return len(inner(text, add_special_tokens=False)["input_ids"])
        return len(self.tokenizer.encode(text))


class Blip2Itc(BertTowers):
    """Image-text contrast of BLIP-2: an image has one vector per query of the Q-Former.

    Texts are processed as in LAVIS's ``blip2_image_text_matching``: lower-cased, with the
    punctuation that its ``blip_caption`` processor removes replaced by spaces (it keeps commas,
    apostrophes, question marks and hyphens), and truncated to 32 tokens. That processor's own limit
    of 50 words is never reached.
    """

    TOKENS = 32
    PUNCTUATION = str.maketrans(dict.fromkeys('.!"()*#:;~', " "))

    def __init__(self, name: str, settings: Settings) -> None:
        from transformers import Blip2ForImageTextRetrieval
        from transformers.utils import logging

        logging.disable_progress_bar()
        source = model_source(name, settings)
        instead = "a folder, or a BLIP-2 for retrieval on the hub (needs network access)"
        with loading(name, instead):
            processor = load_processor(source)
            model, info = Blip2ForImageTextRetrieval.from_pretrained(
                source, dtype="float32", weights_only=True, output_loading_info=True
            )
            if info["missing_keys"]:  # they would stay random, with just a warning
                lacking = min(info["missing_keys"])
                raise ValueError(f"weight {lacking} is missing: not a model for retrieval")
            if not model.config.qformer_config.use_qformer_text_input:  # as in old revisions
                raise ValueError("its config does not set use_qformer_text_input")
        self.model = model.eval().to(device())
        self.image_processor, self.tokenizer = processor.image_processor, processor.tokenizer
        self.batches = Batches(settings.batch_size)
        self.room = min(self.TOKENS, model.config.qformer_config.max_position_embeddings) - 2

    def _images(self, images: Sequence[Pixels]) -> Tensor:
        from torch.nn.functional import normalize

        model = self.model
        pixels = pixels_of(self.image_processor, images).to(device_of(model))
        patches = model.vision_model(pixels).last_hidden_state
        queries = model.query_tokens.expand(len(patches), -1, -1)
        seen = model.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
        return normalize(model.vision_projection(seen), dim=-1)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        # Without the processor, which would insert image placeholders before the text.
        words = self._words(texts)
        read = self.model.qformer(
            query_embeds=self.model.embeddings(input_ids=words.input_ids),
            query_length=0,
            attention_mask=words.attention_mask,
        )
        return self.model.text_projection(read.last_hidden_state[:, 0])


class AlbefItc(BertTowers):
    """Image-text contrast of ALBEF, from the authors' file or the workbook's own checkpoint.

    Texts are processed as in the authors' ``pre_caption``: lower-cased, with hyphens and slashes
    replaced by spaces and other punctuation removed, and truncated to 30 tokens, as in their
    training and evaluation. Its own limit of 30 words is never reached.
    """

    TOKENS = 30
    PUNCTUATION = str.maketrans("-/", "  ", ",.'!?\"()*#:;~")

    def __init__(self, name: str, settings: Settings) -> None:
        from transformers import AutoTokenizer, BertTokenizer

        from tasnb.models.albef import Albef, from_public

        where = Path(model_source(name, settings))
        with loading(name, "the ALBEF authors' file: `python -m tasnb fetch albef`"):
            if is_elsewhere(name):
                model = from_public(load_weights(where))
            else:
                model = from_folder(where, Albef)
        self.model = model.to(device())
        vocabulary = where.parent / "vocab.txt"
        beside = f"BERT's vocab.txt in {where.parent}, or network access"
        with loading("BERT's tokenizer", beside):
            if not is_elsewhere(name):
                self.tokenizer = AutoTokenizer.from_pretrained(where)
            elif vocabulary.is_file():
                self.tokenizer = BertTokenizer(str(vocabulary))
            else:
                self.tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
            known, words = self.model.config["vocabulary"], len(self.tokenizer)
            if words != known:
                raise ValueError(f"its vocabulary has {words} words, the model's {known}")
        self.batches = Batches(settings.batch_size)
        self.room = self.TOKENS - 2

    def _images(self, images: Sequence[Pixels]) -> Tensor:
        import torch
        from PIL import Image

        side, config = self.model.config["image_size"], self.model.config
        squares = [  # resized to a square without cropping, as in the authors' code
            np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
            for image in images
        ]
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
        return self.model.encode_images(((pixels - mean) / std).to(device_of(self.model)))

    def _texts(self, texts: Sequence[str]) -> Tensor:
        words = self._words(texts)
        return self.model.encode_texts(words.input_ids, words.attention_mask)


def _tokenizer(architecture: str) -> Any:
    """The tokenizer of an open_clip model, with or without network access.

    For some models, as SigLIP, it is in a repository without a config.json, which transformers asks
    for all the same. Offline, it cannot know that there is none, and fails.
    """
    import open_clip
    from transformers import PreTrainedConfig

    try:
        return open_clip.get_tokenizer(architecture)
    except OSError:
        return open_clip.get_tokenizer(architecture, config=PreTrainedConfig())


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps open_clip from logging errors that it also raises."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _hub_model(name: str, data: Path) -> tuple[str, dict[str, str]]:
    """Architecture and weights for a name such as ``"open_clip:ViT-B-32/openai"``.

    OpenAI's weights were trained with a different GELU from that of open_clip's plain
    configurations, with which open_clip just warns and returns different results. They are
    therefore loaded with the ``-quickgelu`` configurations.
    """
    import open_clip

    architecture, _, tag = name.partition(":")[2].partition("/")
    if tag == "openai" and f"{architecture}-quickgelu" in open_clip.list_models():
        architecture += "-quickgelu"
    if architecture not in open_clip.list_models():
        raise unknown("open_clip model", architecture, open_clip.list_models())
    weights = placed(tag, data)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not weights.is_file() and tag not in tags:
        raise unknown(f"weights for {architecture}", tag, [*tags, "or the path of a file"])
    return architecture, {"pretrained": str(weights) if weights.is_file() else tag}


ENCODERS: dict[str, Callable[[str, Settings], Encoder]] = {
    "open_clip": OpenClip,
    "blip2-itc": Blip2Itc,
    "albef": AlbefItc,
}


VERSIONS = {"blip2-itc": 2}
"""Kind -> version of its computation, part of the vectors' fingerprint; 1 if it is not listed. In
version 1 of blip2-itc, images were resized by torchvision, the rows of images 1, 3 or 4 pixels high
were taken for channels, and texts kept their punctuation and up to 512 tokens."""


def version_of(name: str) -> int:
    """The version in ``VERSIONS`` of an encoder such as ``"blip2-itc:embedded/blip2-itc"``."""
    return VERSIONS.get(name.partition(":")[0], 1)


def load_encoder(name: str, settings: Settings) -> Encoder:
    """The encoder with a name such as ``"open_clip:embedded/clip-vit"``.

    Raises:
        InputError: The kind or the checkpoint is unknown.
    """
    build = registered("encoder", name, ENCODERS)
    read = settings.only("data", "batch_size")
    return resident_model(name, read, lambda: build(name, read))
