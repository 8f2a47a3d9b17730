"""What differs between runs is listed, and their tables are put side by side."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from finished_runs import make_run

from tasnb.reruns import differences, pairs
from tasnb.reruns.finished import open_runs

CATS = [(f"image {k}", "the cat", 1, 50, 100) for k in range(4)]


def alter(file, **changes):
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **changes}))


def test_only_what_differs_is_listed(tmp_path):
    folders = [
        make_run(tmp_path / "a", {"refscenes-val": CATS}),
        make_run(
            tmp_path / "b", {"refscenes-val": CATS}, alpha=0.2, splits=["val"], backend="dask"
        ),
    ]
    assert len(differences.origins(open_runs(folders))) == 2
    versions = json.loads((folders[1] / "run.json").read_text())["versions"]
    alter(folders[1] / "run.json", code="f" * 64, versions={**versions, "torch": "0.1"})
    book = folders[1] / "notebooks/05_full_eval.run.json"
    alter(book, models={"open_clip:embedded/clip-vit": "9" * 64})
    rows = differences.origins(open_runs(folders))
    assert rows.values.tolist() == [
        ["setting", "splits", "default", "val"],
        ["setting", "alpha", "0.1", "0.2"],
        ["code", "the package", "c" * 12, "f" * 12],
        ["weights", "open_clip:embedded/clip-vit", "e" * 12, "9" * 12],
        ["version", "torch", versions["torch"], "0.1"],
    ]


def test_other_sentences_are_said_first(tmp_path):
    one = make_run(tmp_path / "a", {"refscenes-val": CATS, "refscenes-testA": CATS})
    two = make_run(tmp_path / "b", {"refscenes-val": CATS[1:]})
    runs = open_runs([one, two])
    (said,) = differences.coverage(runs, pairs.shared_sentences(pairs.all_pairs(runs)))
    assert said.startswith("a and b cover different sentences: 8 and 3, of which 3 are in both.")
    assert said.endswith("Only in a: RefScenes testA.")
    assert differences.coverage(runs[:1], {}) == []
    alter(one / "run.json", earlier={"06_ablations": ["the code changed"]})
    (said,) = differences.coverage(open_runs([one]), {})
    assert said == "In a, 06_ablations is from an earlier run: the code changed."


def test_tables_of_metrics_side_by_side(tmp_path):
    one = make_run(tmp_path / "a", {"refscenes-val": CATS, "refscenes-testA": CATS})
    more = [(image, text, 1, 70, 100) for image, text, *_ in CATS]
    two = make_run(tmp_path / "b", {"refscenes-val": more})
    frame = differences.side_by_side(open_runs([one, two]), "table1")
    assert list(frame)[-3:] == ["a", "b", "b − a"]
    rows = frame.set_index(["metric", "split", "method"])[["a", "b", "b − a"]]
    assert rows.loc["mIoU", "val", "TAS"].tolist() == pytest.approx([50, 70, 20])
    assert rows.loc["mIoU", "testA", "TAS"].isna().tolist() == [False, True, True]
    assert set(frame["metric"]) == {"oIoU", "mIoU"} and len(frame) == 8


def test_other_tables_are_matched_by_their_first_columns(tmp_path):
    runs = open_runs([make_run(tmp_path / name, {"refscenes-val": CATS}) for name in "ab"])
    claims = [("P helps", "+1 points", "held"), ("N helps", "0 points", "undecided")]
    names = ["the paper says", "measured here", "verdict"]
    for run, rows in zip(
        runs, (claims, [claims[1], ("P helps", "-1 points", "not held")]), strict=True
    ):
        run.tables["claims"] = run.folder / "tables/claims.csv"
        pd.DataFrame(rows, columns=names).to_csv(run.tables["claims"], index=False)
    frame = differences.side_by_side(runs, "claims")
    assert list(frame) == [
        "the paper says", "measured here (a)", "measured here (b)", "verdict (a)", "verdict (b)",
    ]  # fmt: skip
    assert frame.values.tolist() == [
        ["P helps", "+1 points", "-1 points", "held", "not held"],
        ["N helps", "0 points", "0 points", "undecided", "undecided"],
    ]
    for run in runs:  # rows that cannot be told apart are matched by number
        pd.DataFrame({"x": ["1", "1"], "y": ["2", "2"]}).to_csv(run.tables["claims"], index=False)
    assert differences.side_by_side(runs, "claims").values.tolist() == [[1, 2], [1, 2]]
