"""``python -m tasnb compare``: writes a comparison of runs as a page, CSV files and Markdown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from tasnb import __version__
from tasnb.drawing import figures
from tasnb.drawing import runs as charts
from tasnb.drawing.titles import title as title_of
from tasnb.profiles import short_digest
from tasnb.reruns import differences, pairs, statements
from tasnb.reruns.finished import Finished, open_runs, shown_time
from tasnb.results import shown
from tasnb.settings import ROOT, InputError, short
from tasnb.store.outputs import check_output, output_folder
from tasnb.workbook import html

MARK = "comparison.json"
"""The file by which the folder of a comparison is known."""

LISTED = ["sentence", "first", "second", "gain", "target", "column", "encoder", "run"]
SHOWN = 40  # changed sentences listed on the page; the CSV file has all
NOTE = (
    "Each difference is the other run minus the first one, in points, on the sentences that both "
    "cover. Intervals are bootstraps over images (95 %); p is that of a paired permutation test "
    "over images. With few images, intervals are too narrow, so a difference is called significant "
    "only if its interval excludes 0 and p < 0.05. Nothing is corrected for the number of "
    "comparisons: of twenty columns without any real difference, about one has p < 0.05."
)


def compare(folders: Sequence[str | Path], out: str | Path = "") -> tuple[Path, list[str]]:
    """Compares runs with the first of them.

    Writes ``index.html``, ``comparison.md``, ``differences.csv``, ``paired.csv``, ``changed.csv``,
    ``tables/<name>.csv`` and a figure.

    Args:
        folders: Of two or more runs.
        out: The folder; "" for one in runs/comparisons, named after the runs. An earlier
            comparison in it is replaced; with "", only one of the same runs.

    Returns:
        The page, and its main statements.

    Raises:
        InputError: A folder is not that of a finished run, two runs have no sentences in common, or
            ``out`` exists and is something else than an unchanged comparison.
    """
    if len(folders) < 2:
        raise InputError("compare needs at least two runs")
    runs = open_runs(folders)
    target = Path(out).expanduser() if out else _usual(runs)
    check_output(target, MARK)
    found = pairs.all_pairs(runs)
    rows, changes = pairs.paired(found), pairs.changed(found)
    total = pairs.shared_sentences(found)
    warnings = differences.coverage(runs, total) + statements.notes(found)
    said = statements.summary(rows, changes, found)
    tables = {
        name: differences.side_by_side(runs, name)
        for name in dict.fromkeys(name for run in runs for name in run.tables)
        if sum(name in run.tables for run in runs) > 1
    }
    content = {"tasnb": __version__, "runs": [str(run.folder.absolute()) for run in runs]}
    with output_folder(target, MARK, content) as folder:
        parts = _parts(runs, rows, changes, tables, target.absolute(), folder)
        lines = "".join(f"<li>{escape(line)}</li>" for line in said)
        head = f'<ul class="headline">{lines}</ul>'
        warned = "".join(f"<li>{escape(line)}</li>" for line in warnings)
        links = "".join(f'<a href="#{key}">{text}</a> ' for key, (text, _) in parts.items())
        body = "".join(
            f'<section id="{key}"><h2>{text}</h2>{content}</section>'
            for key, (text, content) in parts.items()
        )
        page = (
            "<h1>TAS: comparison of runs</h1>"
            + (f'<div class="stale"><ul>{warned}</ul></div>' if warned else "")
            + f"{head}<nav>{links}</nav>{body}"
        )
        names = " and ".join(run.name for run in runs)
        html.write_page(folder / "index.html", f"TAS: comparison of {names}", page)
        text = [f"# Comparison of {names}", *(f"**{line}**" for line in warnings), *said]
        text += _markdown(runs, rows, changes, tables)
        (folder / "comparison.md").write_text(
            "\n\n".join(filter(None, text)) + "\n", encoding="utf-8"
        )
    return target / "index.html", [*warnings, *said]


def _usual(runs: Sequence[Finished]) -> Path:
    """The folder of a comparison that is given none: not that of other runs of the same names."""
    folders = [str(run.folder) for run in runs]
    digest = short_digest(*folders)
    name = (
        re.sub(r",?[^\w.()+=,-]+", "-", "-".join(run.name for run in runs)).lstrip(".-") or digest
    )
    if len(name) > 60:
        name = f"{name[:50]}-{digest}"
    target = ROOT / "runs" / "comparisons" / name
    try:
        other = json.loads((target / MARK).read_bytes())["runs"] != folders
    except (OSError, ValueError, KeyError, TypeError):
        other = False
    return target.with_name(f"{name}-{digest}") if other else target


def _parts(
    runs: Sequence[Finished],
    rows: pd.DataFrame,
    changes: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    target: Path,
    folder: Path,
) -> dict[str, tuple[str, str]]:
    """The sections of the page; also writes the CSV files and the figure."""
    (folder / "tables").mkdir()
    origins = differences.origins(runs)
    for name, frame in (("differences", origins), ("paired", rows)):
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")
    links = [name for name in changes if name.endswith(" page")]
    linked = changes.assign(
        **{name: [_relative(page, target) for page in changes[name]] for name in links}
    )
    linked.to_csv(folder / "changed.csv", index=False, float_format="%.4f")
    method, metric = pairs.HEADLINE
    main = rows[(rows["method"] == method) & (rows["metric"] == metric)]
    figures.save(charts.differences(main, runs[0].name), "differences", folder)
    overall = main.drop_duplicates(["run", "encoder"])  # over Table 1, or the only column
    side = []
    for name, frame in tables.items():
        frame.to_csv(folder / "tables" / f"{name}.csv", index=False, float_format="%.4f")
        link = f'<p class="files"><a href="tables/{quote(name)}.csv">csv</a></p>'
        heading = f"{title_of(Path(name))} ({len(frame)} rows)"
        side.append(html.folded(heading, html.table(shown.presented(frame)) + link))
    first = runs[0].name
    return {
        "runs": ("The runs", html.table(_about(runs, target), made=["run"])),
        "differs": (
            "What differs",
            html.table(origins) + _file("differences.csv")
            if len(origins)
            else "<p>Nothing: settings, code, data, weights and versions are the same.</p>",
        ),
        "paired": (
            f"Differences from {escape(first)}",
            html.figure("figures/differences.png", f"Differences of TAS from {first} by column")
            + html.table(_named(overall, runs).drop(columns=["method", "metric"]))
            + f"<p>{escape(NOTE)}</p>"
            + html.folded(
                f"All methods and metrics ({len(rows)} rows)", html.table(_named(rows, runs))
            )
            + _file("paired.csv"),
        ),
        "changed": ("Changed sentences", _changed(linked, rows, runs)),
        "tables": ("Tables side by side", "".join(side)),
    }  # fmt: skip


def _named(rows: pd.DataFrame, runs: Sequence[Finished]) -> pd.DataFrame:
    """Rows of ``pairs.paired`` as text: numbers first, and the runs' names as headings."""
    text = shown.presented(rows)
    text["95 % interval"] = shown.intervals(text["CI low"], text["CI high"])
    order = ["run", "encoder", "method", "metric", "column", "first", "second", "difference"]
    return _headed(text[[*order, "95 % interval", "p", "sentences"]], runs)


def _headed(text: pd.DataFrame, runs: Sequence[Finished], heading: str = "{}") -> pd.DataFrame:
    """Text with the names of the runs as headings of "first" and "second"; of two runs, the column
    "run" is left out.
    """
    two = len(runs) == 2
    names = {"first": runs[0].name, "second": runs[1].name if two else "other"}
    renamed = text.rename(columns={name: heading.format(own) for name, own in names.items()})
    return renamed.drop(columns="run") if two else renamed.rename(columns={"run": "other run"})


def _file(name: str) -> str:
    return f'<p class="files"><a href="{name}">csv</a></p>'


def _relative(page: str, target: Path) -> str:
    """The address of a page of a run as seen from the comparison."""
    if not page:
        return ""
    path, _, row = page.rpartition("#")
    return f"{quote(os.path.relpath(path, target))}#{row}"


def _about(runs: Sequence[Finished], target: Path) -> pd.DataFrame:
    rows = []
    for run in runs:
        index = run.folder / "index.html"
        link = escape(run.name)
        if index.is_file():
            link = f'<a href="{quote(os.path.relpath(index, target))}">{link}</a>'
        finished = shown_time(run)
        settings = run.settings
        images, sentences = run.size()
        rows.append((link, settings["recipe"], short(settings["captioner"]),
                     ", ".join(run.encoders), f"{images:,}", f"{sentences:,}",
                     settings["profile"], finished))  # fmt: skip
    names = ["run", "recipe", "captioner", "encoders", "images", "sentences", "profile", "finished"]
    return pd.DataFrame(rows, columns=names)


def _changed(linked: pd.DataFrame, rows: pd.DataFrame, runs: Sequence[Finished]) -> str:
    """How many choices changed, and the sentences with the largest changes."""
    if linked.empty:
        return "<p>None.</p>"
    groups = linked.groupby(["run", "encoder"], sort=False)["gain"]
    counts = groups.agg(
        sentences="size",
        higher=lambda gain: (gain > 0).sum(),
        lower=lambda gain: (gain < 0).sum(),
        equal=lambda gain: (gain == 0).sum(),
    ).reset_index()
    order = rows[["run", "encoder"]].drop_duplicates()
    counts = order.merge(counts).rename(
        columns={"higher": "IoU higher", "lower": "IoU lower", "equal": "IoU equal"}
    )
    if len(runs) == 2:
        counts = counts.drop(columns="run")
    top = linked.head(SHOWN)
    text = shown.presented(top[LISTED])
    for name in ("first", "second"):
        text[name] = [
            f'<a href="{escape(page)}">{iou}</a>' if page else iou
            for iou, page in zip(text[name], top[f"{name} page"], strict=True)
        ]
    text = _headed(text, runs, "IoU, {}")
    made = [name for name in text if name.startswith("IoU, ")]
    more = (
        f"the {SHOWN} largest changes of {len(linked):,}" if len(linked) > SHOWN else "all of them"
    )
    return (
        html.table(shown.presented(counts))
        + f"<p>The table lists {more}; each IoU is a link to the picture with the answer.</p>"
        + html.table(text, made)
        + _file("changed.csv")
    )


def _markdown(
    runs: Sequence[Finished],
    rows: pd.DataFrame,
    changes: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
) -> list[str]:
    """The sections of comparison.md."""
    origins = differences.origins(runs)
    text = ["## What differs", shown.to_markdown(origins) if len(origins) else "Nothing."]
    method, metric = pairs.HEADLINE
    main = (rows["method"] == method) & (rows["metric"] == metric)
    text += [f"## Differences from {runs[0].name}", NOTE]
    text += [shown.to_markdown(_named(some, runs)) for some in (rows[main], rows[~main])]
    text += ["## Changed sentences"]
    listed = _headed(shown.presented(changes.head(SHOWN)[LISTED]), runs, "IoU, {}")
    more = f"The {SHOWN} largest changes of {len(changes):,}:" if len(changes) > SHOWN else ""
    text += [more, shown.to_markdown(listed)] if len(changes) else ["None."]
    for name, frame in tables.items():
        text += [f"## {title_of(Path(name))}", shown.to_markdown(shown.presented(frame))]
    return text
