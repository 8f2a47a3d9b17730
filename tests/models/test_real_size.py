"""Every model of the public profiles at its real size, with random weights, on one image.

Tests cannot download weights. Instead, the real classes are built at their real sizes, random
weights are written in the published layouts, the workbook's loaders read them, and one image is
processed. Seconds and memory are printed for each stage. These tests run only on request, with
``pytest -m real_size``; they write up to 8 GB at a time and take minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from real_models import (
    write_albef,
    write_blip2,
    write_blip2_itc,
    write_clip,
    write_freesolo,
    write_git,
    write_hf_sam,
    write_internvl,
    write_sam,
    write_sam2,
)
from real_places import PLACES, tasnb_below

from tasnb.baselines.scoring import METHODS, methods_of
from tasnb.datasets.images import load_image
from tasnb.fetch.sources import load_sources
from tasnb.method.masked_images import masked_images
from tasnb.method.proposals import propose
from tasnb.models.captioners import load_captioner
from tasnb.models.clip.towers import tower_of
from tasnb.models.devices import bytes_of, device, forget
from tasnb.models.encoders import load_encoder
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.proof.answers import CATS, load_answers
from tasnb.proof.prove import models_of
from tasnb.results.speed import clock
from tasnb.settings import ROOT, Settings, make_settings

pytestmark = pytest.mark.real_size

HEIGHT, WIDTH = 480, 640
LIMIT = 20.0  # GB of memory
PRECISION = "half" if device().type == "cuda" else "full"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """An image of the benchmark, enlarged to the size of a photograph."""
    found = load_image(ROOT / "data" / "embedded" / "images" / "000001.jpg")
    return np.asarray(Image.fromarray(found).resize((WIDTH, HEIGHT)))


@pytest.fixture(scope="module")
def report(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    """Lines printed at the end, even if pytest captures output."""
    lines: list[str] = []
    yield lines
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n\n" + "\n".join(lines))


def three_masks() -> np.ndarray:
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[0, 40:240, 50:300] = masks[1, 200:460, 320:600] = masks[2, 300:400, 20:200] = True
    return masks


def crops_of(image: np.ndarray, form: str) -> list[np.ndarray]:
    return masked_images(image, three_masks(), form, 75)


def settings_of(profile: str, **names: Any) -> Settings:
    # No mask of random weights would pass the paper's thresholds.
    return make_settings(profile, pred_iou_thresh=0.0, stability_score_thresh=0.0, **names)


def through_network(name: str, profile: str) -> Callable[[np.ndarray], str]:
    def run(image: np.ndarray) -> str:
        network = load_proposal_network(settings_of(profile, proposal_network=name))
        masks = propose(image, network)
        return f"{len(masks)} masks, {bytes_of(network) / 1e9:.1f} GB of weights"

    return run


def through_captioner(name: str, profile: str) -> Callable[[np.ndarray], str]:
    def run(image: np.ndarray) -> str:
        # On most CPUs 16 bits are many times slower than 32.
        captioner = load_captioner(settings_of(profile, captioner=name, precision=PRECISION))
        said = captioner.caption([image, *crops_of(image, "blur")])
        assert len(said) == 4 and all(isinstance(text, str) for text in said)
        return f"{len(said)} captions, {bytes_of(captioner) / 1e9:.1f} GB of weights"

    return run


def through_encoder(name: str, profile: str) -> Callable[[np.ndarray], str]:
    def run(image: np.ndarray) -> str:
        settings = settings_of(profile, encoders=[name])
        encoder = load_encoder(name, settings)
        vectors = encoder.encode_images(crops_of(image, "crop"))
        texts = encoder.encode_texts(["left cat", "a photo of a cat"])
        assert vectors.shape[-1] == texts.shape[-1] and np.isfinite(vectors).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-3)
        methods = [m for m in methods_of(name, settings) if METHODS[m]]
        for method in methods:
            with torch.inference_mode():
                found = METHODS[method][0](tower_of(encoder), image, three_masks())
            assert len(found) == 3 and np.isfinite(found).all()
        return f"{vectors.shape[-1]} numbers, {', '.join(methods) or 'no baselines'}"

    return run


STAGES = {
    ("paper", "SAM ViT-H"): (write_sam("vit_h"), through_network),
    ("paper", "BLIP-2 OPT-2.7b"): (write_blip2, through_captioner),
    ("paper", "CLIP RN50"): (write_clip("RN50"), through_encoder),
    ("paper", "CLIP ViT-B/32"): (write_clip("ViT-B-32"), through_encoder),
    ("paper", "FreeSOLO R101"): (write_freesolo, through_network),
    ("paper", "GIT base"): (write_git, through_captioner),
    ("paper", "BLIP-2 contrast"): (write_blip2_itc, through_encoder),
    ("paper", "ALBEF"): (write_albef, through_encoder),
    ("lite", "SAM ViT-B"): (write_sam("vit_b"), through_network),
    ("lite", "SAM ViT-B (hf)"): (write_hf_sam, through_network),
    ("lite", "GIT base"): (write_git, through_captioner),
    ("lite", "CLIP ViT-B/32"): (write_clip("ViT-B-32"), through_encoder),
    ("modern", "SAM 2.1 large"): (write_sam2("large"), through_network),
    ("modern", "SAM 2.1 tiny"): (write_sam2("tiny"), through_network),
    ("modern", "InternVL3 1B"): (write_internvl, through_captioner),
}


@pytest.mark.parametrize(("profile", "name"), STAGES, ids=lambda value: value)
def test_a_stage(
    profile: str, name: str, image: np.ndarray, report: list[str], tmp_path: Path
) -> None:
    if shutil.disk_usage(tmp_path).free < 12e9 or memory_gb() < LIMIT:
        pytest.skip(f"needs 12 GB of disk and {LIMIT:.0f} GB of memory")
    write, through = STAGES[profile, name]
    model = write(tmp_path / "model")
    forget()  # and what writing the weights has left
    run = through(model, profile)
    with clock() as first:
        said = run(image)
    again = "        "
    if first.seconds < 60:
        began = time.perf_counter()
        run(image)
        again = f"{time.perf_counter() - began:6.1f} s"
    report.append(
        f"{profile:6} {name:16} {device()}: with loading {first.seconds:6.1f} s, alone {again}, "
        f"peak {first.peak_gb:5.1f} GB; {said}"
    )
    forget()
    shutil.rmtree(tmp_path / "model")
    if device().type == "cpu":
        assert first.peak_gb < LIMIT


def profiles_of(model: str) -> list[str]:
    """The public profiles with a model, smallest first."""
    own = {
        p: [name for _, name in models_of(make_settings(p))] for p in ("lite", "modern", "paper")
    }
    return [profile for profile, names in own.items() if model in names]


@pytest.mark.parametrize("model", PLACES)
def test_a_model_is_asked_what_is_known(model: str, report: list[str], tmp_path: Path) -> None:
    """`doctor --prove` where `fetch` puts files: random weights disagree, without an error."""
    if shutil.disk_usage(tmp_path).free < 12e9 or memory_gb() < LIMIT:
        pytest.skip(f"needs 12 GB of disk and {LIMIT:.0f} GB of memory")
    (tmp_path / "data" / "proof").mkdir(parents=True)
    PLACES[model](tmp_path)
    forget()
    known = [answer for answer in load_answers() if answer.model == model]
    found = load_image(ROOT / "data" / "embedded" / "images" / "000001.jpg")
    for name in {CATS, *(answer.picture for answer in known)}:
        # A square, which the captioner of modern does not divide into tiles.
        file = next(one for one in load_sources().items if one.name == f"proof-{name}").files[0]
        Image.fromarray(found[:200, :200]).save(tmp_path / "data" / file.path)
    profile = profiles_of(model)[0]
    done = tasnb_below(tmp_path, "doctor", "--profile", profile, "--prove", "--json")
    assert done.stdout, done.stderr[-2000:]
    every = json.loads(done.stdout)["lines"]
    lines = [line for line in every if line["model"] == model]
    report += [
        f"{profile} --prove {model}, {line['question']}: {line['verdict']} ({line['value']}), "
        f"{line['seconds']:.1f} s, peak {line['peak_gb']:.1f} GB"
        for line in lines
    ]
    assert len(lines) == max(1, len(known))
    possible = {"disagrees"} if known else {"disagrees", "holds"}  # even of random vectors
    assert {line["verdict"] for line in lines} <= possible, lines
    assert done.returncode == any(line["verdict"] == "disagrees" for line in every)


def memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def test_lite_answers_about_a_photograph(
    image: np.ndarray, report: list[str], tmp_path: Path
) -> None:
    """The whole lite profile in one call, then everything after SAM with a usual number of masks.

    Random weights propose almost nothing, so the second call uses boxes as masks.
    """
    import tasnb

    models = {
        "captioner": write_git(tmp_path / "git"),
        "encoders": [write_clip("ViT-B-32")(tmp_path / "clip")],
    }
    networks = {
        "SAM": write_sam("vit_b")(tmp_path / "sam"),
        "boxes instead of SAM": write_boxes(tmp_path / "masks.json"),
    }
    photograph = tmp_path / "000001.png"
    Image.fromarray(image).save(photograph)
    thresholds = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "min_mask_area": 500.0}
    for name, network in networks.items():
        forget()
        options = {**models, **thresholds, "proposal_network": network}
        with clock() as cost:
            result = tasnb.segment(
                photograph, "the left cat", "lite", store=str(tmp_path / name), **options
            )
        assert result.mask.shape == (HEIGHT, WIDTH)
        report.append(
            f"lite   a photograph and an expression, {name}, {len(result.frame)} masks: "
            f"{cost.seconds:.1f} s with loading, peak {cost.peak_gb:.1f} GB"
        )
    assert len(result.frame) == 15


def write_boxes(path: Path) -> str:
    """Writes fifteen boxes side by side, as COCO results."""
    found = []
    for row in range(3):
        for column in range(5):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
            mask[row * 160 :, column * 128 :][:150, :120] = 1
            rle = coco_mask.encode(mask)
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
            found.append({"image_id": 1, "segmentation": segmentation})
    path.write_text(json.dumps(found))
    return f"file:{path}"
