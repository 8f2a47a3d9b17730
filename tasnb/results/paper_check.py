"""A check of a run against the paper: is each number of Tables 1 to 7 within our interval?

The interval is the bootstrap over images of `tasnb.method.metrics`. It is not known by which recipe
the paper's numbers were obtained, so a run with ``both_recipes`` is checked by both of them. The
check applies to the paper's own datasets only.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from tasnb import profiles
from tasnb.datasets.splits import ablated
from tasnb.method.metrics import interval
from tasnb.method.pipeline import Pipeline
from tasnb.results import ablations, shown, tables
from tasnb.settings import Settings

COLUMNS = (
    *("recipe", "table", "method", "encoder", "dataset", "split", "metric", "paper", "ours"),
    *("low", "high", "off", "verdict", "sentences", "images"),
)
METRICS = ("oIoU", "mIoU")
WITHIN, OUTSIDE, UNKNOWN = "within", "outside", "not in the paper"
"""Where the paper's number is: in our interval, outside it, or nowhere."""

NOTE = (
    "`off` is the distance in points from our 95 % interval (`low` to `high`) to the paper's "
    "number, negative if the paper's is lower and 0 if it lies within. "
    + " ".join(shown.MISPRINTS[name] for name in ("table1", "table2", "table6"))
)
ABSENT = (
    "The check against the paper's numbers needs the paper's data (RefCOCO, RefCOCO+, RefCOCOg, "
    "PhraseCut); it does not apply to this run."
)


def applies(settings: Settings) -> bool:
    """Whether a run has any of the paper's own datasets."""
    return settings.profile != "embedded" and any(map(_is_papers, settings.datasets))


def _is_papers(dataset: str) -> bool:
    return profiles.counterpart(dataset) == profiles.title(dataset)


def table(pipeline: Pipeline) -> pd.DataFrame:
    """Every oIoU and mIoU of Tables 1 to 7 on the paper's datasets, alongside the paper's.

    Returns:
        ``COLUMNS``: ``ours`` with its 95 % interval ``low`` to ``high``; ``off``, the points from
        the interval to the paper's number; ``verdict``; the numbers of sentences and images that
        the number is measured on. No rows if ``applies`` is false.
    """
    settings, found = pipeline.settings, []
    if applies(settings):
        recipes = tables.READINGS if settings.both_recipes else (settings.recipe,)
        for recipe in recipes:
            run = pipeline.in_recipe(recipe)
            for name, (method, encoder, *column, outcome) in cells(run):
                if _is_papers(column[0]) and method not in tables.BY_RECIPE.values():
                    rows = checked(name, method, encoder, *column, outcome)
                    found.append(rows.assign(recipe=recipe))
    return pd.concat(found, ignore_index=True)[list(COLUMNS)] if found else _nothing()


def _nothing() -> pd.DataFrame:
    return pd.DataFrame(columns=list(COLUMNS))


def cells(pipeline: Pipeline) -> Iterator[tuple[str, tables.Cell]]:
    """The name of a table and a cell, for all measured cells of Tables 1 to 7."""
    settings = pipeline.settings
    encoder = settings.encoders[-1]
    yield from (("table1", cell) for cell in tables.cells1(pipeline))
    yield from (("table2", cell) for cell in tables.cells2(pipeline))
    scored = pipeline.scored(*ablated(settings), encoder)
    yield from (("table3", cell) for cell in ablations.cells3(scored, encoder, settings))
    yield from (("table4", cell) for cell in ablations.cells4(scored, encoder, settings))
    yield from (("table5", cell) for cell in ablations.cells5(pipeline, encoder))
    yield from (("table6", cell) for cell in ablations.cells6(pipeline))
    yield from (("table7", cell) for cell in ablations.cells7(pipeline))


def checked(
    name: str, method: str, encoder: str, dataset: str, split: str, outcome: pd.DataFrame
) -> pd.DataFrame:
    """Both metrics of one cell with their intervals, compared with the paper's.

    Args:
        name: Of the table, such as ``table1``.
        outcome: One row per sentence: image, intersection, union.

    Returns:
        ``COLUMNS`` but ``recipe``, one row per metric.
    """
    rows = tables.rows(name, method, encoder, dataset, split, outcome)
    rows = rows[rows["metric"].isin(METRICS)].rename(columns={"value": "ours", "n": "sentences"})
    ranges = [interval(outcome, metric) for metric in rows["metric"]]
    off = [
        distance(paper, low, high) for paper, (low, high) in zip(rows["paper"], ranges, strict=True)
    ]
    verdicts = [UNKNOWN if pd.isna(x) else OUTSIDE if x else WITHIN for x in off]
    return rows.assign(
        low=[low for low, _ in ranges],
        high=[high for _, high in ranges],
        off=off,
        verdict=verdicts,
        images=outcome["image"].nunique(),
    )


def distance(paper: float, low: float, high: float) -> float:
    """From an interval to the paper's number, which has two decimals; 0 within, NaN if unknown."""
    if pd.isna(paper):
        return float("nan")
    return min(0.0, paper - round(low, 2)) + max(0.0, paper - round(high, 2))


def by_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers within our intervals, by recipe and table, and the one that is furthest off.

    Args:
        frame: From ``table``.
    """
    known, found = frame[frame["verdict"] != UNKNOWN], []
    for (recipe, name), rows in known.groupby(["recipe", "table"], sort=False):
        worst = rows.loc[rows["off"].abs().idxmax()]
        where = (worst["method"], worst["encoder"], profiles.title(worst["dataset"]))
        place = " ".join(filter(None, (*where, worst["split"], worst["metric"])))
        within = int((rows["verdict"] == WITHIN).sum())
        furthest = place if worst["off"] else ""
        found.append((recipe, name, len(rows), within, 100 * within / len(rows), furthest,
                      worst["off"]))  # fmt: skip
    names = ["recipe", "table", "numbers", WITHIN, "within (%)", "furthest off", "off"]
    return pd.DataFrame(found, columns=names)


def save(frame: pd.DataFrame, settings: Settings) -> Styler | Markdown:
    """Writes ``tables/paper_check``, if the check applies.

    Args:
        frame: From ``table``.

    Returns:
        ``by_table`` as shown in a notebook, or a sentence that the check does not apply.
    """
    if frame.empty:
        return Markdown(f"*{ABSENT}*")
    shown.save(frame, "paper_check", settings, NOTE)
    return shown.view(by_table(frame), digits=1)
