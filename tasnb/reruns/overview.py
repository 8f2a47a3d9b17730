"""The overview of all runs below a folder, ``index.html``."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from tasnb.reruns.finished import SWEEP, Finished, find_runs, open_run, shown_time
from tasnb.settings import ROOT, InputError, make_settings
from tasnb.workbook import headline, html

MARK = '<p class="about" id="overview-of-runs">'
"""What tells our page from others of the same name, which are not overwritten."""
HEADINGS = ["run", "TAS (CLIP-only)", "differs from the profile", "images", "sentences"]
HEADINGS += ["profile", "notebooks", "finished"]


def renew(out: Path) -> Path | None:
    """Renews the overview that a run belongs to, after it has finished.

    That is runs/index.html for a run below runs/. Elsewhere it is the index.html of the folder
    above, but only if ``python -m tasnb overview`` has written one there.

    Args:
        out: The folder of the run.

    Returns:
        The page, or None if there is none to renew.
    """
    usual = ROOT / "runs"
    top = usual if out.is_relative_to(usual) and out != usual else out.parent
    if top != usual and not _ours(top / "index.html"):
        return None
    try:
        return write(top)[0]
    except InputError:  # another page is there, or the folder is not writable: the run still counts
        return None


def write(top: Path) -> tuple[Path, int]:
    """Writes the overview of a folder.

    Returns:
        The page, and the number of runs.

    Raises:
        InputError: There is no such folder, it contains no runs, or its index.html is another page.
    """
    if not top.is_dir():
        raise InputError(f"{top} is not a folder of runs: there is no such folder")
    page = top / "index.html"
    if page.exists() and not _ours(page):
        raise InputError(f"{page} is not an overview of runs, so it is not overwritten")
    rows = [_row(folder, top) for folder in find_runs(top)]
    if not rows:
        raise InputError(f"{top} contains no runs: `python -m tasnb run` makes one")
    frame = (
        pd.DataFrame(rows, columns=HEADINGS)
        .fillna("")
        .sort_values("finished", ascending=False, kind="stable")
    )
    others, counted = _others(top), "1 run" if len(frame) == 1 else f"{len(frame)} runs"
    body = (
        f"<h1>TAS: {counted}</h1>{MARK}All runs below {escape(top.name)}/, the latest "
        "first. Numbers are means of mIoU over the columns of Table 1, in percent. To compare runs "
        "that cover other images or splits, use <code>python -m tasnb compare RUN RUN</code>.</p>"
        f"{html.table(frame, made=['run'])}{others}"
    )
    html.write_page(page, f"TAS: {counted}", body)
    return page, len(frame)


def _ours(page: Path) -> bool:
    try:
        return MARK in page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _row(folder: Path, top: Path) -> dict[str, Any]:
    """A run as a row of text; the link is HTML."""
    name = os.path.relpath(folder, top)
    try:
        run = open_run(folder, name)
    except InputError:
        return {"run": escape(name), "TAS (CLIP-only)": "unfinished"}
    index = folder / "index.html"
    link = f'<a href="{quote(os.path.relpath(index, top))}">{escape(name)}</a>'
    images, sentences = run.size()
    return {
        "run": link if index.is_file() else escape(name),
        "TAS (CLIP-only)": _numbers(folder),
        "profile": run.settings.get("profile", ""),
        "differs from the profile": changed(run),
        "images": f"{images:,}" if images else "",
        "sentences": f"{sentences:,}" if sentences else "",
        "notebooks": ", ".join(name[:2] for name in run.notebooks),
        "finished": shown_time(run),
    }


def changed(run: Finished) -> str:
    """How a run differs from its profile, as text; "nothing" if it does not."""
    settings = {n: v for n, v in run.settings.items() if n not in ("store", "out", "data")}
    try:
        own = make_settings(**settings)
    except InputError:  # of another version, or a dataset that no longer exists
        return "settings of another version"
    parts = [] if own.recipe == "published" else [f"recipe {own.recipe}"]
    for name, value in own.changed.items():
        values = value if isinstance(value, tuple) else (value,)
        parts.append(f"{name} = {', '.join('none' if v is None else str(v) for v in values)}")
    return "; ".join(parts) or "nothing"


def _numbers(folder: Path) -> str:
    found = headline.means(folder)
    return "; ".join(
        f"{encoder}\u00a0{own['TAS']:.1f}\u00a0({own['CLIP-only']:.1f})"  # not broken in between
        for encoder, own in found.items()
    )


def _others(top: Path) -> str:
    """Links to sweeps and comparisons below a folder."""
    kinds = {"Sweeps": SWEEP, "Comparisons": "comparison.md"}
    parts = []
    for title, mark in kinds.items():
        pages = [
            file.with_name("index.html")
            for depth in ("*", "*/*", "*/*/*")
            for file in sorted(top.glob(f"{depth}/{mark}"))
            if file.with_name("index.html").is_file()
        ]
        links = "".join(
            f'<li><a href="{quote(os.path.relpath(page, top))}">'
            f"{escape(os.path.relpath(page.parent, top))}</a></li>"
            for page in pages
        )
        if links:
            parts.append(f"<h2>{title}</h2><ul>{links}</ul>")
    return "".join(parts)
