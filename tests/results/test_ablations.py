"""Tables 6 and 7 and the row with FreeSOLO: other models in the places of the first ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tasnb import Pipeline
from tasnb.method.masked_images import masked_images
from tasnb.method.metrics import evaluate
from tasnb.method.proposals import best_proposals, decode
from tasnb.models.encoders import load_encoder
from tasnb.results import ablations, analysis, comparison, tables
from tasnb.settings import make_settings

RN, VIT = make_settings().encoders
SWAPPED = (("refscenes+", "testA"), ("refscenesg", "val(U)"))


@pytest.fixture(scope="module")
def pipeline(shared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    out = tmp_path_factory.mktemp("ablations")
    return Pipeline(make_settings(limit=2, store=str(shared_store), out=str(out)))


def value(pipeline: Pipeline, method: str, encoder: str, column: tuple[str, str]) -> float:
    result = tables.outcome(pipeline, method, encoder, *column)
    return evaluate(result["intersection"], result["union"])["mIoU"]


def test_the_columns_of_tables_6_and_7() -> None:
    assert tuple(ablations.swapped(make_settings())) == SWAPPED
    on_photographs = [("refcoco+", "testA"), ("refcocog", "val(U)")]
    assert ablations.swapped(make_settings("paper")) == on_photographs


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_both_recipes_side_by_side(tmp_path: Path) -> None:
    """The row of the other recipe is what a run by that recipe gets; all else stays as it was."""
    few = {
        "limit": 2, "datasets": ["refscenesg", "phrasescenes"], "splits": ["val(U)", "test"],
        "encoders": [VIT], "store": str(tmp_path / "store"), "out": str(tmp_path / "out"),
    }  # fmt: skip
    by = {name: Pipeline(make_settings(recipe=name, **few)) for name in ("published", "released")}
    seen = set()
    for recipe, other in (("published", "released"), ("released", "published")):
        run = Pipeline(make_settings(recipe=recipe, both_recipes=True, **few))
        names = ["TAS", f"TAS ({other})"]
        assert tables.methods(run, VIT)[-2:] == names
        for table, column in (
            (tables.table1, ("refscenesg", "val(U)")),
            (tables.table2, ("phrasescenes", "test")),
        ):
            rows = table(run).query("metric == 'mIoU'").set_index("method").loc[names]
            expected = [value(by[name], "TAS", VIT, column) for name in (recipe, other)]
            assert rows["value"].tolist() == expected
            assert rows["paper"].nunique() == 1 and rows["paper"].notna().all()
            seen.add(tuple(expected))
        assert "TAS (" not in str(comparison.claims(run).to_numpy())
    assert any(first != second for first, second in seen)  # or this says nothing


@pytest.mark.slow
def test_acted_and_changed_are_two_things(pipeline: Pipeline) -> None:
    """Counted per sentence from the masks themselves, and the same in every table."""
    column = ("refscenes", "val")
    scored, settings = pipeline.scored(*column, VIT), pipeline.settings
    rows = analysis.per_sentence(pipeline, VIT, pipeline.split(*column))
    total = scored.total(settings.alpha, settings.lam)
    for index, row in rows.iterrows():
        pairs = scored.pairs[scored.pairs["sentence"] == index]
        inside = pairs["in_region"].to_numpy()
        free = total[pairs.index].argmax()
        assert row["acted"] == (inside.any() and not inside.all())
        assert row["changed"] == (row["acted"] and not inside[free])
    assert rows["acted"].sum() > rows["changed"].sum()
    effect = analysis.rectifier_effect(pipeline, VIT).set_index(["dataset", "split"]).loc[column]
    for name in ("acted", "changed"):
        assert effect[f"{name} (%)"] == pytest.approx(100 * rows[name].mean())


@pytest.mark.slow
def test_results_per_sentence_contain_the_chosen_masks(pipeline: Pipeline) -> None:
    """Decoded, they overlap the ground truth as stated."""
    split = pipeline.split("refscenes", "val")
    rows = analysis.per_sentence(pipeline, VIT, split)
    masks = pipeline.refined(split.images)
    found = analysis.with_masks(rows, masks)
    for index, row in found.iterrows():
        size = [row["height"], row["width"]]
        for method in tables.OWN:
            mask = coco_mask.decode({"size": size, "counts": row[f"{method} counts"]}).astype(bool)
            shared = int((mask & split.ground_truth(index)).sum())
            assert shared == row[f"{method} intersection"], (index, method)
    two = rows.assign(**{"TAS masks": [[0, 1]] * len(rows)})
    both = coco_mask.decode(
        {"size": size, "counts": analysis.with_masks(two, masks)["TAS counts"].iloc[-1]}
    )
    own = masks[(masks["image"] == row["image"]) & masks["mask_id"].isin([0, 1])]
    assert (both == decode(own).any(0)).all() and len(own)
    none = analysis.with_masks(rows.assign(**{"TAS mask": -1}), masks)
    assert (none["TAS counts"] == "").all()


@pytest.mark.slow
def test_a_captioner_that_is_its_own_alternative_has_one_row(pipeline: Pipeline) -> None:
    """As in the profile `lite`, where both are GIT."""
    same = pipeline.variant(other_captioner=pipeline.settings.captioner)
    assert [name for name, _, _ in ablations.captioners(same)] == ["no captioner", "BLIP-2"]
    assert comparison._captioners(same) == []
    said = analysis.two_captioners(same, *SWAPPED[0])
    assert list(said.columns) == ["image", "mask_id", "BLIP-2"] and len(said)


@pytest.mark.slow
def test_a_run_with_nothing_but_phrases(pipeline: Pipeline) -> None:
    """Neither Table 1 nor a claim about any table, and no model to find that out."""
    run = pipeline.variant(datasets=["phrasescenes"], proposal_network="sam:nowhere")
    assert tables.table1(run).empty and tables.table1_extra(run).empty
    claims = comparison.claims(run)
    assert claims.empty and list(claims.columns) == ["the paper says", "measured here", "verdict"]
    few = pipeline.variant(splits=["testA"], proposal_network="sam:nowhere")
    assert tables.table2(few).empty and tables.table2_extra(few).empty


@pytest.mark.slow
def test_table_5_row_by_row_against_the_papers_choice(pipeline: Pipeline) -> None:
    found = comparison.inputs(pipeline).set_index("inputs")
    table = ablations.table5(pipeline, VIT).query("metric == 'mIoU'")
    assert found["mIoU"].tolist() == pytest.approx(table["value"].tolist())
    choice = found.loc["captioner blur, CLIP crop"]
    others, gap = found.drop(choice.name), found["mIoU"] - choice["mIoU"]
    assert choice[["mIoU gain", "CI low", "CI high", "p"]].isna().all()
    assert others["mIoU gain"].tolist() == pytest.approx(gap[others.index].tolist())


@pytest.mark.slow
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
