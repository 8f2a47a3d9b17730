"""All stages together, with the embedded models on a handful of scenes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick import ENCODER, QUICK, pipeline

from tasnb.method.pipeline import Pipeline
from tasnb.results import tables
from tasnb.settings import InputError, make_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def shards(store: Path) -> dict[str, int]:
    """Shard files and their modification times."""
    return {str(p.relative_to(store)): p.stat().st_mtime_ns for p in store.glob("*/*/shard-*.json")}


@pytest.mark.slow
def test_scores_are_what_their_parts_say(store):
    work = pipeline(store)
    scored = work.scored("refscenes", "val", ENCODER)
    split = work.split("refscenes", "val")
    assert len(scored.sentences) == len(split.sentences)
    kept = work.proposals(split.images).query("kept").groupby("image").size()
    expected = split.sentences["image"].map(kept).fillna(0).sum()
    assert len(scored.pairs) == expected
    # V of one pair, computed from the stored vectors
    rows, vectors = work.mask_embeddings(split.images, ENCODER)
    one = scored.pairs.iloc[-1]
    sentence = scored.sentences.iloc[int(one["sentence"])]
    here = (rows["image"] == sentence["image"]) & (rows["mask_id"] == one["mask_id"])
    text = work.text_embeddings([sentence["sentence"]], ENCODER)[sentence["sentence"]]
    assert one["V"] == pytest.approx(float(vectors[here.to_numpy()][0] @ text), abs=1e-6)


def test_nothing_is_computed_twice(store):
    pipeline(store).scored("refscenes", "val", ENCODER)
    before = shards(store)
    table = tables.table1(pipeline(store))
    after = shards(store)
    new = {name.split("/")[0] for name in after.keys() - before.keys()}
    # Not used by TAS; the proposals are those of FreeSOLO.
    assert new == {"global-local", "region-token", "texts-raw", "proposals"}
    assert before.items() <= after.items()
    tables.table1(pipeline(store))
    assert shards(store) == after
    ours = {"Text-only", "Region Token", "Global-Local", tables.FREESOLO, "CLIP-only", "TAS"}
    assert set(table["method"]) == {*ours, "TSEG (cited)"}


def test_a_changed_setting_recomputes_only_what_depends_on_it(store):
    pipeline(store).scored("refscenes", "val", ENCODER)
    before = shards(store)
    pipeline(store, alpha=0.3, lam=0.1).scored("refscenes", "val", ENCODER)
    assert shards(store) == before
    pipeline(store, num_beams=2).scored("refscenes", "val", ENCODER)
    new = {name.split("/")[0] for name in shards(store).keys() - before.keys()}
    assert new <= {"captions-blur", "captions-whole", "texts", "phrases"}
    assert {"captions-blur", "captions-whole"} <= new


def test_images_are_shared_between_datasets(store):
    pipeline(store).scored("refscenes", "val", ENCODER)
    before = {n for n in shards(store) if n.startswith(("proposals", "captions", "crops"))}
    pipeline(store, datasets=["refscenes+"]).scored("refscenes+", "val", ENCODER)
    after = {n for n in shards(store) if n.startswith(("proposals", "captions-blur", "crops"))}
    assert {n for n in after if n.startswith("proposals")} <= before


def test_mirroring_scene_and_words_mirrors_the_choice(tmp_path):
    """If the scores are mirrored as well, the rectifier chooses the mirrored mask."""
    from tasnb.method.rectifier import rectify

    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y, score = rng.uniform(0, 320, 7), rng.uniform(0, 240, 7), rng.random(7)
        for words, mirrored in (("left", "right"), ("left top", "right top")):
            assert rectify(score, x, y, words) == rectify(score, 319 - x, y, mirrored)


SCRIPT = """
import sys
from quick import pipeline
from pathlib import Path
from tasnb.results import tables
tables.table1(pipeline(Path(sys.argv[1]))).to_csv(sys.argv[2], index=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", ["proposals", "captions-blur"])
def test_a_killed_run_goes_on_where_it_was(store, tmp_path, after):
    """Killed between a stage's first and last shard: the table is the same, and only missing shards
    are computed."""
    undisturbed = tables.table1(pipeline(store))
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "s"), str(tmp_path / "t.csv")]
    process = subprocess.Popen(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests' / 'helpers'}"},
    )
    deadline = time.monotonic() + 300
    while not list((tmp_path / "s").glob(f"{after}/*/shard-*.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = shards(tmp_path / "s")
    assert survived
    assert not (tmp_path / "t.csv").exists()
    resumed = tables.table1(pipeline(tmp_path / "s"))
    now = shards(tmp_path / "s")
    assert {name: now[name] for name in survived} == survived
    assert set(now) == {n for n in shards(store) if n in now} >= set(survived)
    pd.testing.assert_frame_equal(resumed, undisturbed)


def test_only_a_run_s_own_scores_are_written(store, tmp_path):
    """Those of a variant would have the same file names."""
    own = Pipeline(make_settings(store=store, out=tmp_path / "out", **QUICK))
    column = ("refscenes", "val")
    own.variant(lam=0.0, subset_overlap=0.4).scored(*column, ENCODER)
    assert not (tmp_path / "out").exists()
    scored = own.scored(*column, ENCODER)
    (file,) = (tmp_path / "out" / "scores").iterdir()
    pd.testing.assert_frame_equal(pd.read_parquet(file), scored.pairs)


@pytest.mark.parametrize("images", [0, -1])
def test_no_images_are_not_all_images(images):
    with pytest.raises(InputError, match=f"^few = {images}: should be a whole number of 1 or more"):
        Pipeline(make_settings()).few(images)


@pytest.mark.slow
def test_variants_share_pairs_unless_these_change(store):
    """Weights of scores change neither masks nor sentences; the rule and the images do."""
    work = pipeline(store)
    column = ("refscenes", "val")
    pairs = work.choices(*column)
    for change in ({"alpha": 0.4}, {"clip_input": "both", "noun_share": 0.5}):
        assert work.variant(**change).choices(*column) is pairs
    for change in (
        {"rectifier_rule": "places"}, {"rectifier_rule": "released"}, {"limit": 2},
        {"subset_overlap": 0.4}, {"negative_rule": "released", "alpha": 0.4},
    ):  # fmt: skip
        assert work.variant(**change).choices(*column) is not pairs
    alone = Pipeline(make_settings(**{**work.settings.model_dump(), "noun_share": 0.5}))
    shared = work.variant(noun_share=0.5).scored(*column, ENCODER)
    pd.testing.assert_frame_equal(shared.pairs, alone.scored(*column, ENCODER).pairs)
    pd.testing.assert_frame_equal(work.choices(*column).pairs, alone.choices(*column).pairs)
