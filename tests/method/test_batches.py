"""Stages put the masks of several images through a network together, and read images ahead."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waits import Waits

from tasnb import Pipeline, make_settings
from tasnb.datasets.images import load_image
from tasnb.models.encoders import load_encoder
from tasnb.models.proposal_networks import load_proposal_network


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(
        make_settings(store=str(tmp_path), limit=3, points_per_side=4, backend="serial")
    )


def test_masks_of_several_images_share_a_batch(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One forward pass and one transfer for all masks of three images."""
    images, name = pipeline.split("refscenes", "val").images, pipeline.settings.encoders[-1]
    masks = pipeline.refined(images)
    model: Any = load_encoder(name, pipeline.settings).model
    whole, launched = model.encode_image, []

    def encode(pixels: Any, **options: Any) -> Any:
        launched.append(len(pixels))
        return whole(pixels, **options)

    monkeypatch.setattr(model, "encode_image", encode)
    with Waits() as waits:
        _, vectors = pipeline.mask_embeddings(images, name)
    assert masks["image"].nunique() == 3 and 5 < len(masks) <= pipeline.settings.batch_size
    assert launched == [len(masks)] == [len(vectors)]
    assert waits.count["cpu"] == 1


def test_images_are_encoded_in_groups(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with the same masks as one by one."""
    images = pipeline.split("refscenes", "val").images
    wanted = pipeline.refined(images)
    network: Any = load_proposal_network(pipeline.settings)
    monkeypatch.setattr(network, "together", 2)
    monkeypatch.setattr(network.generator.predictor.batches, "size", 2)
    whole, launched = network.model.image_encoder.forward, []

    def encode(pixels: Any) -> Any:
        launched.append(len(pixels))
        return whole(pixels)

    monkeypatch.setattr(network.model.image_encoder, "forward", encode)
    anew = pipeline.variant(store=str(pipeline.settings.store / "anew"), backend="serial")
    found = anew.refined(images)
    assert launched == [2, 1]
    same = ["image", "mask_id", "counts", "area"]
    assert found[same].equals(wanted[same])
    np.testing.assert_allclose(found["predicted_iou"], wanted["predicted_iou"], atol=1e-5)


def test_the_next_image_is_read_while_a_network_is_busy(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pipeline.split("refscenes", "val").images
    read: list[str] = []
    second = threading.Event()

    def noted(path: Path) -> np.ndarray:
        read.append(str(path))
        if len(read) == 2:
            second.set()
        return load_image(path)

    monkeypatch.setattr("tasnb.method.stages.load_image", noted)
    network: Any = load_proposal_network(pipeline.settings)
    propose, seen = network.propose, []

    def waiting(image: np.ndarray, key: str) -> Any:
        assert second.wait(60)  # it is not asked for until this returns
        seen.append(len(read))
        return propose(image, key)

    monkeypatch.setattr(network, "propose", waiting)
    pipeline.proposals(images)
    assert len(read) == 3 == len(seen) and seen[0] == 2
