"""A sweep is checked as a whole before anything runs, and its variants are put in order."""

from __future__ import annotations

import json

import pytest

from tasnb.reruns import plan
from tasnb.settings import ROOT, InputError

RN, VIT = "open_clip:embedded/clip-rn", "open_clip:embedded/clip-vit"


def of_file(tmp_path, text, **options):
    file = tmp_path / "sweep.toml"
    file.write_text(text)
    return plan.from_file(file, **{"out": str(tmp_path / "out"), **options})


def test_variants_that_share_early_stages_follow_each_other(tmp_path):
    text = f"""
    [base]
    limit = 2
    [grid]
    alpha = [0, 0.1]
    encoders = [["{RN}"], ["{RN}", "{VIT}"]]
    points_per_side = [8, 4]
    """
    found = of_file(tmp_path, text)
    assert found.names == ["encoders", "points_per_side", "alpha"]
    assert [variant.name for variant in found.variants] == [
        f"encoders={encoders},points_per_side={points},alpha={alpha}"
        for encoders in ("clip-rn", "clip-rn+clip-vit")
        for points in (8, 4)
        for alpha in ("0", "0.1")
    ]
    last = found.variants[-1]
    assert last.overrides == {
        "limit": 2,
        "alpha": 0.1,
        "changes": {"encoders": [RN, VIT], "points_per_side": 4},
        "out": str(tmp_path / "out" / last.name),
    }
    assert last.folder == tmp_path / "out" / last.name
    assert [book.name for book in found.notebooks] == ["05_full_eval"]


def test_named_variants(tmp_path):
    text = """
    notebooks = ["04", "05"]
    [variants.paper]
    [variants.'GIT, no N']
    captioner = "git:embedded/git"
    lam = 0
    [variants."../x"]
    alpha = 0
    [variants.GIT]
    captioner = "git:embedded/git"
    """
    found = of_file(tmp_path, text, overrides={"limit": 3})
    names = [variant.name for variant in found.variants]
    assert names[0] == "paper" and names[2:] == ["GIT", "GIT, no N"]
    assert ".." not in names[1] and found.variants[1].folder.parent == tmp_path / "out"
    assert [book.name[:2] for book in found.notebooks] == ["04", "05"]
    assert all(variant.overrides["limit"] == 3 for variant in found.variants)


def test_names_of_folders(tmp_path):
    text = "[variants.'../up and away']\nalpha = 0\n[variants.figures]\nalpha = 1\n"
    names = [variant.name for variant in of_file(tmp_path, text).variants]
    assert [name[:-6] for name in names] == ["up and away-", "figures-"]


def test_values_on_the_command_line(tmp_path):
    texts = [["alpha", "0", "0.1"], ["encoders", f"{RN},{VIT}", RN], ["num_beams", "1"]]
    found = plan.from_arguments([], texts, overrides={"profile": "embedded"})
    assert found.out == ROOT / "runs" / "sweeps" / "encoders-alpha"
    assert [variant.values for variant in found.variants] == [
        {"encoders": encoders, "alpha": alpha}
        for encoders in ([RN, VIT], [RN])
        for alpha in (0, 0.1)
    ]
    assert found.variants[0].overrides["changes"] == {"num_beams": 1, "encoders": [RN, VIT]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid]", "a sweep needs two variants or more: give several values"),
        ("[grid]\nalpha = []", r"alpha = \[\]: a grid needs a list of values, not empty"),
        ("[grid]\nalpha = 0.1", "alpha = 0.1: a grid needs a list"),
        ("[grid]\nalpha = [0.1]", "a sweep needs two variants or more"),
        ("[grid]\nalpha = [1, 1]", "alpha=1 occurs twice"),
        ("[grid]\nalpah = [0, 1]", "unknown setting 'alpah': did you mean 'alpha'"),
        ("[grid]\nalpha = [0, 'x']", "alpha = 'x': should be of type float"),
        ("[grid]\nalpha = [0, -1]", "alpha = -1: should be greater"),
        ("[grid]\nstore = ['a', 'b']", "store does not change results"),
        ("[grid]\nout = ['a', 'b']", "out does not change results"),
        ("[base]\nout = 'a'\n[grid]\nalpha = [0, 1]", "out cannot be given to a sweep"),
        ("[base]\nlimt = 1\n[grid]\nalpha = [0, 1]", "unknown setting 'limt'"),
        ("[base]\nlimit = 'x'\n[grid]\nalpha = [0, 1]", "limit = 'x': should be of type int"),
        ("[variants.a]\n[variants.b]\nalpha = 0.1", "variants a and b are the same"),
        ("[variants]\na = 1\nb = 2", "variant a should be a table"),
        ("alpha = [0, 1]", r"alpha belongs below \[base\] for all"),
        ("alhpa = [0, 1]", "unknown key of a sweep 'alhpa'"),
        ("[variants.a]\nlam = 1\n[variants.b]\nalhpa = 0", "^variant b: unknown setting 'alhpa'"),
        ("[variants.a]\nlam = 1\n[variants.b]\nalpha = -1", "^variant b: alpha = -1: should"),
        ("", r"should have either a table \[grid\]"),
        ("[grid]\nalpha = [0, 1]\n[variants.a]", "should have either"),
        ("grid = 3", r"grid should be a table, such as \[grid\]"),
        ("notebooks = '05'\n[grid]\nalpha = [0, 1]", "notebooks should be a list"),
        ("notebooks = ['9']\n[grid]\nalpha = [0, 1]", "unknown notebook '9'"),
        ("[grid", "is not valid TOML"),
        ("[grid]\nalpha = [0, 1]\nprofile = ['embedded', 'papers']", "unknown profile 'papers'"),
    ],
)
def test_invalid_sweeps(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        of_file(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([["alpha"]], "-p alpha: give at least one value"),
        ([["alpha", "0.1"]], "a sweep needs two variants or more"),
        ([["alpha", "0", "1"], ["alpha", "2"]], "-p alpha is given twice"),
        ([["limit", "0", "1"]], "-p limit is given twice"),
        ([["beta", "0", "1"]], "unknown parameter 'beta'"),
    ],
)
def test_invalid_values_on_the_command_line(tmp_path, texts, message):
    with pytest.raises(InputError, match=message):
        plan.from_arguments([], texts, str(tmp_path / "out"), {"limit": 2})


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        plan.from_file(tmp_path / "none.toml")


def test_only_the_same_sweep_continues_in_its_folder(tmp_path):
    def again(values, **base):
        return plan.make(["05"], base, {f"alpha={v}": {"alpha": v} for v in values}, str(out))

    out = tmp_path / "out"
    out.mkdir()
    first = again([0, 0.1], limit=2)
    (out / plan.SWEEP).write_text(json.dumps(first.content()))
    assert len(again([0, 0.1, 0.2], limit=2).variants) == 3  # more values
    assert len(again([0.2, 0.3], limit=2, backend="dask").variants) == 2
    with pytest.raises(InputError, match="contains another sweep"):
        again([0, 0.1], limit=3)
    (out / plan.SWEEP).unlink()
    (out / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"--out .* exists: remove it, or choose another name"):
        again([0, 0.1], limit=2)
