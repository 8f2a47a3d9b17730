"""Datasets of one's own through the models: targets that are not there, names that stay apart."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_dataset import annotated, ref
from PIL import Image

from tasnb import Pipeline
from tasnb.datasets.images import load_image
from tasnb.datasets.splits import columns
from tasnb.method import proposals
from tasnb.results import analysis, browser, no_target, shown, tables
from tasnb.settings import make_settings

ENCODER = "open_clip:embedded/clip-vit"


def general(folder: Path) -> None:
    """Two sentences without a target, one of them on a picture without proposals."""
    files = [folder / "refs(me).json", folder / "instances.json"]
    refs, instances = (json.loads(file.read_text()) for file in files)
    Image.new("RGB", (320, 240), (128, 128, 128)).save(folder / "images" / "9.png")
    instances["images"].append({"id": 9, "file_name": "9.png", "height": 240, "width": 320})
    refs += [
        ref(90, 9, "val/new", ["a purple cow"], ann_id=[-1], no_target=True),
        ref(91, 1, "val/new", ["a purple cow"], ann_id=[-1], no_target=True),
    ]
    for file, content in zip(files, (refs, instances), strict=True):
        file.write_text(json.dumps([{**r, "split": "val/new"} for r in content])
                        if content is refs else json.dumps(content))  # fmt: skip


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Two folders of the same name, of which the second has a picture turned by EXIF."""
    root = tmp_path_factory.mktemp("own")
    one, two = annotated(root / "v1" / "pets"), annotated(root / "v2" / "pets", 1)
    general(one)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = two / "images" / "000001.jpg"
    Image.fromarray(load_image(picture)).save(picture, exif=exif)
    return Pipeline(
        make_settings(
            datasets=[str(one), str(two)],
            encoders=[ENCODER],
            store=str(root / "store"),
            out=str(root / "run"),
        )
    )


@pytest.mark.slow
def test_sentences_without_a_target_have_a_table(pipeline: Pipeline) -> None:
    found = no_target.table(pipeline)
    own = tables.methods(pipeline, ENCODER)
    assert list(found["method"]) == [*own, "TAS (extended)", tables.ANY]
    assert set(found["dataset"]) == {"v1/pets"} and set(found["split"]) == {"val/new"}
    assert (found["sentences"] == 10).all() and (found["no target"] == 2).all()
    assert (found["several targets"] == 0).all()
    # On the grey picture there are no proposals to choose from; on the other all methods choose.
    always = found[found["method"] != tables.ANY]
    assert (always["N-acc"] == 50).all() and (always["T-acc"] == 100).all()
    column = columns(pipeline.settings)[0]
    for row in found.itertuples():
        plain = tables.outcome(pipeline, row.method, ENCODER, *column)
        apart = no_target.answers(pipeline, row.method, ENCODER, *column)
        answered = apart["union"]
        assert ((answered > 0) == (apart["mask_id"] >= 0)).all()
        if row.method != tables.ANY:
            assert sorted(answered > 0) == [False, True]
        assert row.gIoU == pytest.approx(100 * (plain["iou"].sum() + (answered == 0).sum()) / 10)
        union = plain["union"].sum() + answered.sum()
        assert row.cIoU == pytest.approx(100 * plain["intersection"].sum() / union)
    shown.save(found, "no_target", pipeline.settings, no_target.NOTE)
    saved = (pipeline.settings.out / "tables" / "no_target.md").read_text(encoding="utf-8")
    assert sum(line.startswith("| v1/pets ") for line in saved.splitlines()) == len(found)
    assert no_target.NOTE in saved


@pytest.mark.slow
def test_answers_of_several_masks_or_none_have_a_row(pipeline: Pipeline) -> None:
    """With thresholds that answer everything or nothing, whatever the models are worth."""
    column, folder = columns(pipeline.settings)[0], pipeline.settings.datasets[0]
    run = pipeline.in_recipe("extended").variant(datasets=[folder], answers="any")
    every = run.variant(least_evidence=-10.0, several_share=0.0)
    masks = every.refined(every.split(*column).images)
    taken = tables.outcome(every, "TAS", ENCODER, *column)
    for row, (image, union) in enumerate(zip(taken["image"], taken["union"], strict=True)):
        truth = every.split(*column).ground_truth(row)
        whole = proposals.decode(masks[masks["image"] == image]).any(0)
        assert union == (whole | truth).sum()
    values = no_target.table(every).set_index("method").loc["TAS"]
    assert values["N-acc"] == 50 and values["T-acc"] == 100
    never = no_target.table(run.variant(least_evidence=10.0)).set_index("method").loc["TAS"]
    assert (never["N-acc"], never["T-acc"], never["cIoU"]) == (100, 0, 0)
    assert never["gIoU"] == pytest.approx(20)  # 2 of 10 sentences


@pytest.mark.slow
def test_sentences_with_several_targets_have_it_too(tmp_path: Path, pipeline: Pipeline) -> None:
    folder = annotated(tmp_path / "many", 1)
    refs = json.loads((folder / "refs(me).json").read_text())
    refs[0]["ann_ids"] = [10, 11]
    (folder / "refs(me).json").write_text(json.dumps(refs))
    found = no_target.table(pipeline.variant(datasets=[str(folder)]))
    assert (found["several targets"] == 2).all() and found["N-acc"].isna().all()
    assert tables.ANY in set(found["method"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FREESOLO", "released"])
def test_rows_of_other_runs(pipeline: Pipeline, name: str) -> None:
    """Rows that another network or recipe computes answer these sentences as well."""
    method = tables.FREESOLO if name == "FREESOLO" else tables.BY_RECIPE[name]
    column = columns(pipeline.settings)[0]
    assert len(no_target.answers(pipeline, method, ENCODER, *column)) == 2


@pytest.mark.slow
def test_the_other_tables_leave_them_out(pipeline: Pipeline) -> None:
    table = tables.table1(pipeline)
    first = table[table["dataset"] == pipeline.settings.datasets[0]]
    assert (first["n"] == 8).all() and first["value"].notna().all()
    plain = pipeline.variant(datasets=[pipeline.settings.datasets[1]])
    assert no_target.table(plain).empty


@pytest.mark.slow
def test_names_stay_apart(pipeline: Pipeline) -> None:
    table = tables.table1(pipeline)
    assert list(shown.layout(table).columns[-2:]) == ["v1/pets val/new", "v2/pets val"]
    analysis.save_per_sentence(pipeline)
    pages = browser.save(pipeline)
    results = pipeline.settings.out / "results"
    assert all(page.parent == results for page in pages)
    stems = [page.stem for page in pages]
    assert re.fullmatch(r"v1-pets-val-new-[0-9a-f]{6}-clip-vit", stems[0])
    assert stems[1] == "v2-pets-val-clip-vit"
    assert {file.stem for file in results.glob("*.parquet")} == set(stems)
    assert [len(pd.read_parquet(page.with_suffix(".parquet"))) for page in pages] == [8, 4]
    scores = [file.name for file in (pipeline.settings.out / "scores").glob("*")]
    assert len(scores) == 2 and {name.split("-")[0] for name in scores} == {"v1", "v2"}


@pytest.mark.slow
def test_a_page_shows_the_pixels_that_the_masks_are_of(pipeline: Pipeline) -> None:
    """A browser obeys EXIF, so a picture that is read as stored is in the page itself."""
    browser.save(pipeline)
    column = columns(pipeline.settings)[1]
    folder = pipeline.settings.out / "results" / browser.views_name(pipeline.settings, *column)
    (part,) = folder.glob("*.js")
    ((view,),) = [json.loads(part.read_text().partition(" = ")[2].rstrip(";\n"))]
    image = view["picture"]
    assert image["src"].startswith("data:image/jpeg;base64,")
    split = pipeline.split(*column)
    ((key, file),) = split.images.items()
    assert file.as_stored
    assert pipeline.pixels(split.images, key).shape[:2] == tuple(image["size"][::-1])
    assert np.array_equal(split.ground_truth(0).shape, image["size"][::-1])
