"""The recipe ``extended``: each of its terms, recomputed literally from what the stages return."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from quick import ENCODER
from quick import pipeline as quick

import tasnb
from tasnb.cli.arguments import main
from tasnb.datasets.images import load_image
from tasnb.method import places, proposals
from tasnb.method.language import prompted
from tasnb.method.pipeline import Pipeline
from tasnb.method.places.layout import layout
from tasnb.method.places.priors import cost
from tasnb.method.places.relations import related
from tasnb.method.scores import ScoreTable
from tasnb.models.clip import activation_maps, towers
from tasnb.models.encoders import load_encoder
from tasnb.profiles import RECIPES
from tasnb.results import ablations
from tasnb.segmentation.pictures import asked
from tasnb.settings import Settings, make_settings

pytestmark = pytest.mark.slow
COLUMN = ("refscenes", "val")
OFF = {"places_weight": 0.0, "size_prior": 0.0, "relation_weight": 0.0, "coherence": 0.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return quick(tmp_path_factory.mktemp("store"), limit=6)


@pytest.fixture(scope="module")
def scored(run: Pipeline) -> Callable[..., ScoreTable]:
    """The scores with some settings changed."""
    return lambda recipe="published", **changes: (
        run.in_recipe(recipe).variant(**changes).scored(*COLUMN, ENCODER)
    )


@pytest.fixture(scope="module")
def plain(scored: Callable[..., ScoreTable]) -> ScoreTable:
    return scored()


def groups(run: Pipeline, table: ScoreTable):
    """For each sentence: its text, its pairs and the masks of its image, in the same order."""
    masks = run.refined(run.split(*COLUMN).images)
    for number, pairs in table.pairs.groupby("sentence"):
        sentence = table.sentences.iloc[number]
        yield sentence["sentence"], pairs, masks[masks["image"] == sentence["image"]]


def test_the_settings_of_the_recipe() -> None:
    settings = make_settings(recipe="extended")
    assert all(getattr(settings, name) == value for name, value in RECIPES["extended"].items())
    for recipe in ("published", "released"):
        other = make_settings(recipe=recipe)
        assert not (other.size_prior or other.relation_weight or other.coherence)
        assert not other.noun_share and other.clip_input == "crop"
        assert other.rectifier_rule == other.negative_rule == recipe
    assert {n for fields in ablations.CHOICES.values() for n in fields} == RECIPES[
        "extended"
    ].keys()


def test_with_everything_off_it_is_the_published_one(
    scored: Callable[..., ScoreTable], plain: ScoreTable
) -> None:
    back = {name: Settings.model_fields[name].default for name in RECIPES["extended"]}
    same = scored(recipe="extended", **back)
    pd.testing.assert_frame_equal(same.pairs, plain.pairs, check_exact=True)
    pd.testing.assert_frame_equal(same.sentences, plain.sentences, check_exact=True)
    # soft places that weigh nothing keep every mask, whatever the expression says
    free = scored(rectifier_rule="places", **OFF)
    assert free.pairs["in_region"].all() and "G" not in free.pairs
    total = plain.total(0.1, 0.7)
    assert (free.choose(total, True) == plain.choose(total, False)).all()


def test_places_and_size_are_added_where_the_rectifier_acts(
    run: Pipeline, scored: Callable[..., ScoreTable], plain: ScoreTable
) -> None:
    table = scored(rectifier_rule="places", places_weight=0.4, size_prior=0.2, temperature=0.03)
    pd.testing.assert_frame_equal(table.pairs[[*"VPN"]], plain.pairs[[*"VPN"]], check_exact=True)
    seen = 0
    rows, vectors = run.mask_embeddings(run.split(*COLUMN).images, ENCODER)
    for text, pairs, masks in groups(run, table):
        read = table.sentences.iloc[pairs["sentence"].iloc[0]]
        noun = prompted(places.unplaced(text, read["subject"])) if read["head"] else text
        crops = vectors[(rows["image"] == read["image"]).to_numpy()]
        v = crops @ run.text_embeddings([noun], ENCODER)[noun]
        likely = np.exp((v - v.max()) / 0.03)
        size = masks["height"].iloc[0], masks["width"].iloc[0]
        where = layout(masks[[*"xywh"]].to_numpy(float), size)
        cues = places.read(text).cues
        share = np.sqrt(masks["w"] * masks["h"] / (size[0] * size[1]))
        wanted = 0.2 * share.to_numpy() - 0.4 * cost(cues, where, likely)
        np.testing.assert_allclose(pairs["G"], wanted, atol=1e-6)
        seen += bool(cues)
    assert seen
    total = table.total(0.1, 0.7)
    np.testing.assert_array_equal(total, plain.total(0.1, 0.7))
    np.testing.assert_allclose(table.placed(total), total + table.pairs["G"])
    best = table.pairs.assign(S=table.placed(total)).groupby("sentence")["S"].idxmax()
    assert table.choose(total, True).tolist() == best.tolist()
    free = table.pairs.assign(S=total).groupby("sentence")["S"].idxmax()
    assert table.choose(total, False).tolist() == free.tolist()


def test_relations_to_what_the_second_noun_looks_like(run: Pipeline) -> None:
    """On a sentence of our own, since few of the first ones have a relation."""
    image = load_image(next(iter(run.split(*COLUMN).images.values())))
    text = "the thing next to the chair and left of a dog"
    assert [noun for _, noun in places.read(text).relations] == ["chair", "dog"]
    own = {"store": str(run.settings.store), "encoders": [ENCODER], "temperature": 0.1}
    found = tasnb.segment(image, text, relation_weight=0.5, **own)
    wanted = np.zeros(len(found.frame))
    for kind, noun in places.read(text).relations:
        v = tasnb.segment(image, prompted(noun), **own).frame["V"].to_numpy()
        chance = np.exp((v - v.max()) / 0.1)
        where = layout(*boxes_of(image, own))
        wanted += 0.5 * related(kind, where, chance / chance.sum())
    np.testing.assert_allclose(found.frame["G"], wanted, atol=1e-5)


def boxes_of(image: np.ndarray, own: dict) -> tuple[np.ndarray, tuple[int, int]]:
    """The boxes of the proposals of a picture, and its size."""
    settings = make_settings(**own)
    one = asked(image, settings)
    masks = Pipeline(settings).refined({one.key: one.source})
    return masks[[*"xywh"]].to_numpy(float), (one.height, one.width)


def test_both_views_are_the_mean_of_two(scored: Callable[..., ScoreTable]) -> None:
    crop, blur, both = (scored(clip_input=form).pairs for form in ("crop", "blur", "both"))
    for name in "VN":
        np.testing.assert_allclose(both[name], (crop[name] + blur[name]) / 2, atol=1e-6)
    np.testing.assert_array_equal(both["P"], crop["P"])


def test_the_subject_counts_with_its_share(
    run: Pipeline, scored: Callable[..., ScoreTable], plain: ScoreTable
) -> None:
    table = scored(noun_share=0.25)
    rows, vectors = run.mask_embeddings(run.split(*COLUMN).images, ENCODER)
    for number, pairs in table.pairs.groupby("sentence"):
        read = table.sentences.iloc[number]
        noun = prompted(places.unplaced(read["sentence"], read["subject"]))
        texts = run.text_embeddings([read["sentence"], noun], ENCODER)
        mixed = 0.75 * texts[read["sentence"]] + 0.25 * texts[noun]
        crops = vectors[(rows["image"] == read["image"]).to_numpy()]
        wanted = (
            crops @ (mixed / np.linalg.norm(mixed))
            if read["head"]
            else plain.pairs["V"][pairs.index]
        )
        np.testing.assert_allclose(pairs["V"], wanted, atol=1e-5)


def test_negatives_from_the_other_masks(run: Pipeline, scored: Callable[..., ScoreTable]) -> None:
    table = scored(negative_rule="masks")
    rows, vectors = run.mask_embeddings(run.split(*COLUMN).images, ENCODER)
    some = list(groups(run, table))[:12]
    for text, pairs, masks in some:
        said = pairs["caption"].tolist()
        told = [prompted(caption) for caption in said]
        texts = run.text_embeddings([text, *said, *told], ENCODER)
        crops = vectors[(rows["image"] == masks["image"].iloc[0]).to_numpy()]
        pixels = proposals.decode(masks)
        for m, value in enumerate(pairs["N"]):
            parts = []
            for j in range(len(masks)):
                shared = (pixels[m] & pixels[j]).sum() / min(pixels[m].sum(), pixels[j].sum())
                if shared <= 0.1:
                    weight = 1 - float(texts[text] @ texts[said[j]])
                    parts.append(weight * float(crops[m] @ texts[told[j]]))
            assert value == pytest.approx(-np.mean(parts) if parts else 0, abs=1e-5)
    assert (table.sentences["negatives"].map(len) == 0).all()


def test_coherence_is_the_mean_inside_less_the_mean_outside(
    run: Pipeline, scored: Callable[..., ScoreTable], plain: ScoreTable
) -> None:
    table = scored(coherence=0.5)
    text, pairs, masks = next(groups(run, table))
    tower = towers.tower_of(load_encoder(ENCODER, run.settings))
    image = run.pixels(run.split(*COLUMN).images, masks["image"].iloc[0])
    with torch.no_grad():
        map_ = activation_maps.score_map(tower, towers.to_pixels(tower, image, imagenet=True))[0]
        map_ = (map_ @ torch.from_numpy(run.text_embeddings([text], ENCODER)[text]))[None, None]
        large = torch.nn.functional.interpolate(map_, image.shape[:2], mode="bilinear")[
            0, 0
        ].numpy()
    wanted = [large[m].mean() - large[~m].mean() for m in proposals.decode(masks)]
    np.testing.assert_allclose(pairs["C"], 0.5 * np.array(wanted), atol=1e-5)
    np.testing.assert_allclose(table.total(0.1, 0.7), plain.total(0.1, 0.7) + table.pairs["C"])


def test_nothing_is_computed_that_is_not_asked_for(run: Pipeline, scored, plain) -> None:
    def stages() -> set[str]:
        return {path.parts[-3] for path in Path(run.settings.store).glob("*/*/shard-*.json")}

    before = {path: path.stat().st_mtime_ns for path in Path(run.settings.store).glob("*/*/*.json")}
    scored(rectifier_rule="places", size_prior=0.1, noun_share=0.5)
    scored(recipe="extended")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert "crops-both" not in stages()


def test_segment_with_the_recipe(run: Pipeline, tmp_path: Path, capsys) -> None:
    image = next(iter(run.split(*COLUMN).images.values())).path
    own = {"store": str(run.settings.store)}
    found = tasnb.segment(image, "the second thing from the left", recipe="extended", **own)
    frame = found.frame
    assert list(frame.columns)[:6] == ["mask_id", "V", "P", "N", "G", "S"]
    s = frame["V"] + 0.1 * frame["P"] + 0.3 * frame["N"] + frame["G"]
    np.testing.assert_allclose(frame["S"], s, atol=1e-6)
    assert frame["kept"].all() and frame.index[frame["chosen"]].tolist() == [frame["S"].idxmax()]
    together = tasnb.segment_many([(image, "left"), (image, "right")], recipe="extended", **own)
    assert len({int(one.frame["mask_id"][one.frame["chosen"]].iloc[0]) for one in together}) == 2
    out = tmp_path / "mask.png"
    words = ["segment", str(image), "the second thing from the left", "--recipe", "extended",
             "-p", "store", str(run.settings.store), "--mask", str(out),
             "--out", str(tmp_path / "overlay.png")]  # fmt: skip
    assert main(words) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out)) > 0, found.mask)


def test_what_each_choice_is_worth(run: Pipeline) -> None:
    table = ablations.extended(run, ENCODER, [COLUMN]).set_index("choice")
    assert list(table.index) == ["extended", *ablations.CHOICES, *ablations.NOT_CHOSEN]

    def miou(recipe: str = "published", **changes: object) -> float:
        pipeline = run.in_recipe(recipe).variant(**changes)
        return float(100 * ablations._pooled(pipeline, ENCODER, [COLUMN])["iou"].mean())

    published, extended = miou(), miou(recipe="extended")
    both = miou(clip_input="both"), miou(recipe="extended", clip_input="crop")
    row = table.loc["surroundings blurred as well as black"]
    assert row["first"] == pytest.approx(both[0] - published)
    assert row["last"] == pytest.approx(extended - both[1])
    assert table.loc["extended", "first"] == pytest.approx(extended - published)
    masks = table.loc["N from the captions of the other masks"]
    assert masks["last"] == pytest.approx(miou(recipe="extended", negative_rule="masks") - extended)
    assert (table["first low"] <= table["first"]).all() and (
        table["last"] <= table["last high"]
    ).all()
