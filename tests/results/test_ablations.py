"""Tables 6 and 7 and the row with FreeSOLO: other models in the places of the first ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasnb import Pipeline
from tasnb.method.masked_images import masked_images
from tasnb.method.metrics import evaluate
from tasnb.method.proposals import best_proposals, decode
from tasnb.models.encoders import load_encoder
from tasnb.results import ablations, tables
from tasnb.settings import make_settings

RN, VIT = make_settings().encoders
SWAPPED = (("refscenes+", "testA"), ("refscenesg", "val(U)"))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder: Path = tmp_path_factory.mktemp("ablations")
    return Pipeline(make_settings(limit=2, store=str(folder / "store"), out=str(folder / "out")))


def value(pipeline: Pipeline, method: str, encoder: str, column: tuple[str, str]) -> float:
    result = tables.outcome(pipeline, method, encoder, *column)
    return evaluate(result["intersection"], result["union"])["mIoU"]


def test_the_columns_of_tables_6_and_7() -> None:
    assert tuple(ablations.swapped(make_settings())) == SWAPPED
    on_photographs = [("refcoco+", "testA"), ("refcocog", "val(U)")]
    assert ablations.swapped(make_settings("paper")) == on_photographs


def test_table_6(pipeline: Pipeline) -> None:
    table = ablations.table6(pipeline)
    rows = table[table["metric"] == "mIoU"]
    assert len(rows) == 2 * 3 * 2  # encoders, captioners, columns
    assert rows["paper"].notna().all()
    cells = rows.set_index(["method", "encoder", "dataset"])["value"]
    for encoder in (RN, VIT):
        for column in SWAPPED:
            key = (tables.short(encoder), column[0])
            assert cells["no captioner", *key] == value(pipeline, "CLIP-only", encoder, column)
            assert cells["BLIP-2", *key] == value(pipeline, "TAS", encoder, column)
    ours, theirs = (p.scored(*SWAPPED[0], VIT) for p in (pipeline, pipeline.with_other_captioner))
    same = ["V", "mask_id", "sentence"]  # the captioner has no say in these, but in P
    np.testing.assert_array_equal(ours.pairs[same], theirs.pairs[same])
    assert (ours.pairs["P"] != theirs.pairs["P"]).any()
    assert (ours.sentences["caption"] != theirs.sentences["caption"]).any()  # and in N


def test_table_7(pipeline: Pipeline) -> None:
    table = ablations.table7(pipeline)
    rows = table[table["metric"] == "mIoU"]
    names = ["CLIP", "CLIP-TAS", "BLIP-2-ITC", "BLIP-2-TAS", "ALBEF-ITC", "ALBEF-TAS"]
    assert rows["method"].tolist() == [name for name in names for _ in range(2)]
    assert rows["paper"].notna().all()
    assert rows["encoder"].unique().tolist() == ["clip-vit", "blip2-itc", "albef"]
    cells = rows.set_index(["method", "dataset"])["value"]
    for column in SWAPPED:
        assert cells["CLIP-TAS", column[0]] == value(pipeline, "TAS", VIT, column)


@pytest.mark.parametrize("name", make_settings().other_encoders)
def test_both_towers_of_an_encoder_stand_in(pipeline: Pipeline, name: str) -> None:
    """V, P and N of one sentence from the encoder itself, crop by crop and text by text."""
    column = SWAPPED[0]
    table, split = pipeline.scored(*column, name), pipeline.split(*column)
    sentence = table.sentences.iloc[-1]
    pairs = table.pairs[table.pairs["sentence"] == len(table.sentences) - 1]
    encoder = load_encoder(name, pipeline.settings)
    masks = pipeline.proposals(split.images)
    masks = masks[(masks["image"] == sentence["image"]) & masks["kept"]]
    image = pipeline.pixels(split.images, sentence["image"])
    crops = encoder.encode_images(masked_images(image, decode(masks), "crop", 75))
    crops = crops.reshape(len(crops), -1, crops.shape[-1])  # (masks, vectors, D)

    def cosines(text: str) -> list[float]:
        read = encoder.encode_texts([text])[0]
        return [max(float(v @ read) for v in mine) for mine in crops]

    asked = encoder.encode_texts([sentence["sentence"]])[0]
    p = [float(v @ asked) for v in encoder.encode_texts(pairs["caption"].tolist())]
    away = [cosines(f"a photo of {phrase}") for phrase in sentence["negatives"]]
    np.testing.assert_allclose(pairs["V"], cosines(sentence["sentence"]), atol=1e-5)
    np.testing.assert_allclose(pairs["P"], p, atol=1e-5)
    assert len(away) > 0
    np.testing.assert_allclose(pairs["N"], -np.mean(away, 0), atol=1e-5)


def test_global_local_on_freesolo_has_all_of_its_masks(pipeline: Pipeline) -> None:
    column = ("refscenes", "val")
    other = pipeline.on_other_network
    split = other.split(*column)
    masks = other.proposals(split.images)
    assert masks["kept"].all() and len(masks) >= 4
    chosen = tables.outcome(pipeline, tables.FREESOLO, VIT, *column)
    best = best_proposals(split.sentences, masks)
    assert (chosen["iou"] <= best["iou"] + 1e-9).all() and (chosen["mask_id"] >= 0).all()
    refined = tables.outcome(pipeline, "Global-Local", VIT, *column)
    assert not chosen.equals(refined)
    # What needs no captions asks for none.
    assert other._caption_stage("blur").missing(split.images) == list(split.images)
