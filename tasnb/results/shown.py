"""Presentation of tables: the paper's layout, uniform numbers, the best in bold, a note below."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from tasnb import profiles
from tasnb.results import latex
from tasnb.results.tables import (
    BOX,
    BY_RECIPE,
    COLUMNS,
    ENCODERS,
    METHODS,
    READINGS,
    counterpart,
)
from tasnb.settings import Settings
from tasnb.store.files import atomic_write

MISPRINTS = {
    "table1": "In the paper, Grad-CAM's mIoU on RefCOCO+ testA (25.66) differs markedly from its "
    "neighbours, and TSEG's results are listed under oIoU although they appear to be mIoU.",
    "table2": "The paper does not give lambda for PhraseCut; here it is the same as for RefCOCO.",
    "table6": "For the mIoU of the ViT without captions on RefCOCOg, the paper's Table 6 gives "
    "46.62, but its Tables 1 and 7 give 42.66.",
}
"""Table -> note on doubtful numbers in the paper."""

ABSENT = {
    "table1": "This run has no split of Table 1, only phrase datasets.",
    "table1_extra": "This run has no split of Table 1, or no encoder with additional rows.",
    "newer": "This run has no split of Table 1, only phrase datasets.",
    **dict.fromkeys(
        ("table2", "table2_extra"),
        "This run has no split of Table 2, neither PhraseCut nor its stand-in PhraseScenes.",
    ),
}
"""Table -> text shown instead of it if it has no rows."""

ONE_MASK = (
    "In this run, an answer may have any number of masks; this table counts the best mask alone, "
    "so that its numbers differ from those of TAS in Table 1."
)
"""Note on ``ONE_MASK_TABLES`` in such a run."""
ONE_MASK_TABLES = ("table3", "table4", "table5")

METRICS = ("oIoU", "mIoU", BOX)
"""Metrics in the paper's layout; the others are only in the csv files."""

WIDE = 8  # tables with more columns are set in small print
SHORT = 14  # characters; cells of no more are not broken into lines


# --- cells


def text(value: Any, digits: int = 2) -> str:
    """The text of a cell: "" for NaN, no minus zero, lists without brackets."""
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(text(item, digits) for item in value)
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{round(float(value), digits) + 0.0:.{digits}f}"
    return str(value)


def presented(frame: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """Any frame as text: titles of datasets, numbers with ``digits`` decimals, p with four."""
    found = frame.copy()
    if "dataset" in found:
        found["dataset"] = _titles(found["dataset"])
    for name in found:
        places = 4 if name == "p" else digits
        found[name] = [text(value, places) for value in found[name]]
    return found.astype(object).reset_index(drop=True)


def intervals(low: pd.Series, high: pd.Series) -> list[str]:
    """Both ends of intervals, as text, in one cell that is not broken; "" where there is none."""
    return [f"{a}\u00a0to\u00a0{b}" if a else "" for a, b in zip(low, high, strict=True)]


def _titles(datasets: pd.Series) -> pd.Series:
    """Titles of datasets, unique for folders of the same name; titles are not changed."""
    among = list(datasets.unique())
    named = [d for d in among if d in profiles.DATASETS or Path(str(d)).is_absolute()]
    return datasets.replace({dataset: profiles.title(dataset, among) for dataset in named})


def layout(frame: pd.DataFrame, best: bool = True) -> pd.DataFrame:
    """A tidy table in the paper's layout, with cells of the form "ours (paper)".

    Table 1 has one row per metric, encoder and method, and one column per split; a table of a
    single split has one row per method and one column per metric. Where no row has an encoder, as
    with upper bounds, neither does the table.

    Args:
        frame: With the columns ``tables.COLUMNS``.
        best: Whether to set our best result for each split and metric in bold.
    """
    frame = frame[frame["metric"].isin(METRICS)].copy()
    if frame.empty:
        return pd.DataFrame()
    frame["column"] = _titles(frame["dataset"]) + " " + frame["split"]
    ours = frame["value"].map(text)
    if best:
        groups = frame["value"].round(2).groupby([frame["metric"], frame["column"]])
        bold = (frame["value"].round(2) == groups.transform("max")) & (
            groups.transform("count") > 1
        )
        ours = ours.where(~bold, "**" + ours + "**")
    paper = frame["paper"].map(lambda x: "" if pd.isna(x) else f" ({x:.2f})")
    frame["cell"] = (ours + paper).str.strip()
    one = frame["column"].nunique() == 1
    index = ["encoder", "method"] if one else ["metric", "encoder", "method"]
    measured = frame.groupby("encoder")["value"].count().to_dict()
    orders: dict[str, Callable[[str], Any]] = {
        "metric": METRICS.index,
        # The paper's order, then others in the given order; rows that are only cited come last.
        "encoder": lambda e: (not measured[e], e != "", ENCODERS.index(counterpart(e))),
        "method": lambda m: METHODS.index(m) if m in METHODS else -1,
    }
    for name in [*index, "column", "metric"]:  # otherwise in order of first appearance
        values = list(dict.fromkeys(frame[name]))
        values = sorted(values, key=orders[name]) if name in orders else values
        frame[name] = pd.Categorical(frame[name], values, ordered=True)
    wide = frame.pivot(index=index, columns="metric" if one else "column", values="cell")
    wide = wide.reset_index().rename_axis(columns=None).astype(object).fillna("")
    return wide if (wide["encoder"] != "").any() else wide.drop(columns="encoder")


# --- notes


def provenance(settings: Settings) -> str:
    """The models and data that the numbers come from, and all changed settings."""
    about = (
        f"Profile {settings.profile}, recipe {settings.recipe}, {settings.images_used}; "
        f"{settings.proposal_network}, {settings.captioner}, {', '.join(settings.encoders)}."
    )
    changed = "; ".join(f"{name} = {value}" for name, value in changes(settings).items())
    return f"{about} Changed from the profile: {changed}." if changed else about


def changes(settings: Settings) -> dict[str, str]:
    """``settings.changed`` as text."""

    def shown(value: Any) -> str:
        if isinstance(value, tuple):
            return ", ".join(map(shown, value)) or "none"
        return "none" if value is None else str(value)

    return {name: shown(value) for name, value in settings.changed.items()}


def note(settings: Settings, table: str = "", beside_paper: bool = True) -> str:
    """The note under a table: the meaning of numbers in parentheses, and the origin of ours.

    Args:
        table: Its name, e.g. ``table1``.
        beside_paper: Whether it contains results of the paper.
    """
    of_paper = [d for d in settings.datasets if profiles.counterpart(d)] if beside_paper else []
    theirs = all(profiles.title(d) == profiles.counterpart(d) for d in of_paper)
    where = "" if theirs else ", obtained on other data"
    whose = "Published results" if table == "newer" else "Results of the paper"
    also = f"{whose} in parentheses{where}." if of_paper else ""
    others = {
        "table1": [settings.other_network],
        "table6": [settings.other_captioner],
        "table7": settings.other_encoders,
    }.get(table, ())
    beside = f"Other models in this table: {', '.join(others)}." if others else ""
    if settings.both_recipes and table in ("table1", "table2"):
        other = " and ".join(BY_RECIPE[recipe] for recipe in READINGS if recipe != settings.recipe)
        is_, recipe = ("are", "other recipes") if " and " in other else ("is", "the other recipe")
        beside = f"{other} {is_} TAS with {recipe}. {beside}".strip()
    doubts = MISPRINTS.get(table, "") if of_paper else ""
    alone = ONE_MASK if settings.answers == "any" and table in ONE_MASK_TABLES else ""
    return " ".join(filter(None, [also, doubts, alone, provenance(settings), beside]))


# --- as Markdown and as HTML


def to_markdown(shown: pd.DataFrame) -> str:
    """A Markdown table of a frame of text."""
    lines = [list(map(str, shown.columns)), ["---"] * len(shown.columns)]
    lines += [
        [str(cell).replace("|", "\\|") for cell in row] for row in shown.itertuples(index=False)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def view(frame: pd.DataFrame, digits: int = 2, note: str = "") -> Styler | Markdown:
    """Any frame as shown in notebooks, or a sentence if it has no rows.

    Args:
        frame: Values of any kind, or text.
        note: Text below the table.
    """
    if frame.empty:
        return Markdown("*Nothing to show in this run.*")
    size = "10px" if len(frame.columns) > WIDE else "12px"
    small = [("font-size", size), ("padding", "1px 4px")]
    styles = [
        {"selector": "th", "props": [*small, ("white-space", "normal"), ("text-align", "left")]},
        {"selector": "td", "props": [*small, ("text-align", "left")]},
        {"selector": ".whole", "props": [("white-space", "nowrap")]},
        {
            "selector": "caption",
            "props": [("caption-side", "bottom"), ("font-size", "10px"), ("text-align", "left")],
        },
    ]
    styled = presented(frame, digits).style.hide(axis="index").set_table_styles(styles)
    styled = styled.format(_to_html)
    return styled.set_caption(escape(note)) if note else styled


def _to_html(cell: str) -> str:
    """A cell with ``**bold**`` at its beginning and `` `code` `` anywhere, as HTML."""
    bold = re.sub(r"^\*\*(.+?)\*\*", r"<b>\1</b>", escape(cell))
    made = re.sub(r"`([^`]+)`", r"<code>\1</code>", bold)
    short = len(cell.replace("**", "")) <= SHORT and re.search(r"\S[ -]", cell)
    return f'<span class="whole">{made}</span>' if short else made


def save(
    frame: pd.DataFrame,
    name: str,
    settings: Settings,
    more: str = "",
    digits: int = 2,
    best: bool = True,
) -> Styler | Markdown:
    """Writes ``tables/<name>`` below ``settings.out`` as csv, parquet, Markdown and LaTeX.

    ``note`` is always added below the Markdown table, and to the caption in LaTeX.

    Args:
        settings: Those of the pipeline that made the frame, including changes by ``few`` or
            ``variant``.
        more: A sentence to put before the note.
        digits: Decimals of a frame that is not in the paper's layout.
        best: As in ``layout``.

    Returns:
        The table as shown in a notebook.
    """
    folder: Path = settings.out / "tables"
    tidy = set(COLUMNS) <= set(frame.columns)
    shown = layout(frame, best) if tidy else presented(frame, digits)
    beside_paper = tidy and bool(frame["paper"].notna().any())
    below = " ".join(filter(None, [more, note(settings, name, beside_paper)]))
    absent = ABSENT.get(name, "This run has no data for this table.")
    table = f"{absent}\n" if shown.empty else to_markdown(shown)
    floats = frame.select_dtypes("float").columns
    plain = frame.assign(**{c: frame[c].round(4) + 0.0 for c in floats})  # + 0.0: no minus zero
    with atomic_write(folder / f"{name}.csv") as path:
        plain.to_csv(path, index=False, float_format="%.4f")
    with atomic_write(folder / f"{name}.parquet") as path:
        frame.to_parquet(path, index=False)
    with atomic_write(folder / f"{name}.md") as path:
        path.write_text(f"{table}\n{below}\n", encoding="utf-8")
    latex.save(shown, name, below, folder)
    return Markdown(f"*{absent}*") if shown.empty else view(shown, note=below)
