"""Image-text encoders E_v and E_t: CLIP, or any other of its kind (section 3.3)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tasnb.checkpoints import checkpoint_folder, is_elsewhere, loading, registered
from tasnb.settings import ROOT, Settings, unknown

Embeddings = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Two towers into one space."""

    def encode_images(self, images: Sequence[npt.NDArray[np.uint8]]) -> Embeddings:
        """E_v: unit vectors (N, D) of RGB images (H, W, 3)."""

    def encode_texts(self, texts: Sequence[str], normalize: bool = True) -> Embeddings:
        """E_t: vectors (N, D) of texts, of unit length if ``normalize``."""

    def warn_of_cuts(self, texts: Sequence[str]) -> None:
        """Warns of every text that is longer than the text tower reads."""


class OpenClip:
    """A model of open_clip, with its own preprocessing and tokenizer."""

    def __init__(self, name: str, settings: Settings) -> None:
        import open_clip

        if is_elsewhere(name):
            architecture, options = _hub_model(name)
        else:
            architecture, options = f"local-dir:{checkpoint_folder(name, settings)}", {}
        instead = "a file of weights after the slash, or a tag of open_clip"
        with loading(name, instead, OSError, RuntimeError):
            model, _, self.preprocess = open_clip.create_model_and_transforms(
                architecture, **options
            )
        self.model = model.eval()
        logging.getLogger("transformers").setLevel(logging.ERROR)
        self.tokenizer = open_clip.get_tokenizer(architecture)
        self.batch_size = settings.batch_size

    def encode_images(self, images: Sequence[npt.NDArray[np.uint8]]) -> Embeddings:
        import torch
        from PIL import Image

        def encode(batch: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
            pixels = torch.stack([self.preprocess(Image.fromarray(image)) for image in batch])
            return self.model.encode_image(pixels, normalize=True)

        return self._batched(images, encode)

    def encode_texts(self, texts: Sequence[str], normalize: bool = True) -> Embeddings:
        self.warn_of_cuts(texts)
        return self._batched(
            texts, lambda batch: self.model.encode_text(self.tokenizer(list(batch)), normalize)
        )

    def _batched(self, items: Sequence, encode: Callable) -> Embeddings:
        import torch

        with torch.inference_mode():
            parts = [
                encode(items[start : start + self.batch_size]).numpy()
                for start in range(0, len(items), self.batch_size)
            ]
        width = self.model.text_projection.shape[-1]
        return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)

    def warn_of_cuts(self, texts: Sequence[str]) -> None:
        """Warns of every text that is longer than the text tower reads."""
        room = self.tokenizer.context_length - 2  # less the start and the end of a text
        inner = getattr(self.tokenizer, "tokenizer", None)
        for text in texts:
            ids = (
                inner(text, add_special_tokens=False)["input_ids"]
                if inner
                else self.tokenizer.encode(text)
            )
            if len(ids) > room:
                warnings.warn(
                    f"the text encoder reads {room} tokens; cut: {text[:60]!r} ({len(ids)} tokens)",
                    stacklevel=1,  # one place, so that Python prints the same cut once
                )


def _hub_model(name: str) -> tuple[str, dict[str, str]]:
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
    weights = ROOT / Path(tag).expanduser()
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not weights.is_file() and tag not in tags:
        raise unknown(f"weights of {architecture}", tag, [*tags, "or the path of a file"])
    return architecture, {"pretrained": str(weights) if weights.is_file() else tag}


ENCODERS: dict[str, Callable[[str, Settings], Encoder]] = {"open_clip": OpenClip}


@lru_cache(maxsize=4)
def load_encoder(name: str, settings: Settings) -> Encoder:
    """The encoder of a name such as ``"open_clip:embedded/clip-vit"``.

    Raises:
        InputError: The kind or the checkpoint is unknown.
    """
    return registered("encoder", name, ENCODERS)(name, settings)
