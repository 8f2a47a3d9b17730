"""Sentences that runs share are compared in pairs, whatever their order and numbers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from finished_runs import make_run

from tasnb.reruns import pairs, statements
from tasnb.reruns.finished import open_runs
from tasnb.settings import InputError

COLUMN = "refscenes-val"
CATS = [(f"image {k}", "the cat", 1, 50, 100) for k in range(12)]


def better(choices, by=20):
    return [(image, text, 2, inter + by, union) for image, text, _, inter, union in choices]


def test_a_difference_on_every_column_and_over_table_1(tmp_path):
    dogs = [(image, "the dog", 1, 10, 100) for image, *_ in CATS]
    first = {COLUMN: CATS, "refscenes-testA": dogs, "phrasescenes-test": dogs}
    second = {**first, COLUMN: better(CATS)}
    runs = open_runs([make_run(tmp_path / n, r) for n, r in (("a", first), ("b", second))])
    found = pairs.all_pairs(runs)
    rows = pairs.paired(found).set_index(["method", "metric", "column"])
    both = rows.loc["TAS", "mIoU", pairs.ALL]
    assert (both["first"], both["second"], both["sentences"]) == (30, 40, 24)
    assert both["difference"] == pytest.approx(10) and both["CI low"] > 9 and both["p"] < 0.01
    assert rows.loc["TAS", "mIoU", "RefScenes val"]["difference"] == pytest.approx(20)
    assert rows.loc["TAS", "mIoU", "PhraseScenes test"]["difference"] == 0
    assert (rows.loc["CLIP-only"]["difference"] == 0).all()
    changes = pairs.changed(found)
    assert len(changes) == 12 and set(changes["column"]) == {"RefScenes val"}
    total = pairs.shared_sentences(found)
    assert total == {"b": 36}
    (said,) = statements.summary(pairs.paired(found), changes, found)
    said_of_b = "With clip-vit, TAS of b is 10.0 points of mIoU above a on the shared columns of"
    assert said.startswith(f"{said_of_b} Table 1 (95 % conf")
    assert said.endswith("; the choice differs for 12 of 36 sentences.")
    assert "p = 0.000" not in said
    found = pairs.all_pairs(runs[::-1])
    (said,) = statements.summary(pairs.paired(found), pairs.changed(found), found)
    assert "10.0 points of mIoU below b" in said


def test_no_change_is_said_in_words(tmp_path):
    runs = open_runs([make_run(tmp_path / name, {COLUMN: CATS}) for name in "ab"])
    found = pairs.all_pairs(runs)
    changes = pairs.changed(found)
    assert changes.empty
    said = statements.summary(pairs.paired(found), changes, found)
    assert said == ["b and a choose the same masks with clip-vit."]
    assert statements.notes(found) == []


def test_sentences_are_matched_by_content_and_linked_by_their_own_numbers(tmp_path):
    """The second run has them in another order, has more, and one with another ground truth."""
    twice = [("i", "a cat", 1, 10, 100), ("i", "a cat", 1, 30, 100), ("i", "a dog", 1, 50, 100)]
    other = [("j", "a cat", 1, 99, 100), *better(twice[2:]), *twice[:2]]
    runs = open_runs([make_run(tmp_path / n, {COLUMN: r}) for n, r in (("a", twice), ("b", other))])
    (pair,) = pairs.all_pairs(runs)
    assert pair.rows["sentence"].tolist() == ["a cat", "a cat", "a dog"]
    assert pair.rows["TAS IoU 1"].tolist() == [0.1, 0.3, 0.5]
    assert pair.rows["TAS IoU 2"].tolist() == [0.1, 0.3, 0.7]
    (change,) = pairs.changed([pair]).to_dict("records")
    assert change["sentence"] == "a dog" and change["gain"] == pytest.approx(0.2)
    assert change["first page"] == f"{tmp_path}/a/results/{COLUMN}-clip-vit.html#s2"
    assert change["second page"] == f"{tmp_path}/b/results/{COLUMN}-clip-vit.html#s1"
    (tmp_path / "b/results" / f"{COLUMN}-clip-vit.html").unlink()
    assert pairs.changed([pair])["second page"].tolist() == [""]


def test_choices_among_the_same_proposals_are_told_by_their_numbers(tmp_path):
    two = [("i", "a cat", 1, 0, 100), ("i", "a dog", 1, 40, 100)]
    moved = [("i", "a cat", 2, 0, 100), ("i", "a dog", 1, 40, 100)]
    runs = open_runs([make_run(tmp_path / n, {COLUMN: r}) for n, r in (("a", two), ("b", moved))])
    (pair,) = pairs.all_pairs(runs)
    assert pair.told_by == pairs.NUMBERS and pair.changed("TAS").tolist() == [True, False]


def boxes(*wide):
    """Masks of 10 x 100 pixels, numbered from 0: a box from the left, this many pixels wide."""
    return {k: np.tile(np.arange(100) < width, (10, 1)) for k, width in enumerate(wide)}


def test_choices_among_different_proposals_are_told_by_their_masks(tmp_path):
    """Another network cuts every mask a little differently, and numbers them differently."""
    texts = ["the same object", "another object", "on the border"]
    one = [("i", text, k, 50, 100) for k, text in enumerate(texts, start=1)]
    two = [("i", text, 4 - k, 51, 100) for k, text in enumerate(texts, start=1)]
    first, second = boxes(0, 40, 90, 100), boxes(0, 80, 30, 38)
    folders = [
        make_run(tmp_path / "a", {COLUMN: one}, masks=first),
        make_run(tmp_path / "b", {COLUMN: two}, masks=second, min_mask_area=0.0),
    ]
    found = pairs.all_pairs(open_runs(folders))
    (pair,) = found
    assert pair.told_by == pairs.MASKS
    assert pair.changed("TAS").tolist() == [False, True, False]  # IoU 38/40, 30/90, 80/100
    assert pair.changed("CLIP-only").tolist() == [False] * 3  # empty masks
    (said,) = statements.notes(found)
    assert "b and a choose among different proposals, so masks with an IoU of 0.8" in said
    (said,) = statements.summary(pairs.paired(found), pairs.changed(found), found)
    assert said.endswith("; the choice differs for 1 of 3 sentences.")


def test_without_masks_only_outcomes_are_compared(tmp_path):
    one = [("i", "right", 1, 60, 100), ("i", "wrong", 1, 10, 100), ("i", "both", 1, 60, 100)]
    two = [("i", "right", 1, 20, 100), ("i", "wrong", 1, 50, 100), ("i", "both", 1, 61, 100)]
    masks = boxes(0, 40)
    folders = [
        make_run(tmp_path / "old", {COLUMN: one}),
        make_run(tmp_path / "new", {COLUMN: two}, masks=masks),
    ]
    found = pairs.all_pairs(open_runs(folders))
    (pair,) = found
    assert pair.told_by == pairs.OUTCOMES and pair.changed("TAS").tolist() == [True, True, False]
    (said,) = statements.notes(found)
    assert "so choices cannot be compared" in said and "notebook 05" in said
    (said,) = statements.summary(pairs.paired(found), pairs.changed(found), found)
    assert said.endswith("; 2 of 3 sentences are right in only one of the two.")


def test_answers_of_several_masks_or_none(tmp_path):
    """Among the same proposals, all masks of an answer are compared, not the best one alone."""
    rows = [(f"i{k}", "cats", 1, 40, 100) for k in range(4)]
    folders = [make_run(tmp_path / name, {COLUMN: rows}) for name in "ab"]
    file = folders[1] / "results" / f"{COLUMN}-clip-vit.parquet"
    frame = pd.read_parquet(file)
    frame["TAS masks"] = [(1,), (1, 2), (), (1,)]
    frame.loc[2, "TAS mask"] = -1
    for number in (1, 2):
        frame.loc[number, "TAS intersection"] = 80 - 40 * number + 40 * (number == 1)
    frame.to_parquet(file)
    (pair,) = pairs.all_pairs(open_runs(folders))
    assert pair.told_by == pairs.NUMBERS and pair.changed("TAS").tolist() == [
        False,
        True,
        True,
        False,
    ]
    frame["TAS masks"] = [(2, 1), (1, 2), (), (1,)]
    frame.to_parquet(file)
    other = make_run(tmp_path / "c", {COLUMN: rows})
    frame.assign(**{"TAS masks": [(1, 2), (2, 1), (), (1,)]}).to_parquet(
        other / "results" / file.name
    )
    (pair,) = pairs.all_pairs(open_runs([folders[1], other]))
    assert not pair.changed("TAS").any()  # the order does not matter


def test_runs_with_different_encoders_are_compared_by_their_last(tmp_path):
    one = make_run(tmp_path / "a", {COLUMN: CATS})
    two = make_run(tmp_path / "b", {COLUMN: better(CATS)}, encoder="albef:embedded/albef")
    found = pairs.all_pairs(open_runs([one, two]))
    (pair,) = found
    assert pair.encoder == "clip-vit → albef" and len(pair.rows) == 12
    (said,) = statements.summary(pairs.paired(found), pairs.changed(found), found)
    assert said.startswith(
        "TAS of b with albef is 20.0 points of mIoU above a with clip-vit on Ref"
    )


def test_encoders_without_a_counterpart_are_named(tmp_path):
    one = make_run(tmp_path / "a", {COLUMN: CATS})
    two = make_run(tmp_path / "b", {COLUMN: CATS})
    other = "albef:embedded/albef"
    more = make_run(tmp_path / "more", {COLUMN: CATS}, encoder=other)
    name = f"results/{COLUMN}-albef.parquet"
    (two / name).write_bytes((more / name).read_bytes())
    record = two / "notebooks/05_full_eval.run.json"
    content = json.loads(record.read_text())
    content["models"][other], content["outputs"][name] = "0", "0"
    record.write_text(json.dumps(content))
    found = pairs.all_pairs(open_runs([one, two]))
    (said,) = statements.notes(found)
    assert said == "b with albef is not compared with a, which has clip-vit only."


def test_runs_without_common_sentences(tmp_path):
    one = make_run(tmp_path / "a", {COLUMN: CATS})
    for name, results, message in (
        ("b", {"refscenes-testA": CATS}, "a and b have no sentences in common"),
        ("c", {COLUMN: [("k", "the cat", 1, 1, 2)]}, "a and c have no sentences in common"),
        ("d", {}, "has no results per sentence: run notebook 05"),
    ):
        with pytest.raises(InputError, match=message):
            pairs.all_pairs(open_runs([one, make_run(tmp_path / name, results)]))
