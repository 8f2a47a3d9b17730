"""Folders of finished runs are read, and others are refused in one line."""

from __future__ import annotations

import json

import pytest
from finished_runs import make_run

from tasnb.reruns.finished import find_runs, in_table_1, open_run, open_runs, title
from tasnb.settings import InputError

CAT = ("a", "the cat", 1, 50, 100)


def test_a_run_is_read_as_its_notebooks_recorded_it(tmp_path):
    some = {"phrasescenes-test": [CAT], "refscenes+-val": [CAT, CAT], "refscenes-val": [CAT]}
    folder = make_run(tmp_path / "one", some)
    (folder / "results" / "refscenes-testA-clip-vit.parquet").write_bytes(b"not of this run")
    (folder / "tables" / "old.csv").write_text("a\n1\n")
    run = open_run(folder)
    assert run.name == "one" and run.encoders == ["clip-vit"] and list(run.tables) == ["table1"]
    assert run.columns == ["refscenes-val", "refscenes+-val", "phrasescenes-test"]
    assert run.size() == (1, 4)
    assert len(run.sentences("refscenes+-val", "clip-vit")) == 2
    run.results["refscenes-val", "clip-vit"].write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"cannot read .*; run notebook 05 again"):
        run.sentences("refscenes-val", "clip-vit")


def test_columns_have_the_names_of_the_tables():
    assert title("refscenesg-test(G)") == "RefScenesg test(G)" and title("mine-x") == "mine-x"
    assert in_table_1("refscenes+-val") and in_table_1("mine-x")
    assert not in_table_1("phrasescenes-test")


def test_the_longest_encoder_name_wins(tmp_path):
    """ "x-vit" ends in "vit", which is another encoder of the same run."""
    folder = make_run(tmp_path / "one", {"refscenes-val": [CAT]}, encoder="open_clip:x-vit")
    record = folder / "notebooks/05_full_eval.run.json"
    content = json.loads(record.read_text())
    content["models"]["open_clip:vit"] = "0"
    record.write_text(json.dumps(content))
    assert list(open_run(folder).results) == [("refscenes-val", "x-vit")]


def test_what_is_no_finished_run(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    unfinished = make_run(tmp_path / "cut", {"refscenes-val": [CAT]})
    (unfinished / "run.json").unlink()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "run.json").write_text('{"status": "ok"}')
    for name, message in {
        "none": "is not a run: there is no such folder",
        "file": "is not a run: there is no such folder",
        "empty": "is not a run: it has no run.json",
        "cut": "is unfinished: resume it",
        "foreign": "was not written by",
    }.items():
        with pytest.raises(InputError, match=message):
            open_run(tmp_path / name)
    make_run(tmp_path / "sweep" / "alpha=0", {})
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    with pytest.raises(InputError, match=r"is a sweep, not a run: name .*/sweep/alpha=0$"):
        open_run(tmp_path / "sweep")
    for text in ("", "[]", '{"status": "fai'):
        (unfinished / "run.json").write_text(text)
        with pytest.raises(InputError, match="is unfinished"):
            open_run(unfinished)


def test_names_tell_runs_apart(tmp_path):
    folders = [make_run(tmp_path / name, {}) for name in ("a/run", "b/run", "c")]
    assert [run.name for run in open_runs(folders[:2])] == ["a/run", "b/run"]
    assert [run.name for run in open_runs(folders[1:])] == ["run", "c"]
    (tmp_path / "link").symlink_to(folders[2])
    with pytest.raises(InputError, match=rf"^{folders[2]} is given twice"):
        open_runs([folders[2], tmp_path / "link"])


def test_runs_are_found_at_any_depth_but_not_in_stores(tmp_path):
    for name in ("b", "sweeps/x/alpha=1", "store/x", ".hidden", "store2"):
        make_run(tmp_path / name, {})
    (tmp_path / "b" / "run.json").unlink()  # not finished
    (tmp_path / "again").symlink_to(tmp_path / "b")
    found = [str(place.relative_to(tmp_path)) for place in find_runs(tmp_path)]
    assert found == ["b", "store2", "sweeps/x/alpha=1"]
