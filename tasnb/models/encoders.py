"""Image-text encoders E_v and E_t: CLIP, or any other of its kind (section 3.3)."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tasnb.models.checkpoints import (
    checkpoint_folder,
    from_folder,
    is_elsewhere,
    load_weights,
    loading,
    model_source,
    placed,
    registered,
)
from tasnb.models.devices import (
    Batches,
    device,
    device_of,
    few_at_a_time,
    resident,
    to_numpy,
)
from tasnb.settings import Settings, unknown
from tasnb.store.threads import in_one_thread

if TYPE_CHECKING:
    from torch import Tensor, nn

Embeddings = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Encoder(Protocol):
    """Two towers into one space."""

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """E_v: unit vectors of RGB images (H, W, 3): (N, D), or (N, Q, D) where a model has several
        of one image, the nearest of which counts (BLIP-2)."""

    def encode_texts(self, texts: Sequence[str], normalize: bool = True) -> Embeddings:
        """E_t: vectors (N, D) of texts, of unit length if ``normalize``."""

    def warn_of_cuts(self, texts: Sequence[str]) -> None:
        """Warns of every text that is longer than the text tower reads."""


class Towers(ABC):
    """What all encoders have in common; they differ in how a batch goes through each tower.

    Attributes:
        model: With both towers.
        batches: Images or texts at a time.
        room: Tokens of a text that are read, without its start and its end.
    """

    model: nn.Module
    batches: Batches
    room: int

    @cached_property
    def width(self) -> int:
        """D, found by asking: not every text tower has a projection to look it up from."""
        import torch

        with torch.inference_mode():
            return self._texts(["a"]).shape[-1]

    @in_one_thread
    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        return self._batched(images, self._images)

    @in_one_thread
    def encode_texts(self, texts: Sequence[str], normalize: bool = True) -> Embeddings:
        from torch.nn.functional import normalize as unit

        self.warn_of_cuts(texts)
        return self._batched(
            texts, lambda some: unit(self._texts(some), dim=-1) if normalize else self._texts(some)
        )

    @in_one_thread
    def warn_of_cuts(self, texts: Sequence[str]) -> None:
        for text in texts:
            count = self._count_tokens(text)
            if count > self.room:
                warnings.warn(
                    f"the text encoder reads {self.room} tokens; cut: {text[:60]!r} "
                    f"({count} tokens)",
                    stacklevel=1,  # one place, so that Python prints the same cut once
                )

    def _batched(self, items: Sequence[Any], encode: Callable[[Any], Tensor]) -> Embeddings:
        import torch

        with torch.inference_mode():
            parts = self.batches.run(items, lambda some: to_numpy(encode(some)))
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    @abstractmethod
    def _images(self, images: Sequence[Pixels]) -> Tensor:
        """Unit vectors of a batch."""

    @abstractmethod
    def _texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors of a batch, as they come out of the tower."""

    @abstractmethod
    def _count_tokens(self, text: str) -> int:
        """Of a text alone, without start and end."""


class OpenClip(Towers):
    """A model of open_clip, with its own preprocessing and tokenizer."""

    def __init__(self, name: str, settings: Settings) -> None:
        import open_clip

        if is_elsewhere(name):
            architecture, options = _hub_model(name, settings.data)
        else:
            architecture, options = f"local-dir:{checkpoint_folder(name, settings)}", {}
        instead = (
            "a file of weights after the slash (OpenAI's own after `python -m tasnb convert`) "
            "or a tag of open_clip with a network in reach"
        )
        with loading(name, instead), quiet():
            model, _, self.preprocess = open_clip.create_model_and_transforms(
                architecture, **options
            )
        self.model = model.eval().to(device())
        logging.getLogger("transformers").setLevel(logging.ERROR)
        self.tokenizer = open_clip.get_tokenizer(architecture)
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


class Blip2Itc(Towers):
    """Image-text contrast of BLIP-2: every image is as many vectors as the Q-Former has queries."""

    def __init__(self, name: str, settings: Settings) -> None:
        from transformers import AutoProcessor, Blip2ForImageTextRetrieval
        from transformers.utils import logging

        logging.disable_progress_bar()
        source = model_source(name, settings)
        instead = "a folder, or a BLIP-2 for retrieval of the hub with a network in reach"
        with loading(name, instead):
            processor = AutoProcessor.from_pretrained(source)
            model, info = Blip2ForImageTextRetrieval.from_pretrained(
                source, dtype="float32", output_loading_info=True
            )
            if info["missing_keys"]:  # else they would stay random, with a warning only
                raise ValueError(f"no weight {min(info['missing_keys'])}: not made for retrieval")
            if not model.config.qformer_config.use_qformer_text_input:  # as in old revisions
                raise ValueError("use_qformer_text_input is not in its config")
        self.model = model.eval().to(device())
        self.image_processor, self.tokenizer = processor.image_processor, processor.tokenizer
        self.batches = Batches(settings.batch_size)
        self.room = model.config.qformer_config.max_position_embeddings - 2

    def _images(self, images: Sequence[Pixels]) -> Tensor:
        import torch
        from torch.nn.functional import normalize

        model = self.model
        pixels = torch.cat(
            [
                self.image_processor(images=some, return_tensors="pt")["pixel_values"]
                for some in few_at_a_time(images)
            ]
        )
        patches = model.vision_model(pixels.to(device_of(model))).last_hidden_state
        queries = model.query_tokens.expand(len(patches), -1, -1)
        seen = model.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
        return normalize(model.vision_projection(seen), dim=-1)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        # Not through the processor, which puts places for an image before the text.
        words = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.room + 2,
            return_tensors="pt",
        ).to(device_of(self.model))
        read = self.model.qformer(
            query_embeds=self.model.embeddings(input_ids=words.input_ids),
            query_length=0,
            attention_mask=words.attention_mask,
        )
        return self.model.text_projection(read.last_hidden_state[:, 0])

    def _count_tokens(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])


class AlbefItc(Towers):
    """Image-text contrast of ALBEF: its authors' file, or the workbook's own checkpoint."""

    TOKENS = 30  # of a text, start and end included, as its authors train and test
    PUNCTUATION = str.maketrans("-/", "  ", ",.'!?\"()*#:;~")  # which it never saw

    def __init__(self, name: str, settings: Settings) -> None:
        from transformers import AutoTokenizer, BertTokenizer

        from tasnb.models.albef import Albef, from_public

        where = Path(model_source(name, settings))
        with loading(name, "a file of ALBEF's authors: `python -m tasnb fetch albef`"):
            if is_elsewhere(name):
                model = from_public(load_weights(where))
            else:
                model = from_folder(where, Albef)
        self.model = model.to(device())
        vocabulary = where.parent / "vocab.txt"
        beside = f"a network in reach, or put BERT's vocab.txt into {where.parent}"
        with loading("BERT's tokenizer", beside):
            if not is_elsewhere(name):
                self.tokenizer = AutoTokenizer.from_pretrained(where)
            elif vocabulary.is_file():
                self.tokenizer = BertTokenizer(str(vocabulary))
            else:
                self.tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
            known, words = self.model.config["vocabulary"], len(self.tokenizer)
            if words != known:
                raise ValueError(f"{words} words, the model knows {known}")
        self.batches = Batches(settings.batch_size)
        self.room = self.TOKENS - 2

    def _images(self, images: Sequence[Pixels]) -> Tensor:
        import torch
        from PIL import Image

        side, config = self.model.config["image_size"], self.model.config
        squares = [  # squashed, not cropped, as its authors do
            np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
            for image in images
        ]
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
        return self.model.encode_images(((pixels - mean) / std).to(device_of(self.model)))

    def _texts(self, texts: Sequence[str]) -> Tensor:
        words = self.tokenizer(
            [self._plain(text) for text in texts],
            padding=True,
            truncation=True,
            max_length=self.TOKENS,
            return_tensors="pt",
        ).to(device_of(self.model))
        return self.model.encode_texts(words.input_ids, words.attention_mask)

    def _count_tokens(self, text: str) -> int:
        return len(self.tokenizer(self._plain(text), add_special_tokens=False)["input_ids"])

    def _plain(self, text: str) -> str:
        return " ".join(text.lower().translate(self.PUNCTUATION).split())


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps open_clip from logging what it also raises."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _hub_model(name: str, data: Path) -> tuple[str, dict[str, str]]:
    """Architecture and weights of a name such as ``"open_clip:ViT-B-32/openai"``.

    OpenAI's weights were trained with another GELU than open_clip's plain configurations have; with
    those it only warns and then computes something else. So they get the ``-quickgelu`` ones.
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
        raise unknown(f"weights of {architecture}", tag, [*tags, "or the path of a file"])
    return architecture, {"pretrained": str(weights) if weights.is_file() else tag}


ENCODERS: dict[str, Callable[[str, Settings], Encoder]] = {
    "open_clip": OpenClip,
    "blip2-itc": Blip2Itc,
    "albef": AlbefItc,
}


def load_encoder(name: str, settings: Settings) -> Encoder:
    """The encoder of a name such as ``"open_clip:embedded/clip-vit"``.

    Raises:
        InputError: The kind or the checkpoint is unknown.
    """
    build = registered("encoder", name, ENCODERS)
    read = settings.only("data", "batch_size")
    return resident((name, read), lambda: build(name, read))
