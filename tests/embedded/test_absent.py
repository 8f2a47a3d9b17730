"""Phrases of development scenes that are true of nothing in their scene."""

from __future__ import annotations

import json
from pathlib import Path

import checked
import numpy as np
import pytest
from checked import TABLE, H, Things, W, annotate, checker, thing, valid
from expressions import STYLES, Writer
from pictures import Look
from pycocotools import mask as coco_mask
from scenes import Object, Scene

WORLDS = {
    "pets": (
        thing(checked.CAT, 20),
        thing(checked.DOG, 100),
        thing(checked.CAT, 170, colour="white"),
    ),
    "street": (
        thing(checked.CAR, 30),
        thing(checked.TAXI, 110),
        thing(checked.MAN, 160, activity="running"),
    ),
    "park": (
        thing(checked.TREE, 40),
        thing(checked.COAT, 100, colour="red"),
        thing(checked.CHEF, 150),
        thing(checked.DOG, 180, colour="black"),
    ),
}
LOOK = {"kind": "person", "maybe": [], "gender": "", "activity": "", "look": "", "maybe_looks": []}


def scene(*things: tuple) -> Scene:
    """A scene as the generator has it, with the masks that ``annotate`` makes of it."""
    objects = []
    for layer, row in enumerate(annotate(*things)):
        mask = coco_mask.decode(row["segmentation"]).astype(bool)
        own = {**LOOK, **things[layer][0]}
        colour = own.pop("colour", "")
        fixed = {name: tuple(own.pop(name)) for name in ("names", "maybe", "maybe_looks")}
        look = Look(size=1.0, picture="", unseen=False, **own, **fixed)
        objects.append(Object(look, colour, layer, mask, int(mask.sum())))
    return Scene(0, np.zeros((H, W, 3), np.uint8), tuple(objects))


def writer(name: str, seed: int) -> Writer:
    style = STYLES["phrasescenes"]
    return Writer(scene(*WORLDS[name]), style, np.random.default_rng([seed, *name.encode()]))


def absent(name: str, seed: int, count: int = 2) -> list[str]:
    others = [writer(other, seed) for other in WORLDS if other != name]
    return writer(name, seed).absent(others, count)


@pytest.mark.parametrize("name", WORLDS)
def test_they_are_true_of_nothing(name: str) -> None:
    """By the checker, which shares no code with the generator."""
    things, found = Things(annotate(*WORLDS[name])), set()
    for seed in range(40):
        texts = absent(name, seed)
        assert len(texts) == len(set(texts)) == 2
        assert all(valid(text, things, []) for text in texts), texts
        found |= set(texts)
    assert len(found) > 10


@pytest.mark.parametrize("name", WORLDS)
def test_every_second_one_is_half_true(name: str) -> None:
    """The first has its name, look or colour in common with an object that is there."""
    there: set[str] = set()
    for attributes, _ in WORLDS[name]:
        words = [attributes["noun"], attributes.get("colour", ""), attributes.get("kind", "person")]
        there |= {*words, *attributes["names"], *attributes.get("maybe", [])}
    # "elderly" for "old": other words for the same look or colour
    for group in ("colours", "looks"):
        for word, entry in TABLE[group].items():
            if word in there:
                there |= set(entry.get("also", []))
    for seed in range(40):
        first, _ = absent(name, seed)
        phrases = [first, *first.split()]
        assert there & set(phrases) or any(f" {word}" in f" {first}" for word in there - {""})


def test_the_same_scenes_give_the_same_phrases() -> None:
    assert absent("pets", 7) == absent("pets", 7)


def test_the_checker_reads_refs_without_a_target(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    annotations = annotate(thing(checked.CAT, 20), thing(checked.DOG, 100))
    images = [{"id": 1, "file_name": "1.jpg", "width": W, "height": H}]
    instances = {"images": images, "annotations": annotations, "categories": []}
    (folder / "instances.json").write_text(json.dumps(instances))
    refs = [
        {"ref_id": k, "ann_id": [-1], "no_target": True, "image_id": 1,
         "sentences": [{"sent": text, "raw": text, "sent_id": k}]}
        for k, text in enumerate(["white cat", "car", "the black cat"])
    ]  # fmt: skip
    (folder / "refs(me).json").write_text(json.dumps(refs))
    assert checker.main([str(folder)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == "1.jpg ref 2 'the black cat': cat yes, dog no"
    assert last == "demo refs(me).json: 3 sentences, 1 problems"
