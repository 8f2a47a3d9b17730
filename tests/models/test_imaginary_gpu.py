"""Every model runs on a GPU from beginning to end, with the results of the CPU.

The GPU is imaginary (``imaginary_gpu``), so the tests need none: whatever stays on the CPU, where
the weights are not, is refused as by a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_captioners
import tiny_networks
import torch
from imaginary_gpu import GPU, ImaginaryGpu, OnGpu, loading

from tasnb import Pipeline, make_settings
from tasnb.baselines import region_features
from tasnb.datasets.images import load_image
from tasnb.models import captioners, encoders, proposal_networks
from tasnb.models.clip import activation_maps, towers
from tasnb.models.devices import device_of, forget, loads, to_numpy
from tasnb.proof.answers import Answer
from tasnb.proof.questions import ask

pytestmark = pytest.mark.slow

IMAGE = load_image(make_settings().data / "embedded" / "images" / "000001.jpg")
MASKS = np.zeros((2, *IMAGE.shape[:2]), bool)
MASKS[0, 10:60, 5:90] = MASKS[1, 50:120, 70:150] = True


@pytest.fixture(autouse=True)
def empty() -> Any:
    forget()
    yield
    forget()  # models that only these tests can use


def on_both(
    patch: pytest.MonkeyPatch, module: Any, load: Callable[[], Any], work: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """What a model returns on the CPU and on the GPU."""
    there = work(load())
    forget()
    with loading(patch, module):
        model = load()
    with ImaginaryGpu():
        return there, work(model)


# --- the GPU itself


def test_tensors_of_both_devices_are_refused() -> None:
    with torch.inference_mode(), ImaginaryGpu():
        there, here = torch.arange(6.0, device=GPU), torch.arange(6.0)
        assert there.device == GPU and torch.equal(there.cpu(), here)
        assert torch.equal((there[here.long()] + there * torch.tensor(2.0)).cpu(), 3 * here)
        for wrong in (
            lambda: there + here, lambda: here.add_(there), lambda: torch.cat([there, here]),
            lambda: here[there.long()], lambda: torch.nn.functional.linear(here, there),
        ):  # fmt: skip
            with pytest.raises(RuntimeError, match="same device"):
                wrong()
        with pytest.raises(RuntimeError):  # a real one raises a TypeError
            there.numpy()
        there[2:4] = 9.0
        assert there.tolist() == [0, 1, 9, 9, 4, 5] and int(there.argmax()) == 2
        assert there.new_zeros(2).device == torch.zeros(1).to(GPU).device == GPU


# --- mask proposals


def proposed(network: Any) -> Any:
    return network.propose(IMAGE, "")


def networks(place: Path) -> dict[str, str]:
    own = {"sam": "sam:embedded/sam", "freesolo": "freesolo:embedded/freesolo"}
    return own | {f"hf-{k}": f"hf:{f(place / k)}" for k, f in tiny_networks.NETWORKS.items()}


@pytest.mark.parametrize("kind", ["sam", "freesolo", "hf-sam", "hf-sam2", "hf-edgetam"])
def test_masks(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = make_settings(
        proposal_network=networks(tmp_path)[kind], points_per_side=4,
        pred_iou_thresh=0.0, stability_score_thresh=0.0,
    )  # fmt: skip
    load = lambda: proposal_networks.load_proposal_network(settings)  # noqa: E731
    here, there = on_both(monkeypatch, proposal_networks, load, proposed)
    assert len(here[0]) > 0 and here[0] == there[0]
    for mine, others in zip(here[1:], there[1:], strict=True):
        np.testing.assert_allclose(mine, others, atol=1e-6)


def test_images_are_encoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings(points_per_side=4)
    images = [IMAGE, np.ascontiguousarray(IMAGE[::-1])]

    def work(network: Any) -> Any:
        network.encode(images)
        return [network.propose(image, "")[0] for image in images]

    load = lambda: proposal_networks.load_proposal_network(settings)  # noqa: E731
    here, there = on_both(monkeypatch, proposal_networks, load, work)
    assert here == there and here[0] != here[1]


def test_a_point_of_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor --prove` asks the authors' own predictor."""
    asked = Answer(
        model="sam:embedded/sam", picture="cats", ask="prompt", point=(60, 70),
        expected=(0.0,) * 3, tolerance=1.0, source="none",
    )  # fmt: skip
    settings = make_settings(proposal_network=asked.model)

    def work(network: Any) -> Any:
        before = loads.total()
        found = ask(asked, settings, IMAGE)
        assert loads.total() == before  # it is this network that was asked
        return found

    load = lambda: proposal_networks.load_proposal_network(settings)  # noqa: E731
    here, there = on_both(monkeypatch, proposal_networks, load, work)
    assert len(here) == 3 and here == pytest.approx(there, abs=1e-6)


# --- captions


CAPTIONERS = ("blip2", "git", *tiny_captioners.CHATS, "florence2")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", CAPTIONERS)
def test_captions(kind: str, half: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In 16 bits as well: as a GPU has them, except for BLIP-2's Q-Former."""
    if kind == "smolvlm":
        pytest.importorskip("num2words")
    builders = {**tiny_captioners.CHATS, "florence2": tiny_captioners.florence}
    name = (
        f"hf:{builders[kind](tmp_path / kind)}" if kind in builders else f"{kind}:embedded/{kind}"
    )
    dtype = torch.float16 if half else torch.float32
    monkeypatch.setattr(captioners, "dtype_of", lambda precision: dtype)
    settings = make_settings(captioner=name, num_beams=1 if half else 3, max_new_tokens=6)
    here, there = on_both(
        monkeypatch, captioners, lambda: captioners.load_captioner(settings),
        lambda model: model.caption([IMAGE, IMAGE[:50], IMAGE[:, :3]]),
    )  # fmt: skip
    assert here == there and len(here) == 3


# --- embeddings and the baselines' features


def features(tower: Any) -> list[torch.Tensor]:
    """All that the baselines ask of a tower, but for Grad-CAM, which needs gradients."""
    pixels, masks = towers.to_pixels(tower, IMAGE), torch.from_numpy(MASKS)
    plain = towers.to_pixels(tower, IMAGE, imagenet=True)
    whole = region_features.global_pixels(tower, IMAGE)
    found = [
        activation_maps.score_map(tower, plain),
        activation_maps.clip_surgery(tower, pixels),
        region_features.global_features(tower, whole, masks),
        towers.encode(tower, region_features.local_pixels(tower, IMAGE, MASKS)),
    ]
    if not towers.is_resnet(tower):
        views = region_features.fused_pixels(tower, IMAGE, MASKS)
        found += [
            region_features.region_tokens(tower, pixels, masks),
            activation_maps.gem(tower, pixels),
            region_features.fused_features(tower, *views, masks),
        ]
    return found


@pytest.mark.parametrize("name", [*make_settings().encoders, *make_settings().other_encoders])
def test_embeddings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings()

    @torch.inference_mode()
    def work(encoder: Any) -> Any:
        found = [encoder.encode_images([IMAGE, IMAGE[:50]]), encoder.encode_texts(["a cat", "it"])]
        if isinstance(encoder, encoders.OpenClip):
            maps = features(towers.tower_of(encoder))
            assert len({isinstance(one, OnGpu) for one in maps}) == 1
            found += map(to_numpy, maps)
        return found

    load = lambda: encoders.load_encoder(name, settings)  # noqa: E731
    for mine, others in zip(*on_both(monkeypatch, encoders, load, work), strict=True):
        np.testing.assert_allclose(mine, others, atol=1e-5)


# --- all of it


def test_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From masks to scores, through the stages and their store, with images encoded together."""
    found = []
    for gpu in (False, True):
        forget()
        settings = make_settings(
            store=str(tmp_path / str(gpu)), limit=2, points_per_side=4, num_beams=1,
            backend="serial",
        )  # fmt: skip
        pipeline, name = Pipeline(settings), settings.encoders[-1]
        with (
            loading(monkeypatch, proposal_networks, captioners, encoders) if gpu else nullcontext()
        ):
            network: Any = proposal_networks.load_proposal_network(settings)
            models = [network.model, captioners.load_captioner(settings).model]
            models.append(encoders.load_encoder(name, settings).model)
        assert {device_of(model) == GPU for model in models} == {gpu}
        before = loads.total()
        with ImaginaryGpu() if gpu else nullcontext():
            monkeypatch.setattr(network, "together", 2)
            monkeypatch.setattr(network.generator.predictor.batches, "size", 2)
            found.append(pipeline.score(pipeline.split("refscenes", "val"), name))
        assert loads.total() == before  # none was loaded anew, to the CPU
    here, there = found
    pd.testing.assert_frame_equal(here.sentences, there.sentences)
    pd.testing.assert_frame_equal(here.pairs, there.pairs, rtol=0, atol=1e-5)
    assert len(here.pairs) > 0
