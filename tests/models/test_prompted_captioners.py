"""Captioners that must be asked: chat models and Florence-2, of transformers' own classes."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_captioners
from tiny_captioners import CHATS

from tasnb.method.stages import Stages
from tasnb.models.captioners import CHAT_PROMPT, load_captioner
from tasnb.settings import InputError, Settings, make_settings

RNG = np.random.default_rng(0)
IMAGES = [
    RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((40, 60), (60, 20), (50, 50))
]
FAMILIES = [*CHATS, "florence2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family that is installed in full."""
    builders = {**CHATS, "florence2": tiny_captioners.florence}
    if not find_spec("num2words"):
        del builders["smolvlm"]
    place = tmp_path_factory.mktemp("hub")
    return {name: build(place / name) for name, build in builders.items()}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> str:
    if request.param not in folders:
        pytest.skip("the processor needs num2words")
    return f"hf:{folders[request.param]}"


def settings_of(model: str, **changes: Any) -> Settings:
    return make_settings(**{"captioner": model, "num_beams": 1, "max_new_tokens": 6, **changes})


@pytest.mark.parametrize("changes", [{}, {"num_beams": 3}, {"split_images": True}])
def test_one_caption_per_image_in_any_batch(model: str, changes: dict[str, Any]) -> None:
    """Prompts of different lengths, as tiles or the image's own size give, change nothing."""
    captioner = load_captioner(settings_of(model, **changes))
    together = captioner.caption(IMAGES)
    assert [captioner.caption([image])[0] for image in IMAGES] == together
    assert len(together) == len(IMAGES) and captioner.caption([]) == []
    if "florence2" not in model:  # whose tiny decoder is not as sensitive
        assert len(set(together)) > 1


def test_a_caption_is_what_the_model_adds(model: str) -> None:
    """Neither the prompt nor any of the tokens around it: those of the model's own generate()."""
    import torch

    captioner: Any = load_captioner(settings_of(model))
    given = captioner._prompted(IMAGES[:1])
    with torch.inference_mode():
        tokens = captioner.model.generate(
            **given, do_sample=False, max_new_tokens=6, min_new_tokens=1
        )[0].tolist()
    asked = given["input_ids"][0].tolist()
    if not captioner.model.config.is_encoder_decoder:
        assert tokens[: len(asked)] == asked  # generate() does repeat it
        tokens = tokens[len(asked) :]
    special = {*captioner.processor.tokenizer.all_special_ids}
    special |= {
        number
        for number, token in captioner.processor.tokenizer.added_tokens_decoder.items()
        if token.special
    }
    words = [token for token in tokens if token not in special]
    (caption,) = captioner.caption(IMAGES[:1])
    assert caption == " ".join(captioner.processor.tokenizer.decode(words).split())
    assert CHAT_PROMPT.lower() not in caption.lower()
    assert not any(t in caption for t in ("<|", "|>", "<image>", "<end>", "user", "assistant"))


def test_prompts_are_padded_on_the_left(folders: dict[str, Path]) -> None:
    """On the right, the shorter prompts of a batch would be continued after their padding."""
    captioner: Any = load_captioner(settings_of(f"hf:{folders['qwen2_5_vl']}"))
    mask = captioner._prompted(IMAGES)["attention_mask"].numpy()
    assert (mask == 0).any() and (np.diff(mask, axis=1) >= 0).all()
    right = captioner.caption(IMAGES)
    captioner.processor.tokenizer.padding_side = "right"
    assert captioner.caption(IMAGES) != right
    captioner.processor.tokenizer.padding_side = "left"


def test_an_image_may_be_of_any_height(model: str) -> None:
    """Three rows are no channels: its colours are those of a larger image."""
    captioner: Any = load_captioner(settings_of(model))
    colour = np.array([[[250, 120, 10]]], np.uint8)

    def values(height: int) -> list[float]:
        image = np.tile(colour, (height, 90, 1))
        return np.unique(captioner._prompted([image])["pixel_values"].numpy().round(3)).tolist()

    for height in (1, 3, 4):
        assert values(height) == values(90)


def test_the_prompt_is_a_setting(model: str) -> None:
    other = "<DETAILED_CAPTION>" if "florence2" in model else "What is this?"
    plain: Any = load_captioner(settings_of(model))
    asked: Any = load_captioner(settings_of(model, prompt=other))
    given = [captioner._prompted(IMAGES[:1])["input_ids"] for captioner in (plain, asked)]
    assert given[0].tolist() != given[1].tolist()
    said = asked.processor.batch_decode(given[1])[0]
    assert ("describe in detail" if "florence2" in model else "what is this?") in said


def test_tiles_are_a_setting(folders: dict[str, Path]) -> None:
    name = f"hf:{folders['internvl']}"
    whole: Any = load_captioner(settings_of(name))
    tiles: Any = load_captioner(settings_of(name, split_images=True))
    assert len(whole._prompted(IMAGES)["pixel_values"]) == len(IMAGES)
    assert len(tiles._prompted(IMAGES)["pixel_values"]) > 2 * len(IMAGES)


# --- the fingerprint


def test_prompts_that_are_not_set_leave_fingerprints_alone() -> None:
    """Those of stored captions, from before prompts could be set."""

    def of(**changes: Any) -> list[str]:
        stages = Stages(make_settings(**changes))
        forms = ("blur", "crop", "whole")
        return [stages._caption_stage(form).fingerprint for form in forms]

    settings = make_settings()
    stages = Stages(settings)
    names = ["num_beams", "max_new_tokens", "precision"]
    before = stages.stage("captions-whole", names, model=settings.captioner, version=2)
    assert of()[2] == before.fingerprint
    assert of(prompt="") == of(prompt=None) == of(prompt=" ") == of(split_images=False) == of()
    found = [*of(), *of(prompt="What is it?"), *of(prompt="Who is it?"), *of(split_images=True)]
    assert len(set(found)) == 12


def test_prompts_matter_to_captions_only() -> None:
    plain, asked = Stages(make_settings()), Stages(make_settings(prompt="What is it?"))
    assert plain.proposal_stage.fingerprint == asked.proposal_stage.fingerprint
    assert make_settings(prompt="What is it?").changed == {"prompt": "What is it?"}


# --- what cannot work


def refused(model: str, **changes: Any) -> str:
    with pytest.raises(InputError) as error:
        load_captioner(settings_of(model, **changes))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["blip2:embedded/blip2", "git:embedded/git"])
def test_models_that_take_no_prompt(name: str) -> None:
    said = refused(name, prompt="a photo of")
    assert said.startswith(f"{name} takes no prompt: leave out prompt = 'a photo of', or choose")


def test_a_chat_model_without_its_template(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["internvl"], tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    said = refused(f"hf:{tmp_path / 'model'}")
    assert "a model of type internvl needs a prompt, and its processor has no chat template" in said


def test_a_template_that_takes_no_images(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["internvl"], tmp_path / "model")
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    said = refused(f"hf:{tmp_path / 'model'}")
    assert said.startswith(f"cannot ask hf:{tmp_path / 'model'} for captions with the prompt")
    assert "can only concatenate str" in said


def test_a_task_that_florence_does_not_have(folders: dict[str, Path]) -> None:
    said = refused(f"hf:{folders['florence2']}", prompt="<CAPTION> of this")
    assert "<CAPTION> should be the only content" in said


def test_a_package_that_a_processor_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As SmolVLM's num2words, which transformers does not require."""
    from transformers.models.smolvlm import processing_smolvlm

    with monkeypatch.context() as patch:
        patch.setattr(processing_smolvlm, "num2words", str)
        folder = tiny_captioners.smolvlm(tmp_path / "smolvlm")
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    assert "`pip install num2words`" in refused(f"hf:{folder}")


def test_microsofts_own_florence(folders: dict[str, Path], tmp_path: Path) -> None:
    """Its files are for code of its own: other names of weights, none of which is found."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "microsoft" / "Florence-2-base"
    shutil.copytree(folders["florence2"], folder)
    weights = load_file(folder / "model.safetensors")
    renamed = {f"language_model.{name}": value for name, value in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    said = refused(f"hf:{folder}")
    assert "is missing" in said and "expected hf:florence-community/Florence-2-base" in said
