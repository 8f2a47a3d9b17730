"""``python -m tasnb sweep``: runs the variants of a plan, then writes one table and a picture."""

from __future__ import annotations

import json
import os
import shlex
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from tasnb.drawing import figures
from tasnb.drawing import runs as charts
from tasnb.method.metrics import difference, evaluate, interval
from tasnb.reruns import overview, pairs
from tasnb.reruns.finished import RECORD, SWEEP, Finished, in_table_1, open_run
from tasnb.reruns.plan import Plan, Variant
from tasnb.results import shown
from tasnb.settings import ROOT, InputError
from tasnb.store.files import atomic_write
from tasnb.workbook import html, runner
from tasnb.workbook.parameters import settings_of

METHODS = ("CLIP-only", "TAS")
INTERVALS = {"95 % interval": ("CI low", "CI high"), "its interval": ("low", "high")}
"""Column of the table as shown -> columns of ``table``."""


def run(plan: Plan, force: bool = False) -> tuple[Path, dict[str, str]]:
    """Runs every variant that is not up to date, and writes the sweep's page.

    A variant that fails is reported in the table, and the others still run. After an interruption,
    the same call resumes.

    Returns:
        The page, and the reasons of failures by variant.

    Raises:
        InputError: The folder cannot be written.
    """
    with atomic_write(plan.out / SWEEP) as temporary:
        content = {**plan.content(), "status": "unfinished"}
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    failed: dict[str, str] = {}
    for number, variant in enumerate(plan.variants, start=1):
        print(f"variant {number} of {len(plan.variants)}: {variant.name}", flush=True)
        try:
            runner.run(plan.notebooks, variant.overrides, force=force)
            overview.renew(variant.folder)  # now, since the sweep may be interrupted
        except (InputError, runner.NotebookFailed) as error:
            failed[variant.name] = str(error)
            print(f"  failed: {error}", flush=True)
    page = write(plan, failed)
    with atomic_write(plan.out / SWEEP) as temporary:
        content = {**plan.content(), "status": "failed" if failed else "ok"}
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return page, failed


def write(plan: Plan, failed: dict[str, str]) -> Path:
    """Writes ``sweep.csv``, ``sweep.md``, a figure and ``index.html`` to the sweep's folder."""
    frame = table(plan, failed)
    with atomic_write(plan.out / "sweep.csv") as path:
        frame.to_csv(path, index=False, float_format="%.4f")
    text = _presented(frame, plan)
    note = _note(plan, frame)
    with atomic_write(plan.out / "sweep.md") as path:
        path.write_text(f"{shown.to_markdown(text)}\n{note}\n", encoding="utf-8")
    picture = ""
    measured = frame[frame["TAS mIoU"].notna()].rename(columns={"TAS mIoU": "value"})
    if len(measured):
        numeric = [n for n in plan.names if pd.api.types.is_numeric_dtype(frame[n])]
        only = numeric[0] if numeric == plan.names else ""
        drawn = charts.variants(measured, only)
        figures.save(drawn, "sweep", plan.out)
        picture = html.figure("figures/sweep.png", "mIoU of TAS for every variant")
    linked = text.assign(variant=[_link(plan, name) for name in text["variant"]])
    problems = "".join(f"<li>{escape(f'{n}: {why}')}</li>" for n, why in failed.items())
    place = plan.out.relative_to(ROOT) if plan.out.is_relative_to(ROOT) else plan.out
    runs = [str(place / variant.name) for variant in plan.variants]
    body = (
        f"<h1>TAS: sweep over {escape(', '.join(plan.names))}</h1>"
        + (f'<div class="stale"><b>Failed.</b><ul>{problems}</ul></div>' if problems else "")
        + f"{picture}{html.table(linked, made=['variant'])}"
        f"<p>{escape(note)}</p><p>To see which sentences changed: <code>python -m tasnb compare "
        f'{escape(shlex.join(runs))}</code></p><p class="files"><a href="sweep.csv">csv</a> · '
        '<a href="sweep.md">md</a></p>'
    )
    page = plan.out / "index.html"
    html.write_page(page, f"TAS: sweep over {', '.join(plan.names)}", body)
    return page


def table(plan: Plan, failed: dict[str, str]) -> pd.DataFrame:
    """One row per variant and encoder.

    Returns:
        variant, the settings that distinguish the variants, encoder, sentences, mIoU of CLIP-only
        and TAS over all columns of Table 1 together (%), the 95 % interval of TAS (``CI low``, ``CI
        high``), the paired difference of TAS from the first finished variant with its interval
        and p, seconds of its notebooks, and of these in passes through networks.
    """
    rows: list[dict[str, Any]] = []
    first: Finished | None = None
    for variant in plan.variants:
        own = {"variant": variant.name, **{n: _value(variant, n) for n in plan.names}}
        try:
            done = open_run(variant.folder, variant.name)
        except InputError:
            rows.append({**own, "encoder": "failed" if variant.name in failed else "unfinished"})
            continue
        first = first or done
        rows += [{**own, **row} for row in _measured(done, first)]
    names = ["variant", *plan.names, "encoder", "sentences", *(f"{m} mIoU" for m in METHODS)]
    names += ["CI low", "CI high", "difference", "low", "high", "p", "seconds", "in passes"]
    frame = pd.DataFrame(rows).reindex(columns=names)
    return frame.assign(sentences=frame["sentences"].astype("Int64"))


def _measured(done: Finished, first: Finished) -> list[dict[str, Any]]:
    """The rows of a run, one per encoder; a single one without numbers if it has no results."""
    told = list(done.record.get("notebooks", {}).values())
    took = {"seconds": sum(own["seconds"] for own in told)}
    took["in passes"] = sum((own.get("times") or {}).get("passes", 0.0) for own in told)
    paired = pairs.pairs(first, done) if done is not first else []
    rows = []
    for encoder in done.encoders:
        columns = [column for column, own in done.results if own == encoder]
        columns = [column for column in columns if in_table_1(column)] or columns
        frame = pd.concat([done.sentences(column, encoder) for column in columns])
        row: dict[str, Any] = {"encoder": encoder, "sentences": len(frame), **took}
        for method in METHODS:
            names = {f"{method} {name}": name for name in ("intersection", "union")}
            outcome = frame[["image", *names]].rename(columns=names)
            row[f"{method} mIoU"] = evaluate(outcome["intersection"], outcome["union"])["mIoU"]
        row["CI low"], row["CI high"] = interval(outcome, "mIoU")
        mine = [p for p in paired if p.encoders[1] == encoder and p.column in columns]
        if mine:
            two, one = (
                pd.concat([pair.outcome("TAS", which) for pair in mine], ignore_index=True)
                for which in (2, 1)
            )
            row |= dict(zip(("difference", "low", "high", "p"), difference(two, one, "mIoU"),
                            strict=True))  # fmt: skip
        rows.append(row)
    return rows or [{"encoder": "no results per sentence: notebook 05 was not run", **took}]


def _value(variant: Variant, name: str) -> Any:
    """The value of a setting in a variant; that of the run where the variant does not name it."""
    if name in variant.values:
        value = variant.values[name]
    else:
        value = getattr(settings_of(variant.overrides), name, "")
    return _plain(value) if isinstance(value, list | tuple) else value


def _note(plan: Plan, frame: pd.DataFrame) -> str:
    """What the columns of the table mean."""
    measured = frame[frame["TAS mIoU"].notna()]
    first = measured["variant"].iloc[0] if len(measured) else plan.variants[0].name
    base = "; ".join(f"{name} = {_plain(value)}" for name, value in plan.base.items())
    return (
        "mIoU in percent, over all sentences of the columns of Table 1 together; the means of the "
        "columns, which reports and overviews give, differ a little. Intervals are 95 % bootstraps "
        f"over images. Difference: TAS minus TAS of the first variant, {first}, on the sentences "
        "that both cover, in points, with the p of a paired permutation test. An encoder is "
        "compared with itself; if two variants have none in common, the last one of each is "
        "compared. Without a counterpart or common sentences, there is no difference. Seconds: all "
        "notebooks of the variant when they ran; in passes: of these, in passes through networks; "
        "results that another variant has stored are not computed again."
        + (f" All variants: {base}." if base else "")
    )


def _presented(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """The table as text: results first, intervals in one column, seconds with one decimal.

    Settings keep all their decimals; ``encoders`` is left out, since each row names its encoder.
    """
    exact = {name: frame[name].map(_plain) for name in plan.names}
    exact |= {
        name: frame[name].map(lambda x: shown.text(x, 1)) for name in ("seconds", "in passes")
    }
    text = shown.presented(frame.assign(**exact))
    for name, (low, high) in INTERVALS.items():
        text[name] = shown.intervals(text[low], text[high])
    gaps = ["difference", "its interval", "p"]
    first = ["variant", "encoder", "TAS mIoU", "95 % interval", *gaps, "CLIP-only mIoU"]
    settings = [name for name in plan.names if name != "encoders"]
    return text[[*first, *settings, "sentences", "seconds", "in passes"]]


def _plain(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float) and not isinstance(value, bool):
        return f"{value:g}"
    return shown.text(value)


def _link(plan: Plan, name: str) -> str:
    folder = plan.out / name
    if (folder / RECORD).is_file():
        address = quote(os.path.relpath(folder / "index.html", plan.out))
        return f'<a href="{address}">{escape(name)}</a>'
    return escape(name)
