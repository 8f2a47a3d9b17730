"""Networks of transformers at a grid of points: what their own processors and models answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from tiny_networks import NETWORKS

from tasnb.method.proposals import decode, propose
from tasnb.method.stages import Stages
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.settings import InputError, Settings, make_settings

HEIGHT, WIDTH = 48, 80
SIDE = 3


def picture() -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), (40, 60, 200), np.uint8)
    image[8:28, 6:30] = (220, 30, 30)
    image[20:44, 48:70] = (30, 200, 60)
    return image + np.random.default_rng(0).integers(0, 8, image.shape, dtype=np.uint8)


@pytest.fixture(scope="module", params=NETWORKS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return NETWORKS[request.param](tmp_path_factory.mktemp("hub") / request.param)


def settings_of(folder: Path, **changes: Any) -> Settings:
    plain = {"points_per_side": SIDE, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    plain |= {"min_mask_region_area": 0.0}
    return make_settings(proposal_network=f"hf:{folder}", **plain | changes)


def points() -> list[list[float]]:
    """The centres of a grid of cells, in pixels."""
    steps = (np.arange(SIDE) + 0.5) / SIDE
    return [[x * WIDTH, y * HEIGHT] for y in steps for x in steps]


def by_transformers(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Masks (P, 3, H, W) and predicted IoUs (P, 3) for each point, by its own processor."""
    from transformers import AutoModelForMaskGeneration, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForMaskGeneration.from_pretrained(folder)
    # SAM: image, point, x and y; SAM 2: image, object, point, x and y.
    nested = [[[point] for point in points()]]
    given = processor(images=Image.fromarray(picture()), input_points=nested, return_tensors="pt")
    with torch.inference_mode():
        found = model(**given)
    sizes = [given[key] for key in ("original_sizes", "reshaped_input_sizes") if key in given]
    masks = processor.image_processor.post_process_masks(found.pred_masks, *sizes)[0]
    return masks.numpy().reshape(-1, 3, HEIGHT, WIDTH), found.iou_scores.numpy().reshape(-1, 3)


def test_masks_and_scores_are_those_of_transformers(folder: Path) -> None:
    masks, scores = by_transformers(folder)
    network: Any = load_proposal_network(settings_of(folder))
    network.generator.box_nms_thresh = 1.1  # so that duplicates stay, too
    found, predicted, stability = network.propose(picture(), "")
    network.generator.box_nms_thresh = 0.7
    some = masks.any((2, 3))
    wanted = sorted(zip(scores[some].round(4).tolist(), masks[some].sum((1, 2)), strict=True))
    own = sorted(zip(predicted.round(4).tolist(), coco_mask.area(found), strict=True))
    assert len(own) == len(wanted) == some.sum() > SIDE
    np.testing.assert_allclose(own, wanted, atol=2e-4)
    assert ((stability >= 0) & (stability <= 1)).all()


def test_points_cover_the_whole_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for networks that stretch an image to a square."""
    network: Any = load_proposal_network(settings_of(folder))
    seen: list[torch.Tensor] = []
    forward = network.model.forward
    monkeypatch.setattr(
        network.model,
        "forward",
        lambda **given: seen.append(given["input_points"]) or forward(**given),
    )
    network.propose(picture(), "")
    given = torch.cat([one.flatten(0, 2) for one in seen]).numpy()
    assert len(given) == SIDE**2
    padded = "sam2" not in folder.name and "edgetam" not in folder.name
    extent = np.array([1, HEIGHT / WIDTH if padded else 1])  # of the image in the input
    assert np.allclose(given.reshape(-1, 2).mean(0) / 64, extent / 2, atol=0.01)


def test_few_pixels_at_a_time_change_nothing(folder: Path) -> None:
    network: Any = load_proposal_network(settings_of(folder))
    whole = network.propose(picture(), "")
    network.generator.most_pixels = 1
    assert network.propose(picture(), "")[0] == whole[0]
    network.generator.most_pixels = 10**9


def test_holes_and_islands_go(folder: Path) -> None:
    """As with Segment Anything itself; the pipeline of transformers keeps them."""
    import cv2

    def small(changes: dict[str, Any]) -> int:
        masks = decode(propose(picture(), load_proposal_network(settings_of(folder, **changes))))
        found = 0
        for mask in masks:
            _, _, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8))
            found += int((stats[1:, cv2.CC_STAT_AREA] < 60).sum())
        return found

    options = {"areas_of": None, "min_mask_region_area": 60.0}
    if small({}):
        assert small(options) == 0


def test_a_missing_weight(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    some = {k: v for k, v in weights.items() if "iou_prediction_head" not in k}
    save_file(some, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"iou_prediction_head.* is missing") as error:
        load_proposal_network(settings_of(tmp_path / "model"))
    assert "\n" not in str(error.value)


def test_masks_by_the_pipeline_of_transformers_are_stored_apart(folder: Path) -> None:
    """They were version 1; other networks keep their fingerprints."""
    own = Stages(settings_of(folder))
    fields = ["points_per_side", "pred_iou_thresh", "stability_score_thresh"]
    fields += ["min_mask_region_area", "areas_of"]
    name = own.settings.proposal_network
    assert (
        own.proposal_stage.fingerprint == own.stage("proposals", fields, None, name, 2).fingerprint
    )
    plain = Stages(make_settings())
    name = plain.settings.proposal_network
    assert (
        plain.proposal_stage.fingerprint == plain.stage("proposals", fields, None, name).fingerprint
    )
