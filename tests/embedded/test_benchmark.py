"""The properties promised for data/embedded, checked from its files alone."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from tasnb.profiles import DATASETS, PROFILES

DATA = Path(__file__).resolve().parents[2] / "data"
EMBEDDED = DATA / "embedded"
REFS = {name: DATASETS[name].splits for name in PROFILES["embedded"]["datasets"]}
COLUMNS = [(d, s, *where) for d, splits in REFS.items() for s, where in splits.items()]
PLACES = {
    "left",
    "right",
    "leftmost",
    "rightmost",
    "top",
    "bottom",
    "upper",
    "lower",
    "middle",
    "center",
}


def read(*parts: str):
    return json.loads(EMBEDDED.joinpath(*parts).read_text())


def refs_of(dataset: str, split_by: str, inside: str) -> list[dict]:
    return [ref for ref in read(dataset, f"refs({split_by}).json") if ref["split"] == inside]


@pytest.mark.parametrize(("dataset", "split", "split_by", "inside"), COLUMNS)
def test_every_column_is_large_enough(dataset, split, split_by, inside):
    refs = refs_of(dataset, split_by, inside)
    assert len({ref["image_id"] for ref in refs}) >= 40
    assert sum(len(ref["sentences"]) for ref in refs) >= 200


@pytest.mark.parametrize("dataset", REFS)
def test_images_and_annotations(dataset):
    instances = read(dataset, "instances.json")
    sizes = {}
    for row in instances["images"]:
        with Image.open(EMBEDDED / "images" / row["file_name"]) as image:
            assert image.size == (row["width"], row["height"])
        assert row["width"] >= 320
        sizes[row["id"]] = row["width"] * row["height"]
    areas = {a["id"]: a["area"] / sizes[a["image_id"]] for a in instances["annotations"]}
    for split_by, inside in REFS[dataset].values():
        for ref in refs_of(dataset, split_by, inside):
            assert min(areas[i] for i in ref.get("ann_ids", [ref["ann_id"]])) >= 0.01
            assert ref["sent_ids"] == [s["sent_id"] for s in ref["sentences"]]
            assert all(s["tokens"] == s["sent"].split() for s in ref["sentences"])


def test_words_of_place():
    def share(dataset: str) -> float:
        rows = [s for split_by in ("unc",) for r in read(dataset, f"refs({split_by}).json")
                for s in r["sentences"]]  # fmt: skip
        return sum(bool(PLACES & set(s["tokens"])) for s in rows) / len(rows)

    assert 0.4 <= share("refscenes") <= 0.6
    assert share("refscenes+") == 0


def test_test_a_holds_people_and_test_b_everything_else():
    kinds = {
        a["id"]: a["attributes"]["kind"] for a in read("refscenes", "instances.json")["annotations"]
    }
    assert {kinds[r["ann_id"]] for r in refs_of("refscenes", "unc", "testA")} == {"person"}
    assert "person" not in {kinds[r["ann_id"]] for r in refs_of("refscenes", "unc", "testB")}


def test_refscenesg_is_long_and_phrases_may_mean_several():
    long = [s for r in read("refscenesg", "refs(umd).json") for s in r["sentences"]]
    short = [s for r in read("refscenes", "refs(unc).json") for s in r["sentences"]]
    mean = [sum(len(s["tokens"]) for s in rows) / len(rows) for rows in (long, short)]
    assert mean[0] > 2 * mean[1]
    phrases = read("phrasescenes", "refs(phrasecut).json")
    assert sum(len(ref["ann_ids"]) > 1 for ref in phrases) >= 0.2 * len(phrases)


def test_no_evaluation_scene_is_a_training_scene():
    first = 1_000_000
    assert f"TRAINING_SEEDS = {first:_}" in (EMBEDDED / "build" / "pool.py").read_text()
    seeds = [row["seed"] for dataset in REFS for row in read(dataset, "instances.json")["images"]]
    assert max(seeds) < 500_000  # development scenes are between these and the training scenes
    for card in (EMBEDDED / "checkpoints").glob("*/card.json"):
        words = json.loads(card.read_text())["training_scenes"].replace(",", " ").split()
        assert min(int(w) for w in words if w.isdigit() and len(w) > 6) >= first


def test_some_pictures_are_for_evaluation_only():
    annotations = [a for d in REFS for a in read(d, "instances.json")["annotations"]]
    unseen = {a["attributes"]["picture"] for a in annotations if a["attributes"]["unseen"]}
    seen = {a["attributes"]["picture"] for a in annotations if not a["attributes"]["unseen"]}
    assert len(unseen) >= 50
    assert not unseen & seen


def test_vocabulary():
    table = tomllib.loads((EMBEDDED / "build" / "vocabulary.toml").read_text())
    assert len(table["nouns"]) >= 120
    names = {c["name"] for c in read("refscenes", "instances.json")["categories"]}
    assert names == set(table["nouns"])


def test_sizes_on_disk():
    def megabytes(folder: Path) -> float:
        return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6

    assert megabytes(EMBEDDED / "checkpoints") <= 35
    assert megabytes(DATA) <= 60
