"""Captioners by name: the embedded BLIP-2, and any image-to-text model of transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub import HubSite, fetch_from, hub, with_hub
from safetensors.torch import load_file, save_file

from tasnb.datasets.images import load_image
from tasnb.fetch.sources import load_sources
from tasnb.method.stages import Stages
from tasnb.models import captioners
from tasnb.models.captioners import dtype_of, load_captioner
from tasnb.models.checkpoints import model_digest
from tasnb.models.devices import bytes_of, forget
from tasnb.settings import InputError, make_settings

__all__ = ["hub"]  # a fixture

CHECKPOINTS = make_settings().data / "embedded" / "checkpoints"
IMAGES = make_settings().data / "embedded" / "images"


@pytest.mark.parametrize("name", [make_settings().captioner, make_settings().other_captioner])
def test_the_embedded_captioners(name: str) -> None:
    """One caption per image, in order, whatever the batch size."""
    images = [load_image(IMAGES / f"{k:06d}.jpg") for k in (1, 2, 3)]
    captioner = load_captioner(make_settings(captioner=name))
    whole = captioner.caption(images)
    assert len(whole) == 3 and all(whole)
    assert load_captioner(make_settings(captioner=name, batch_size=1)).caption(images) == whole
    assert captioner.caption([]) == []


def test_eight_bits_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

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


def test_the_version_is_in_the_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages(make_settings())
    before = [stages._caption_stage(form).fingerprint for form in ("blur", "crop", "whole")]
    monkeypatch.setattr(captioners, "VERSION", captioners.VERSION - 1)
    after = [stages._caption_stage(form).fingerprint for form in ("blur", "crop", "whole")]
    assert len({*before, *after}) == 6


# --- precision


@pytest.mark.parametrize(
    ("precision", "where", "dtype"),
    [
        ("full", "cuda", "float32"), ("half", "cuda", "float16"), ("bfloat16", "cuda", "bfloat16"),
        ("full", "cpu", "float32"), ("half", "cpu", "float32"), ("bfloat16", "cpu", "bfloat16"),
    ],
)  # fmt: skip
def test_the_type_of_the_weights_is_the_devices(
    monkeypatch: pytest.MonkeyPatch, precision: str, where: str, dtype: str
) -> None:
    import torch

    monkeypatch.setattr(captioners, "device", lambda: torch.device(where))
    make_settings(precision=precision)
    assert dtype_of(precision) == getattr(torch, dtype)


@pytest.mark.slow
def test_half_precision_is_that_of_blip2s_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: float16 except for the Q-Former and its queries, with the same captions."""
    import torch

    images = [load_image(IMAGES / f"{k:06d}.jpg") for k in range(1, 9)]
    full = load_captioner(make_settings())
    expected, size = full.caption(images), bytes_of(full)
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(captioners, "dtype_of", lambda precision: torch.float16)
        half = load_captioner(make_settings(precision="half"))
    types = {
        name: {weight.dtype for weight in part.parameters()}
        for name, part in half.model.named_children()
    }
    assert types.pop("qformer") == {torch.float32} == {half.model.query_tokens.dtype}
    assert set(map(frozenset, types.values())) == {frozenset({torch.float16})}
    assert size / 2 < bytes_of(half) < size
    found = half.caption(images)
    forget()
    assert sum(a == b for a, b in zip(found, expected, strict=True)) >= 7


def test_sixteen_bits_by_name() -> None:
    full, half = make_settings(), make_settings(precision="bfloat16")
    assert bytes_of(load_captioner(half)) * 2 == bytes_of(load_captioner(full))
    assert all(load_captioner(half).caption([np.zeros((9, 9, 3), np.uint8)]))


# --- models in the format of a hub


@pytest.fixture(scope="module")
def tiny_git(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GIT of transformers' class with the embedded tokenizer, in the format of a hub."""
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


def test_an_image_may_be_of_any_height(tiny_git: Path) -> None:
    reds = [np.full((n, n, 3), (255, 0, 0), np.uint8) for n in (1, 3, 4, 5)]
    for name in (make_settings().captioner, f"git:{tiny_git}"):
        captions = load_captioner(make_settings(captioner=name)).caption(reds)
        assert len(set(captions)) == 1


CAPTION = """
import sys
import numpy as np
from tasnb.models.captioners import load_captioner
from tasnb.settings import make_settings
captioner = load_captioner(make_settings(captioner=sys.argv[1], max_new_tokens=4))
images = [np.full((n, 30, 3), 20 * n, np.uint8) for n in (3, 9)]
print(*captioner.caption(images), sep="\\n")
"""


def as_published(tiny_git: Path, folder: Path) -> dict[str, bytes]:
    """Converts its files to those of git-base-coco: a .bin, and the two halves of the processor."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(tiny_git)
    processor.image_processor.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    shutil.copy(tiny_git / "config.json", folder)
    torch.save(load_file(tiny_git / "model.safetensors"), folder / "pytorch_model.bin")
    assert (folder / "preprocessor_config.json").is_file()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_public_git_is_fetched_and_read_from_its_bin(
    hub: HubSite, tiny_git: Path, tmp_path: Path
) -> None:
    """Offline, from what `fetch` stores; and online, without also downloading a conversion."""
    (tmp_path / "files").mkdir()
    hub.put("microsoft/git-base-coco", as_published(tiny_git, tmp_path / "files"))
    fetched = fetch_from(hub, tmp_path, load_sources(), "git-base-coco")
    assert fetched.returncode == 0, fetched.stderr[-2000:]
    name = "git:microsoft/git-base-coco"
    captioner = load_captioner(make_settings(captioner=f"git:{tiny_git}", max_new_tokens=4))
    images = [np.full((n, 30, 3), 20 * n, np.uint8) for n in (3, 9)]
    expected = "".join(f"{text}\n" for text in captioner.caption(images))
    offline = with_hub(hub, tmp_path, "-c", CAPTION, name, HF_HUB_OFFLINE="1")
    assert offline.stdout == expected, offline.stderr[-2000:]
    hub.asked.clear()
    online = with_hub(hub, tmp_path / "new", "-c", CAPTION, name)
    assert online.stdout == expected, online.stderr[-2000:]
    paths = [path for _, path in hub.asked]
    assert any("pytorch_model.bin" in path for path in paths)
    others = ("/commits/", "/discussions", "refs%2F", "refs/")  # where a conversion is looked for
    assert not [path for path in paths if any(other in path for other in others)]


def test_weights_that_are_missing_do_not_stay_random(tiny_git: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_git, tmp_path / "git")
    weights = load_file(tiny_git / "model.safetensors")
    some = {name: value for name, value in weights.items() if "visual_projection" not in name}
    save_file(some, tmp_path / "git/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"cannot load git:.* \(weight .*visual_projection.* is missing"
    ):
        load_captioner(make_settings(captioner=f"git:{tmp_path / 'git'}"))


@pytest.fixture
def tiny_blip2(tmp_path: Path) -> Path:
    """A random BLIP-2 whose processor is configured like that of blip2-opt-2.7b.

    Its tokenizer's own file lacks the image token, which is in added_tokens.json.
    """
    import torch
    from transformers import (
        AutoTokenizer,
        Blip2Config,
        Blip2ForConditionalGeneration,
        BlipImageProcessor,
    )

    folder = tmp_path / "blip2"
    config = json.loads((CHECKPOINTS / "blip2/config.json").read_text())
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(Blip2Config(**{**config, "num_query_tokens": 32}))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(CHECKPOINTS / "blip2").save_pretrained(folder)
    tokens = json.loads((folder / "tokenizer.json").read_text())
    tokens["added_tokens"] = [t for t in tokens["added_tokens"] if t["content"] != "<image>"]
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    about = json.loads((folder / "tokenizer_config.json").read_text())
    about.pop("extra_special_tokens")
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "added_tokens.json").write_text(json.dumps({"<image>": config["image_token_index"]}))
    BlipImageProcessor(size={"height": 84, "width": 84}).save_pretrained(folder)
    image = {
        "__type": "AddedToken", "content": "<image>", "lstrip": False, "normalized": False,
        "rstrip": False, "single_word": False, "special": True,
    }  # fmt: skip
    (folder / "processor_config.json").write_text(
        json.dumps(
            {"image_token": image, "num_query_tokens": 32, "processor_class": "Blip2Processor"}
        )
    )
    return folder


def test_the_places_of_the_image_are_no_words_of_the_caption(
    tiny_blip2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner: Any = load_captioner(make_settings(captioner=f"blip2:{tiny_blip2}"))
    decode, tokens = captioner.processor.batch_decode, []
    monkeypatch.setattr(
        captioner.processor,
        "batch_decode",
        lambda ids, **kw: tokens.append(ids) or decode(ids, **kw),
    )
    (caption,) = captioner.caption([np.full((40, 40, 3), 99, np.uint8)])
    assert decode(tokens[0])[0].replace(" ", "").startswith("<image>" * 32)
    assert caption and "<" not in caption


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "precision", "language", "qformer"),
    [
        ("cuda", "half", "float16", "float32"),  # as in LAVIS
        ("cpu", "half", "float32", "float32"),
        ("cuda", "bfloat16", "bfloat16", "bfloat16"),
        ("cpu", "bfloat16", "bfloat16", "bfloat16"),
    ],
)
def test_the_device_chooses_blip2s_precision(
    tiny_blip2: Path, monkeypatch: pytest.MonkeyPatch, where: str, precision: str, language: str,
    qformer: str,
) -> None:  # fmt: skip
    """In the profile paper, from weights stored in float16; a GPU's casts are made here, too."""
    import torch
    from transformers import Blip2ForConditionalGeneration

    model = Blip2ForConditionalGeneration.from_pretrained(tiny_blip2, dtype=torch.float16)
    model.half().save_pretrained(tiny_blip2)
    assert make_settings("paper").precision == "half"
    settings = make_settings("paper", captioner=f"blip2:{tiny_blip2}", precision=precision)
    monkeypatch.setattr(captioners, "device", lambda: torch.device(where))
    with monkeypatch.context() as patch:  # the casts are made on loading, before the move
        patch.setattr(Blip2ForConditionalGeneration, "to", lambda model, _: model)
        captioner: Any = load_captioner(settings)
    forget()
    parts = dict(captioner.model.named_children())
    weights = {name: {w.dtype for w in part.parameters()} for name, part in parts.items()}
    wanted = {name: {getattr(torch, language)} for name in parts}
    wanted["qformer"] = {getattr(torch, qformer)}
    assert weights == wanted
    assert captioner.model.query_tokens.dtype == getattr(torch, qformer)

    seen: dict[str, torch.dtype] = {}

    def note(name: str, out: Any) -> None:
        seen[name] = (out if isinstance(out, torch.Tensor) else out[0]).dtype

    for name, part in {**parts, "head": captioner.model.language_model.lm_head}.items():
        part.register_forward_hook(lambda _, __, out, name=name: note(name, out))
    assert captioner.caption([np.full((40, 40, 3), 99, np.uint8)])[0]
    assert seen["vision_model"] == seen["head"] == getattr(torch, language)
    assert seen["qformer"] == getattr(torch, qformer)


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


def test_weights_that_are_replaced_are_loaded_anew(tmp_path: Path) -> None:
    """Under the same name: the stored captions are of the new weights, and so must be the model."""
    folder = tmp_path / "git"
    shutil.copytree(make_settings().data / "embedded" / "checkpoints" / "git", folder)
    settings = make_settings(captioner=f"git:{folder}")
    first = load_captioner(settings)
    assert load_captioner(settings) is first
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, folder / "model.safetensors", {"format": "pt"})
    assert load_captioner(settings) is not first
