"""The baselines on the embedded checkpoints, from pixels to a score per sentence and mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask

from tasnb import Pipeline
from tasnb.baselines import scoring
from tasnb.method.proposals import decode
from tasnb.models.clip import activation_maps, towers
from tasnb.models.encoders import load_encoder
from tasnb.settings import InputError, make_settings

RN, VIT = "open_clip:embedded/clip-rn", "open_clip:embedded/clip-vit"


@pytest.fixture(scope="module")
def pipeline(shared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    out = tmp_path_factory.mktemp("baselines")
    return Pipeline(make_settings(limit=2, store=str(shared_store), out=str(out)))


def scored(pipeline: Pipeline, method: str, encoder: str) -> pd.DataFrame:
    """The pairs of two images of RefScenes val with image, sentence and the score of a method."""
    split = pipeline.split("refscenes", "val")
    table = pipeline.scored("refscenes", "val", encoder)
    score = scoring.scores(pipeline, method, split, encoder, table)
    assert score.shape == (len(table.pairs),) and np.isfinite(score).all()
    columns = table.sentences[["image", "sentence", "subject"]].rename(columns={"sentence": "text"})
    return table.pairs[["sentence", "mask_id"]].join(columns, on="sentence").assign(score=score)


def literal_means(map_: torch.Tensor, pairs: pd.DataFrame, pipeline: Pipeline, mode: str) -> list:
    """The mean of a map (h, w), enlarged to the image, in the mask of each pair of an image."""
    image = pairs["image"].iloc[0]
    masks = pipeline.proposals(pipeline.split("refscenes", "val").images)
    masks = masks[masks["image"] == image].set_index("mask_id")
    found = []
    for mask_id in pairs["mask_id"]:
        row = masks.loc[mask_id]
        rle = {"size": [int(row["height"]), int(row["width"])], "counts": row["counts"]}
        mask = coco_mask.decode(rle).astype(bool)
        large = F.interpolate(map_[None, None], mask.shape, mode=mode, align_corners=False)[0, 0]
        found.append(float(large.numpy()[mask].mean()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [RN, VIT])
@pytest.mark.parametrize("method", ["Score Map", "CLIP Surgery", "Grad-CAM"])
def test_a_score_is_the_mean_of_the_map_in_the_mask(
    method: str, encoder: str, pipeline: Pipeline
) -> None:
    """For six sentences, whose maps are computed and enlarged one at a time."""
    pairs = scored(pipeline, method, encoder)
    loaded = load_encoder(encoder, pipeline.settings)
    tower = towers.tower_of(loaded)
    images = pipeline.split("refscenes", "val").images
    for _, mine in list(pairs.groupby("sentence"))[::4][:6]:
        text = mine["text"].iloc[0]
        pixels = towers.to_pixels(
            tower, pipeline.pixels(images, mine["image"].iloc[0]), imagenet=method == "Score Map"
        )
        if method == "Grad-CAM":
            vector = torch.from_numpy(loaded.encode_texts([f"a photo of {text.lower()}"]))
            map_ = activation_maps.grad_cam(tower, pixels, vector)[0]
        else:
            vector = loaded.encode_texts([text, ""])
            vector = vector[0] - vector[1] * (method == "CLIP Surgery")
            function = {
                "Score Map": activation_maps.score_map,
                "CLIP Surgery": activation_maps.clip_surgery,
            }[method]
            with torch.no_grad():
                map_ = function(tower, pixels)[0] @ torch.from_numpy(vector)
        mode = "bicubic" if method == "Grad-CAM" else "bilinear"
        np.testing.assert_allclose(
            mine["score"], literal_means(map_, mine, pipeline, mode), atol=1e-5
        )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Twelve targets, each alone on the background of its scene: image, mask, noun."""
    import cv2

    folder = str(tmp_path_factory.mktemp("alone"))
    pipeline = Pipeline(make_settings(store=folder, out=folder))
    split = pipeline.split("refscenes", "val")
    rows = split.sentences.drop_duplicates("ref_id")
    share = rows["share"]
    found = []
    for index, row in rows[share.between(0.03, 0.2)].head(12).iterrows():
        image, mask = pipeline.pixels(split.images, row["image"]), split.ground_truth(index)
        backdrop = np.median(image, axis=1, keepdims=True).astype(np.uint8)
        soft = cv2.GaussianBlur(mask.astype(np.float32), (5, 5), 0)[..., None]
        found.append(((soft * image + (1 - soft) * backdrop).astype(np.uint8), mask, row["target"]))
    return found


@pytest.mark.parametrize("method", ["Score Map", "CLIP Surgery", "Grad-CAM"])
def test_the_resnets_maps_peak_on_the_only_object(
    method: str, alone: list, pipeline: Pipeline
) -> None:
    import cv2

    higher = peaks = 0
    for image, mask, noun in alone:
        map_ = scoring.maps(pipeline, RN, image, f"a photo of a {noun}")[method]
        large = cv2.resize(map_, mask.shape[::-1])
        higher += large[mask].mean() > large[~mask].mean()
        near = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15), np.uint8))
        peaks += near[np.unravel_index(large.argmax(), large.shape)]
    assert higher >= 11 and peaks >= 7


def test_region_token_is_a_cosine(pipeline: Pipeline) -> None:
    pairs = scored(pipeline, "Region Token", VIT)
    assert pairs["score"].between(-1, 1).all() and pairs["score"].std() > 0.01


@pytest.mark.parametrize("encoder", [RN, VIT])
def test_global_local_without_its_global_half_is_the_crop(
    encoder: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v = 0: the cosine similarity of the crop to half the sentence plus half its subject."""
    monkeypatch.setattr(scoring, "GLOBAL_SHARE", 0.0)
    pairs = scored(pipeline, "Global-Local", encoder)
    loaded = load_encoder(encoder, pipeline.settings)
    tower = towers.tower_of(loaded)
    images = pipeline.split("refscenes", "val").images
    one = pairs[pairs["sentence"] == pairs["sentence"].max()]
    masks = pipeline.proposals(images)
    masks = masks[(masks["image"] == one["image"].iloc[0]) & masks["kept"]]
    from tasnb.baselines.region_features import local_pixels

    with torch.no_grad():
        pixels = local_pixels(tower, pipeline.pixels(images, one["image"].iloc[0]), decode(masks))
        crops = F.normalize(tower(pixels), dim=1).numpy()
    raw = loaded.encode_texts([one["text"].iloc[0], one["subject"].iloc[0]], normalize=False)
    if encoder == VIT:
        text = raw.sum(0) / np.linalg.norm(raw.sum(0))
    else:
        text = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).mean(0)
    np.testing.assert_allclose(one["score"], crops @ text, atol=1e-5)


def test_the_share_of_the_global_half_is_lower_on_the_g_family(pipeline: Pipeline) -> None:
    """The same stored halves, with weight 0.95, or 0.85 where sentences are long."""
    table = pipeline.scored("refscenes", "val", VIT)
    asked = scoring.Asked(pipeline, "refscenes", VIT, table.sentences)
    stored = np.random.default_rng(0).normal(size=(3, 256)).astype(np.float32)
    whole, crops = stored[:, :128], stored[:, 128:]
    for dataset, share in (("refscenes", 0.95), ("refscenes+", 0.95), ("refscenesg", 0.85)):
        _, masks = scoring._mixed(asked._replace(dataset=dataset), stored)
        mixed = share * whole + (1 - share) * crops
        expected = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        np.testing.assert_allclose(masks, expected, atol=1e-5)


def test_which_methods_work_on_which_tower(pipeline: Pipeline) -> None:
    maps = ("CLIP Surgery", "Score Map", "Grad-CAM")
    assert scoring.methods_of(RN, pipeline.settings) == (*maps, "Global-Local")
    assert scoring.methods_of(VIT, pipeline.settings) == (*maps, "Region Token", "Global-Local")


def test_another_kind_of_encoder_has_none_and_says_why(pipeline: Pipeline) -> None:
    class Other:
        """An encoder that is not an open_clip model."""

    image = np.zeros((24, 32, 3), np.uint8)
    assert scoring.maps(pipeline, "albef:embedded/albef", image, "a cat") == {}
    with pytest.raises(InputError, match="ResNet or a plain ViT"):
        towers.tower_of(Other())


def test_stored_features_are_used_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {m: scored(pipeline, m, VIT)["score"] for m in scoring.METHODS}

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    for name in ("score_map", "clip_surgery", "grad_cam"):
        monkeypatch.setattr(activation_maps, name, refuse)
    again = Pipeline(pipeline.settings)
    for method, score in first.items():
        pd.testing.assert_series_equal(scored(again, method, VIT)["score"], score)


def test_an_image_without_proposals(tmp_path: Path) -> None:
    settings = make_settings(
        limit=1, store=str(tmp_path / "s"), out=str(tmp_path), pred_iou_thresh=1.0
    )
    pipeline = Pipeline(settings)
    table = pipeline.scored("refscenes", "val", VIT)
    split = pipeline.split("refscenes", "val")
    for method in scoring.METHODS:
        score = scoring.scores(pipeline, method, split, VIT, table)
        assert score.shape == (0,) and (table.choose(score, False) == -1).all()
