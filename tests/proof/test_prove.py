"""The proof on the embedded models, whose answers other libraries' own functions give here."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_places import PLACES
from safetensors.torch import load_file, save_file

from tasnb.cli.arguments import main
from tasnb.cli.proof import prove
from tasnb.datasets.images import load_image
from tasnb.models.devices import forget
from tasnb.proof import record
from tasnb.proof.answers import Answer, load_answers
from tasnb.proof.prove import models_of
from tasnb.settings import ROOT, InputError, Settings, make_settings
from tasnb.store.files import file_digest
from tasnb.workbook.records import versions

CHECKPOINTS = ROOT / "data" / "embedded" / "checkpoints"
PICTURE = load_image(ROOT / "data" / "embedded" / "images" / "000237.jpg")  # with a cat
CLIP, SAM, GIT, ALBEF, FREESOLO = (
    "open_clip:embedded/clip-vit",
    "sam:embedded/sam",
    "git:embedded/git",
    "albef:embedded/albef",
    "freesolo:embedded/freesolo",
)
TEXTS = ("the red ball", "a brown dog")


def of_clip() -> tuple[float, ...]:
    import open_clip
    import torch

    name = f"local-dir:{CHECKPOINTS / 'clip-vit'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    with torch.inference_mode():
        image = model.eval().encode_image(preprocess(Image.fromarray(PICTURE))[None], True)
        text = model.encode_text(open_clip.get_tokenizer(name)(list(TEXTS)), True)
    return tuple((100 * image @ text.T)[0].tolist())


def of_git() -> str:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(CHECKPOINTS / "git", backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINTS / "git")
    pixels = processor(images=Image.fromarray(PICTURE), return_tensors="pt").pixel_values
    tokens = model.generate(pixel_values=pixels, num_beams=1, max_new_tokens=12, do_sample=False)
    return processor.batch_decode(tokens, skip_special_tokens=True)[0]


def of_sam() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The authors' generator with 8 x 8 points, and their predictor for a point."""
    import torch
    from segment_anything import SamAutomaticMaskGenerator, SamPredictor

    from tasnb.models.sam import build_sam

    folder = CHECKPOINTS / "sam"
    model = build_sam(json.loads((folder / "config.json").read_text()))
    model.load_state_dict(
        {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    )
    options = {"points_per_side": 8, "pred_iou_thresh": 0.4, "stability_score_thresh": 0.4}
    with torch.inference_mode():
        found = SamAutomaticMaskGenerator(model.eval(), **options).generate(PICTURE)
        predictor = SamPredictor(model)
        predictor.set_image(PICTURE)
        _, predicted, _ = predictor.predict(np.array([[60, 70]]), np.array([1]))
    largest = sorted((row["predicted_iou"] for row in found), reverse=True)
    return (len(found), *largest[:2]), tuple(predicted.tolist())


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    masks, predicted = of_sam()
    own = {"picture": "cats", "source": "this test", "tolerance": 0.02}
    grid = {"points_per_side": 8, "pred_iou_thresh": 0.4, "stability_score_thresh": 0.4}
    similar = {"ask": "similarity", "texts": TEXTS, "scale": 100.0}
    return [
        Answer(model=CLIP, expected=of_clip(), **similar, **own),
        Answer(model=GIT, ask="caption", tokens=12, expected=of_git(), **own),
        Answer(model=SAM, ask="masks", expected=masks, **grid, **own),
        Answer(model=SAM, ask="prompt", point=(60, 70), expected=predicted, **own),
    ]


def write_picture(data: Path, pixels: np.ndarray) -> None:
    (data / "proof").mkdir(exist_ok=True)
    Image.fromarray(pixels).save(data / "proof" / "cats.jpg", format="PNG")  # without loss


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The profile lite with the embedded models, which a test may change, and its own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = tmp_path / "data"
    shutil.copytree(CHECKPOINTS, data / "embedded" / "checkpoints", copy_function=os.link)
    write_picture(data, PICTURE)
    forget()
    return make_settings(
        "lite", data=str(data), proposal_network=SAM, captioner=GIT, encoders=[CLIP],
        other_network=FREESOLO, other_captioner=GIT, other_encoders=[ALBEF],
    )  # fmt: skip


def spoil(settings: Settings, name: str, weight: str) -> None:
    """Changes a weight, and the card with it, as if the checkpoint had been published so."""
    folder = settings.data / "embedded" / "checkpoints" / name
    file = next(folder.glob("*.safetensors"))
    weights = load_file(file)
    weights[weight] = -weights[weight]
    file.unlink()  # a link: the repository keeps its own
    save_file(weights, file, metadata={"format": "pt"})
    card = json.loads((folder / "card.json").read_text())
    card["files"][file.name] = file_digest(file)
    (folder / "card.json").unlink()
    (folder / "card.json").write_text(json.dumps(card))


def rows(capsys: pytest.CaptureFixture[str], settings: Settings, answers: list[Answer]) -> tuple:
    status = prove(settings, as_json=True, answers=answers)
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_right_models_agree(settings, answers, capsys) -> None:
    assert record.sentence(settings, versions()).startswith("The models were never proven")
    assert prove(settings, answers=answers) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["agrees"] * 2 + ["holds"] + [
        "agrees"
    ] * 2 + ["holds"]
    assert lines[-1] == "profile lite: all 6 answers are as expected"
    assert all(" GB" in line and "expected" in line for line in lines[:-1])
    found = record.sentence(settings, versions())
    assert found.endswith(": all models answered as expected.") and "torch" in found
    later = record.sentence(settings, versions() | {"torch": "99.0"})
    assert "now 99.0" in later and "proves them again" in later
    other = settings.model_copy(update={"encoders": ("open_clip:embedded/clip-rn",)})
    assert "open_clip:embedded/clip-rn not asked" in record.sentence(other, versions())
    spoil(settings, "albef", "vision_proj.weight")
    assert f"{ALBEF} with other weights since" in record.sentence(settings, versions())


@pytest.mark.slow
def test_a_wrong_weight(settings, answers, capsys) -> None:
    spoil(settings, "clip-vit", "visual.proj")
    status, found = rows(capsys, settings, answers)
    wrong = [line for line in found["lines"] if line["verdict"] == "disagrees"]
    assert status == 1 and not found["ok"] and [line["model"] for line in wrong] == [CLIP]
    assert "other weights" in wrong[0]["note"] and wrong[0]["value"] != wrong[0]["expected"]
    assert f"{CLIP} in disagreement" in record.sentence(settings, versions())


@pytest.mark.slow
def test_swapped_channels(settings, answers, capsys) -> None:
    write_picture(settings.data, PICTURE[..., ::-1].copy())
    status, found = rows(capsys, settings, answers)
    notes = {
        line["model"]: line["note"] for line in found["lines"] if line["verdict"] == "disagrees"
    }
    assert status == 1 and {CLIP, SAM} <= set(notes)
    assert all("red and blue are swapped" in notes[model] for model in (CLIP, SAM))


def test_a_missing_file(settings, answers, capsys) -> None:
    (settings.data / "embedded" / "checkpoints" / "git" / "model.safetensors").unlink()
    status, found = rows(capsys, settings, [a for a in answers if a.model == CLIP])
    lines = {line["model"]: line for line in found["lines"]}
    assert status == 1 and lines[GIT]["verdict"] == "incomplete"
    assert "model.safetensors is missing" in lines[GIT]["note"]
    assert lines[CLIP]["verdict"] == "agrees" and lines[ALBEF]["verdict"] in ("holds", "disagrees")


def test_an_incomplete_and_a_damaged_download(settings, tmp_path, monkeypatch, answers, capsys):
    """In the hub's cache: a snapshot without its weights, then with some of another digest."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--microsoft--git-base-coco"
    (folder / "refs").mkdir(parents=True)
    (folder / "blobs").mkdir()
    (folder / "refs" / "main").write_text("c0")
    snapshot = folder / "snapshots" / "c0"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "preprocessor_config.json"):
        (snapshot / name).write_text("{}")
    name = "git:microsoft/git-base-coco"
    own = settings.model_copy(update={"captioner": name, "other_captioner": name})
    known = [a for a in answers if a.model == CLIP]
    status, found = rows(capsys, own, known)
    line = next(line for line in found["lines"] if line["model"] == name)
    assert status == 1 and line["verdict"] == "incomplete"
    assert "lacks pytorch_model.bin; `python -m tasnb fetch git-base-coco`" in line["note"]
    (folder / "blobs" / ("ab" * 32)).write_bytes(b"cut")
    (snapshot / "pytorch_model.bin").symlink_to(folder / "blobs" / ("ab" * 32))
    status, found = rows(capsys, own, known)
    line = next(line for line in found["lines"] if line["model"] == name)
    assert status == 1 and line["verdict"] == "fails"
    assert "pytorch_model.bin is damaged" in line["note"]


def test_offline_it_says_what_it_needs(settings, answers) -> None:
    (settings.data / "proof" / "cats.jpg").unlink()
    with pytest.raises(InputError, match=r"needs pictures \(cats\): HF_HUB_OFFLINE .*cats\.jpg"):
        prove(settings, answers=answers)


def test_a_picture_that_has_changed(settings, answers) -> None:
    own = [a for a in answers if a.model == CLIP]
    prove(settings, as_json=True, answers=own)
    write_picture(settings.data, PICTURE // 2)
    with pytest.raises(InputError, match="is not the picture that was first downloaded"):
        prove(settings, answers=own)


def test_bad_input(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert main(["doctor", "--prove"]) == 2
    assert "add --profile lite, --profile paper or --profile modern" in capsys.readouterr().err
    assert main(["doctor", "--json"]) == 2
    assert "--json is for --prove" in capsys.readouterr().err
    assert main(["doctor", "--profile", "lite", "--prove", "--data", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "no model of the profile lite is complete" in captured.err
    assert captured.out.count("missing ") == 3


def test_known_answers_are_about_models_of_a_profile() -> None:
    names = {name for p in ("lite", "paper", "modern") for _, name in models_of(make_settings(p))}
    assert {answer.model for answer in load_answers()} <= names
    assert {name for name in names if ":" in name} == set(PLACES)  # those asked at real size
    without = names - {answer.model for answer in load_answers()}
    assert without == {
        "albef:ALBEF.pth", "freesolo:FreeSOLO_R101_30k_pl.pth", "felzenszwalb",
        "hf:facebook/sam2.1-hiera-large", "open_clip:ViT-SO400M-16-SigLIP2-384/webli",
    }  # fmt: skip
    for answer in load_answers():
        assert answer.source and answer.agrees(answer.expected)
        if not isinstance(answer.expected, str):
            assert not answer.agrees(tuple(-number for number in answer.expected))
