"""HybridGL: what is read from expressions, and its guidance against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tasnb import Pipeline
from tasnb.baselines import hybridgl, region_features, scoring
from tasnb.baselines.relations import places_of
from tasnb.method.proposals import decode
from tasnb.models.clip import activation_maps, towers
from tasnb.models.encoders import load_encoder
from tasnb.models.parsers import load_parser
from tasnb.settings import make_settings

VIT = "open_clip:embedded/clip-vit"


@pytest.mark.parametrize(
    ("text", "others", "relation", "position"),
    [
        ("dog", [], "", ""),
        ("dog left of the cat", ["the cat"], "left", "left"),
        ("dog right of the cat", ["the cat"], "right", "right"),  # which the authors' code misses
        ("the dog under the tree", ["the tree"], "below", "bottom"),
        ("top shelf", [], "above", "top"),
        ("man on the left side", ["the left side"], "", "left"),  # "side" is a place
        ("dog holding a ball next to the tree", ["a ball", "the tree"], "", ""),
        ("middle cup between the dogs", ["the dogs"], "", "middle"),
        ("smaller dog", [], "smaller", ""),
    ],
)
def test_what_is_read(text: str, others: list[str], relation: str, position: str) -> None:
    frame = hybridgl.read_guidance([text], load_parser(make_settings().spacy_model))
    assert frame.values.tolist() == [[text, "\n".join(others), relation, position]]


# --- Guidance -------------------------------------------------------------------------------------


def exp_share(values: list[float]) -> list[float]:
    total = sum(np.exp(value) for value in values)
    return [np.exp(value) / total for value in values]


def literal(own, others, heat, inside, outside, compare, relation) -> dict[int, float]:
    """Candidate -> 0.4 softmax(r) + 0.6 softmax(C), one candidate and one mask at a time."""
    best = sorted(range(len(own)), key=lambda i: -own[i])[:3]
    if others is None:
        near, likely = best, own
    else:
        near, likely = sorted(range(len(own)), key=lambda j: -others[j])[:6], others
    related, coherent = [], []
    for i in best:
        if relation:
            related.append(sum(own[i] * likely[j] * compare[i][j] for j in near))
        else:
            related.append(sum(own[i] for _ in near))
        b = {"bigger": 1.95, "smaller": 1.5}.get(relation, 1.8)
        mean_in = sum(w * a for w, a in zip(inside[i], heat, strict=True))
        mean_out = sum(w * a for w, a in zip(outside[i], heat, strict=True))
        coherent.append((2 - b) * mean_in - b * mean_out)
    shares = zip(best, exp_share(related), exp_share(coherent), strict=True)
    return {i: 0.4 * r + 0.6 * c for i, r, c in shares}


@pytest.mark.parametrize("count", [1, 2, 5, 9])
@pytest.mark.parametrize("relation", ["", "left", "bigger", "smaller"])
@pytest.mark.parametrize("alone", [True, False])
def test_guidance_against_loops(count: int, relation: str, alone: bool) -> None:
    """Images with fewer masks than candidates change nothing for those that follow."""
    rng = np.random.default_rng(count)
    own, others = rng.dirichlet(np.ones(count)), rng.dirichlet(np.ones(count))
    heat, compare = rng.random(16), rng.integers(0, 2, (count, count)).astype(float)
    inside, outside = rng.random((2, count, 16)) / 16
    given = (own, None if alone else others, heat, inside, outside)
    found = hybridgl.guided(*given, compare if relation else None, relation)
    expected = literal(*given, compare, relation)
    assert np.flatnonzero(np.isfinite(found)).tolist() == sorted(expected)
    for i, value in expected.items():
        assert found[i] == pytest.approx(value)


@pytest.mark.parametrize("position", ["", *hybridgl.POSITIONS])
def test_ramps_and_heat(position: str) -> None:
    values = np.random.default_rng(3).normal(size=(5, 5))
    scaled = (values - values.min()) / (values.max() - values.min())
    for row in range(5):
        for column in range(5):
            x, y = (column + 0.5) / 5, (row + 0.5) / 5
            scaled[row, column] *= {
                "left": 1 - x, "right": x, "top": 1 - y, "bottom": y,
                "middle": 1 - abs(2 * x - 1), "": 1,
            }[position]  # fmt: skip
    found = hybridgl.heat_map(values.ravel(), position)
    np.testing.assert_allclose(found, (scaled / scaled.mean()).ravel())


def test_an_even_map_has_no_nan() -> None:
    assert (hybridgl.heat_map(np.ones(16), "") == 1).all()


# --- Scores ---------------------------------------------------------------------------------------


@torch.no_grad()
def test_scores_sentence_by_sentence(shared_store: Path, tmp_path: Path) -> None:
    """Everything is computed for one sentence and one mask at a time, on whole pictures."""
    pipeline = Pipeline(make_settings(limit=2, store=str(shared_store), out=str(tmp_path)))
    split = pipeline.split("refscenes", "val")
    table = pipeline.choices("refscenes", "val")
    scores = scoring.scores(pipeline, "HybridGL", split, VIT, table)
    loaded = load_encoder(VIT, pipeline.settings)
    tower, scale = towers.tower_of(loaded), float(loaded.model.logit_scale.exp())
    texts = table.sentences["sentence"].tolist()
    read = hybridgl.read_guidance(texts, load_parser(pipeline.settings.spacy_model))
    guided = 0
    for sentence, mine in list(table.pairs.groupby("sentence"))[::2]:
        row, said = table.sentences.loc[sentence], read.loc[sentence]
        refined = pipeline.refined({row["image"]: split.images[row["image"]]})
        image, masks = pipeline.pixels(split.images, row["image"]), decode(refined)
        features = []
        for mask in masks:
            views = region_features.fused_pixels(tower, image, mask[None])
            feature = region_features.fused_features(tower, *views, torch.from_numpy(mask[None]))
            features.append(feature[0].numpy() / np.linalg.norm(feature))
        names = [row["sentence"].lower(), row["subject"].lower()]
        text = loaded.encode_texts(names, normalize=False).sum(0)
        own = exp_share([scale * f @ text / np.linalg.norm(text) for f in features])
        others = None
        if said["others"]:
            prompts = ["a photo of " + phrase for phrase in said["others"].split("\n")]
            text = loaded.encode_texts(prompts, normalize=False).mean(0)
            others = exp_share([scale * f @ text / np.linalg.norm(text) for f in features])
        noun = loaded.encode_texts([f"a photo of a {names[1]}."])[0]
        map_ = activation_maps.gem(tower, towers.to_pixels(tower, image))[0].numpy() @ noun
        heat = torch.from_numpy(hybridgl.heat_map(map_.ravel(), said["position"]))
        large = F.interpolate(
            heat.reshape(1, 1, *map_.shape).float(), masks.shape[1:], mode="bilinear"
        )
        means = [[large[0, 0].numpy()[some].mean() for some in (m, ~m)] for m in masks]
        means = np.array(means)[..., None]
        compare = places_of(refined).compare(said["relation"]) if said["relation"] else None
        inside, outside = means[:, 0], means[:, 1]
        expected = literal(own, others, [1.0], inside, outside, compare, said["relation"])
        found = scores[mine.index]
        assert np.flatnonzero(np.isfinite(found)).tolist() == sorted(expected)
        np.testing.assert_allclose(
            found[sorted(expected)], [expected[i] for i in sorted(expected)], atol=1e-3
        )
        guided += bool(said["relation"]) + (others is not None)
    assert guided >= 3


def test_a_mask_of_the_whole_picture_has_no_outside() -> None:
    """Its mean outside is 0 rather than NaN."""
    tower = towers.tower_of(load_encoder(VIT, make_settings()))
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    masks = np.ones((2, 60, 80), bool)
    masks[1, :, 40:] = False
    with torch.no_grad():
        vectors = hybridgl._of_masks(tower, image, masks, 7)
    inside, outside = vectors[:, -98:-49], vectors[:, -49:]
    assert np.isfinite(vectors).all() and (outside[0] == 0).all()
    np.testing.assert_allclose([*inside.sum(1), outside[1].sum()], 1, atol=1e-5)
