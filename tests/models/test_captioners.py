"""Captioners by name: the embedded BLIP-2, and any image-to-text model of transformers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tasnb.datasets.images import load_image
from tasnb.models.captioners import load_captioner
from tasnb.models.checkpoints import model_digest
from tasnb.settings import InputError, make_settings

CHECKPOINTS = make_settings().data / "embedded" / "checkpoints"
IMAGES = make_settings().data / "embedded" / "images"


@pytest.mark.parametrize("name", [make_settings().captioner, make_settings().other_captioner])
def test_the_embedded_captioners(name: str) -> None:
    """A caption each, in order, whatever the batch."""
    images = [load_image(IMAGES / f"{k:06d}.jpg") for k in (1, 2, 3)]
    captioner = load_captioner(make_settings(captioner=name))
    whole = captioner.caption(images)
    assert len(whole) == 3 and all(whole)
    assert load_captioner(make_settings(captioner=name, batch_size=1)).caption(images) == whole
    assert captioner.caption([]) == []


def test_eight_bits_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tasnb.models import captioners

    settings = make_settings(captioner="blip2-8bit:embedded/blip2")
    monkeypatch.setattr(captioners, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs `pip install bitsandbytes accelerate`; blip2:emb"):
        load_captioner(settings)
    monkeypatch.setattr(captioners, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="blip2-8bit:embedded/blip2 needs a GPU; blip2:embedded"):
        load_captioner(settings)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    options = captioners._eight_bits("blip2-8bit:embedded/blip2")
    assert options["quantization_config"].load_in_8bit and options["dtype"] == torch.float16


@pytest.fixture(scope="module")
def tiny_git(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GIT of transformers' own class with the embedded tokenizer, as a hub has it."""
    import torch
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessor,
        GitConfig,
        GitForCausalLM,
        GitProcessor,
        GitVisionConfig,
    )

    folder = tmp_path_factory.mktemp("hub") / "git"
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "blip2")
    vision = GitVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=16,
    )  # fmt: skip
    torch.manual_seed(0)
    config = GitConfig(
        vision_config=vision.to_dict(), vocab_size=len(tokenizer), hidden_size=16,
        num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    GitForCausalLM(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(size=size, crop_size=size)
    GitProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def test_a_model_of_another_family(tiny_git: Path) -> None:
    settings = make_settings(captioner=f"hf:{tiny_git}", max_new_tokens=4)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 30, 3), dtype=np.uint8) for _ in range(3)]
    captioner = load_captioner(settings)
    assert type(captioner.model).__name__ == "GitForCausalLM"
    texts = captioner.caption(images)
    assert len(texts) == 3 and all(isinstance(text, str) for text in texts)


def test_a_folders_digest_is_that_of_its_files(tiny_git: Path, tmp_path: Path) -> None:
    copy = tmp_path / "git"
    shutil.copytree(tiny_git, copy)
    name = f"hf:{copy}"
    first = model_digest(name, make_settings())
    (copy / "config.json").write_text("{}")
    assert model_digest(name, make_settings()) != first


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:nobody/nothing", "cannot load hf:nobody/nothing"),
        ("blip2:nobody/nothing", "cannot load blip2:nobody/nothing"),
        ("blip3:embedded/blip2", "unknown kind of captioner 'blip3': did you mean 'blip2'"),
        ("blip2:embedded/blip", "unknown checkpoint 'embedded/blip'"),
    ],
)
def test_unknown_names(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError) as error:
        load_captioner(make_settings(captioner=name))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
