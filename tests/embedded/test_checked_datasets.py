"""The checker on the committed expressions, and on false ones derived from them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from checked import CAT, EMBEDDED, TABLE, H, Things, W, annotate, checker, thing, valid

# Without the datasets this fails instead of being skipped.
REFS = sorted(EMBEDDED.glob("*/refs(*).json")) or [EMBEDDED / "refscenes" / "refs(unc).json"]


@pytest.mark.parametrize(("name", "expected"), [("demo", 2), ("demo+", 3)])
def test_a_dataset_with_problems(name: str, expected: int, tmp_path: Path, capsys) -> None:
    folder = tmp_path / name
    folder.mkdir()
    annotations = annotate(thing(CAT, 20), thing(CAT, 100, colour="white"))
    images = [{"id": 1, "file_name": "1.jpg", "width": W, "height": H}]
    instances = {"images": images, "annotations": annotations, "categories": []}
    (folder / "instances.json").write_text(json.dumps(instances))
    sentences = ["black cat", "left cat", "white cat", "zebra crossing"]
    records = [{"sent": s, "raw": s, "sent_id": i} for i, s in enumerate(sentences)]
    refs = [{"ref_id": 7, "ann_id": 10, "image_id": 1, "sentences": records}]
    (folder / "refs(unc).json").write_text(json.dumps(refs))
    assert checker.main([str(folder)]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert "1.jpg ref 7 'white cat': *cat no, cat yes" in lines
    assert "1.jpg ref 7 'zebra crossing': unknown words in 'zebra crossing': crossing" in lines
    assert last == f"{name} refs(unc).json: 4 sentences, {expected} problems"
    assert len(lines) == expected


@pytest.mark.parametrize("file", REFS, ids=lambda file: f"{file.parent.name} {file.name}")
def test_every_committed_sentence_is_valid(file: Path) -> None:
    assert checker.check_dataset(file.parent, file) == []


def committed(rng: random.Random) -> Iterator[tuple[str, Things, list[int]]]:
    """(sentence, objects, targets) for every committed sentence, in random order."""
    refs = [ref for file in REFS for ref in checker.read_refs(file.parent, file)]
    for _, ref, things, targets in rng.sample(refs, len(refs)):
        for sentence in ref["sentences"]:
            yield sentence["sent"], things, targets


def word_in(words: list[str], sentence: str) -> str | None:
    """The longest of the words that occurs in a sentence."""
    found = [w for w in words if re.search(rf"(?<!\S){re.escape(w)}(?!\S)", sentence)]
    return max(found, key=len, default=None)


def swap_word(sentence: str, old: str, new: str) -> str:
    return re.sub(rf"(?<!\S){re.escape(old)}(?!\S)", new, sentence, count=1)


def another_object(sentence, things, targets, rng) -> tuple | None:
    others = [i for i in range(len(things.attributes)) if i not in targets]
    return (sentence, [rng.choice(others)]) if others else None


def other_side(sentence, things, targets, rng) -> tuple | None:
    swap = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
    changed = " ".join(swap.get(word, word) for word in sentence.split())
    return (changed, targets) if changed != sentence else None


def other_colour(sentence, things, targets, rng) -> tuple | None:
    colours = list(TABLE["colours"])
    old = word_in(colours, sentence)
    absent = [c for c in colours if all(a["colour"] != c for a in things.attributes)]
    return (swap_word(sentence, old, rng.choice(absent)), targets) if old else None


def other_name(sentence, things, targets, rng) -> tuple | None:
    present = {w for a in things.attributes for w in (*a["names"], *a["maybe"], a["noun"])}
    old = word_in(things.attributes[targets[0]]["names"], sentence)
    absent = [n for n in TABLE["nouns"] if n not in present]
    return (swap_word(sentence, old, rng.choice(absent)), targets) if old else None


@pytest.mark.slow
@pytest.mark.parametrize("falsify", [another_object, other_side, other_colour, other_name])
def test_false_sentences_are_rejected(falsify) -> None:
    """100 sentences derived from the committed ones, 25 of each of four kinds."""
    rng = random.Random(0)
    rejected = 0
    for sentence, things, targets in committed(rng):
        if false := falsify(sentence, things, targets, rng):
            assert not valid(false[0], things, false[1]), (sentence, false)
            rejected += 1
            if rejected == 25:
                return
    pytest.fail(f"only {rejected} sentences to falsify")
