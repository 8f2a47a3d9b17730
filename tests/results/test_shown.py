"""How tables are shown: the paper's layout, the best in bold, no NaN, and a note that says all."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from tasnb.results import shown, tables
from tasnb.settings import PLACES, Settings, make_settings

VIT, RN = "open_clip:embedded/clip-vit", "open_clip:embedded/clip-rn"


def outcome(*pairs: tuple[int, int]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["intersection", "union"])


def main_table(columns: list[tuple[str, str]], better: int = 0) -> pd.DataFrame:
    """IoU 1/2 and 3/4 for every method of Table 1 on some columns; TAS has so many pixels more."""
    found = []
    for (dataset, split), encoder in product(columns, (RN, VIT)):
        for method in tables.OWN:
            if method == "Text-only" and encoder == RN:
                continue
            name = "" if method == "Text-only" else encoder
            more = better if method == "TAS" and encoder == VIT else 0
            cells = outcome((100 + more, 200), (300, 400))
            found.append(tables.rows("table1", method, name, dataset, split, cells))
    return pd.concat(found, ignore_index=True)


# --- the paper's layout


def test_table_1_in_the_papers_layout() -> None:
    wide = shown.layout(main_table([("refscenes", "val"), ("refscenesg", "test(G)")]), best=False)
    assert list(wide.columns) == [
        "metric", "encoder", "method", "RefScenes val", "RefScenesg test(G)"
    ]  # fmt: skip
    methods = [("", "Text-only"), *product(["clip-rn", "clip-vit"], ["CLIP-only", "TAS"])]
    assert wide[["metric", "encoder", "method"]].values.tolist() == [
        [metric, *row] for metric in ("oIoU", "mIoU") for row in methods
    ]
    assert wide["RefScenes val"][:3].tolist() == ["66.67 (18.65)", "66.67 (23.41)", "66.67 (29.75)"]
    assert wide["RefScenesg test(G)"][9] == "62.50 (48.05)"


def test_the_best_of_a_column_is_bold() -> None:
    """Of our numbers of each metric, whichever row the paper has ahead; of equals, all."""
    columns = [("refscenes", "val"), ("refscenes", "testA")]
    wide = shown.layout(main_table(columns, better=20)).set_index(["metric", "encoder", "method"])
    for name in ("RefScenes val", "RefScenes testA"):
        bold = wide.index[wide[name].str.startswith("**")].tolist()
        assert bold == [("oIoU", "clip-vit", "TAS"), ("mIoU", "clip-vit", "TAS")]
    assert wide["RefScenes val"]["oIoU", "clip-vit", "TAS"] == "**70.00** (29.53)"
    even = shown.layout(main_table(columns))
    assert even["RefScenes val"].str.startswith("**").all()
    alone = tables.rows("table2", "TAS", VIT, "phrasescenes", "test", outcome((1, 4)))
    assert shown.layout(alone)["mIoU"].tolist() == ["25.00 (24.66)"]  # nothing to be better than


def test_rows_are_in_the_papers_order() -> None:
    """Whatever the order in which they were computed; what is only cited comes last."""
    names = [
        (VIT, "TAS (released)"), (VIT, "TAS"), (VIT, "Region Token"), (RN, "TAS"),
        (RN, "Grad-CAM"), (RN, "CLIP Surgery"), ("", "Text-only"), (RN, "Global-Local"),
        (RN, "Score Map"), (RN, "CLIP-only"),
    ]  # fmt: skip
    cells = outcome((1, 2))
    found = [tables.rows("table1", m, e, "refscenes", "val", cells) for e, m in names]
    frame = pd.concat(found)
    frame = pd.concat([frame, tables._cited("TSEG", frame)], ignore_index=True)
    wide = shown.layout(frame)
    assert wide[["encoder", "method"]].values.tolist() == [
        ["", "Text-only"],
        *(["clip-rn", m] for m in ("CLIP Surgery", "Score Map", "Grad-CAM", "Global-Local")),
        ["clip-rn", "CLIP-only"], ["clip-rn", "TAS"], ["clip-vit", "Region Token"],
        ["clip-vit", "TAS"], ["clip-vit", "TAS (released)"], ["ViT-S/16", "TSEG (cited)"],
    ]  # fmt: skip
    assert wide["oIoU"].iloc[-1] == "(25.95)" and wide["mIoU"].iloc[-1] == ""
    # Both recipes are compared with the paper's one row.
    assert wide["oIoU"].iloc[-3] == wide["oIoU"].iloc[-2] == "**50.00** (29.53)"


def test_upper_bounds_have_no_column_of_encoders() -> None:
    columns = (("refscenes", "val"), ("refscenes", "testA"))
    found = [
        tables.rows("upper_bound", name, "", *column, outcome((1, 2)))
        for name in ("all proposals", "refined")
        for column in columns
    ]
    wide = shown.layout(pd.concat(found, ignore_index=True), best=False)
    assert list(wide.columns) == ["metric", "method", "RefScenes val", "RefScenes testA"]


def test_short_cells_are_not_broken_into_lines() -> None:
    cells = [
        "+ spatial",
        "box P@0.5",
        "**66.67** (18.65)",
        "CLIP-only",
        "a sentence of some length",
        "-3.1",
    ]
    page = BeautifulSoup(shown.view(pd.DataFrame({"a": cells})).to_html(), "html.parser")
    whole = [tag.text for tag in page.select("td .whole")]
    assert whole == ["+ spatial", "box P@0.5", "66.67 (18.65)", "CLIP-only"]
    assert re.search(r"\.whole \{\s*white-space: nowrap;", page.style.text)


def test_code_in_a_cell_is_set_as_code() -> None:
    frame = pd.DataFrame({"cannot run here": ["needs `pip install a<b`; **not** here"]})
    html = shown.view(frame).to_html()
    assert "needs <code>pip install a&lt;b</code>; **not** here" in html


def test_one_column_has_the_metrics_across() -> None:
    found = [
        tables.rows("table4", name, VIT, "refscenes", "val", outcome((k, 4)))
        for k, name in enumerate(tables.MODULES, 1)
    ]
    wide = shown.layout(pd.concat(found, ignore_index=True))
    assert list(wide.columns) == ["encoder", "method", "oIoU", "mIoU"]
    assert wide["method"].tolist() == list(tables.MODULES)
    assert wide.iloc[3, 2:].tolist() == ["**100.00** (29.53)", "**100.00** (39.84)"]
    assert wide.iloc[0, 2:].tolist() == ["25.00 (23.01)", "25.00 (33.01)"]


def test_a_missing_cell_is_blank() -> None:
    frame = main_table([("refscenes", "val"), ("refscenes", "testA")])
    frame = frame[(frame["method"] != "Text-only") | (frame["split"] != "testA")]
    assert shown.layout(frame)["RefScenes testA"].tolist()[0::5] == ["", ""]


# --- cells of any table


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (-0.001, 2, "0.00"), (-0.0, 1, "0.0"), (np.float32(1.25), 1, "1.2"), (-1.005, 1, "-1.0"),
        (np.nan, 2, ""), (None, 2, ""), (pd.NA, 2, ""), (np.int64(7), 2, "7"), (True, 2, "yes"),
        (np.False_, 2, "no"), (["a dog", "a cat"], 2, "a dog, a cat"), ("a | b", 2, "a | b"),
    ],
)  # fmt: skip
def test_cells(value: object, digits: int, expected: str) -> None:
    assert shown.text(value, digits) == expected


def test_datasets_have_one_name_everywhere(tmp_path: Path) -> None:
    """The table for people has titles, the file for programs the names of the settings."""
    frame = pd.DataFrame(
        {"dataset": ["refscenes+"], "split": ["val"], "gain": [-0.00001], "p": 5e-4}
    )
    shown.save(frame, "steps", make_settings(out=str(tmp_path)))
    text = (tmp_path / "tables" / "steps.md").read_text()
    assert text.splitlines()[2] == "| RefScenes+ | val | 0.00 | 0.0005 |"
    rows = (tmp_path / "tables" / "steps.csv").read_text().splitlines()
    assert rows[1] == "refscenes+,val,0.0000,0.0005"


def test_markdown() -> None:
    frame = pd.DataFrame({"a": ["x|y", ""], "b": [1.5, np.nan]})
    expected = "| a | b |\n| --- | --- |\n| x\\|y | 1.50 |\n|  |  |\n"
    assert shown.to_markdown(shown.presented(frame)) == expected


# --- what is saved and shown


def test_saved_tables(tmp_path: Path) -> None:
    frame, settings = main_table([("refscenes", "val")]), make_settings(out=str(tmp_path))
    found = shown.save(frame, "table1", settings, more="Made up.")
    folder = tmp_path / "tables"
    ends = ("csv", "md", "parquet", "tex")
    assert sorted(p.name for p in folder.iterdir()) == [f"table1.{end}" for end in ends]
    read = pd.read_csv(folder / "table1.csv", keep_default_na=False, na_values={"paper": [""]})
    assert list(read.columns) == tables.COLUMNS and len(read) == len(frame)
    assert read["value"].tolist() == pytest.approx(frame["value"].tolist(), abs=5e-5)
    assert read["paper"].equals(frame["paper"])
    assert len(pd.read_parquet(folder / "table1.parquet")) == len(frame)
    text, note = (folder / "table1.md").read_text(), shown.note(settings, "table1")
    assert text == shown.to_markdown(shown.layout(frame)) + f"\nMade up. {note}\n"
    html = found.to_html()
    assert "<b>66.67</b> (18.65)" in html and "**" not in html and "row_heading" not in html
    assert note.replace("'", "&#x27;") in html


def test_a_table_without_rows_is_a_sentence(tmp_path: Path) -> None:
    """No header without a body, on the page, in the notebook, or in the Markdown."""
    settings = make_settings(out=str(tmp_path))
    for name in ("table1", "table1_extra", "table2", "table2_extra", "claims"):
        found = shown.save(pd.DataFrame(columns=tables.COLUMNS), name, settings)
        said = (tmp_path / "tables" / f"{name}.md").read_text()
        assert "|" not in said and len(said.splitlines()[0]) > 20
        assert found.data == f"*{said.splitlines()[0]}*"
    assert pd.read_csv(tmp_path / "tables" / "table2.csv").columns.tolist() == tables.COLUMNS
    assert "Nothing to show" in shown.view(pd.DataFrame({"a": []})).data


def test_a_frame_of_another_kind_keeps_its_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"claim": ["a", "<b>"], "verdict": ["held", "not held"]})
    html = shown.save(frame, "claims", make_settings(out=str(tmp_path))).to_html()
    text = (tmp_path / "tables" / "claims.md").read_text()
    assert text.startswith("| claim | verdict |\n| --- | --- |\n| a | held |\n| <b> | not held |\n")
    assert "&lt;b&gt;" in html


# --- notes


def test_what_is_written_under_a_table(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("{}")
    own, misprint = str(tmp_path), "differs markedly from its neighbours"
    said = shown.note(make_settings(), "table1")
    assert said.startswith("Results of the paper in parentheses, obtained on other data.")
    assert misprint in said
    said = shown.note(make_settings("paper"), "table1")
    assert said.startswith("Results of the paper in parentheses. ") and misprint in said
    said = shown.note(make_settings(datasets=[own]), "table1")
    assert said.startswith("Profile embedded") and misprint not in said
    assert "parentheses" not in shown.note(make_settings(), "causes", beside_paper=False)
    for name, one in (("table3", True), ("table5", True), ("table1", False), ("table6", False)):
        said = shown.note(make_settings(recipe="extended", answers="any"), name)
        assert ("the best mask alone" in said) == one
        assert "the best mask alone" not in shown.note(make_settings(), name)


def test_a_note_lists_every_changed_setting() -> None:
    """Whatever it is, with its value, but for where the run is computed and stored."""
    assert "Changed" not in shown.note(make_settings())
    changes = {
        "alpha": 0.8, "captioner": "git:embedded/git", "limit": 3, "areas_of": None,
        "datasets": ["refscenes", "refscenesg"], "splits": ["val", "val(U)"], "num_beams": 1,
    }  # fmt: skip
    said = shown.note(make_settings(**changes, out="elsewhere", store="there", workers=2))
    for text in (
        "alpha = 0.8", "captioner = git:embedded/git", "limit = 3", "areas_of = none",
        "datasets = refscenes, refscenesg", "splits = val, val(U)", "num_beams = 1",
    ):  # fmt: skip
        assert text in said
    assert "elsewhere" not in said and "workers" not in said
    released = shown.note(make_settings(recipe="released", alpha=0.2))
    assert "recipe released" in released and "Changed from the profile: alpha = 0.2." in released


def test_every_setting_is_either_a_place_or_listed() -> None:
    other = {
        bool: lambda v: not v, int: lambda v: v + 2, float: lambda v: v / 2 + 0.01,
        str: lambda v: {"blur": "crop", "crop": "blur", "full": "half", "published": "released",
                        "processes": "dask", "first": "random", "one": "any", "all": "paper"}
        .get(v, f"open_clip:{v or 'x'}"),
    }  # fmt: skip
    for name in Settings.model_fields:
        value = getattr(make_settings(), name)
        if name in ("profile", "recipe", "datasets", "splits") or type(value) not in other:
            continue
        settings = make_settings(**{name: other[type(value)](value)})
        assert (name in settings.changed) == (name not in PLACES), name


def test_a_note_says_which_row_is_the_other_recipe() -> None:
    said = shown.note(make_settings(both_recipes=True), "table1")
    assert "recipe published" in said and "TAS (released) is TAS with the other recipe." in said
    said = shown.note(make_settings("paper", recipe="released"), "table2")
    assert "recipe released" in said and "TAS (published) is TAS with the other recipe." in said
    assert "other recipe" not in shown.note(make_settings("paper"), "table3")
