"""The report of a run: index.html, with the main result first and everything else below it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasnb.drawing.titles import title
from tasnb.profiles import title as dataset_title
from tasnb.proof.record import sentence as proof_sentence
from tasnb.settings import ROOT, Settings
from tasnb.workbook import headline, html, records

KEY_FIGURES = ("05_ahead", "04_overview", "05_causes", "05_successes")
"""Figures shown in the summary, if a run has them."""

_MANY = 15  # larger tables are collapsed
_NOTHING = "<p>No notebooks have been run.</p>"


def write_index(settings: Settings, record: Mapping[str, Any]) -> Path:
    """Writes ``<out>/index.html``: every table and figure of the run, its settings and versions.

    Args:
        settings: The run's settings, including the folder `out`.
        record: The content of its run.json (finished, seconds, versions; code, data: digests;
            earlier: notebooks of earlier runs -> how they differ from this one).

    Returns:
        The path of the page.
    """
    out = settings.out
    earlier = record.get("earlier", {})
    parts = {
        "summary": ("Summary", _summary(out)),
        "table1": ("Table 1, mIoU (%)", _table1(out)),
        **_notebooks(out, earlier),
        "sentences": ("Sentences", _sentences(out)),
        "settings": ("Settings", _settings(settings)),
        "times": ("Times", _times(record)),
        "versions": ("Versions and checkpoints", _versions(settings, record)),
    }
    parts = {name: part for name, part in parts.items() if part[1]}
    links = "".join(f'<a href="#{name}">{text}</a> ' for name, (text, _) in parts.items())
    body = "".join(
        f'<section id="{name}"><h2>{text}</h2>{content}</section>'
        if name in ("summary", "table1")
        else f'<details id="{name}"><summary>{text}</summary><div class="inside">{content}</div>'
        "</details>"
        for name, (text, content) in parts.items()
    )
    changed = ", ".join(f"{name} {_plain(value)}" for name, value in settings.changed.items())
    name = ", ".join(filter(None, [settings.profile, _other_recipe(settings), changed]))
    main = (headline.headline(out), headline.paper_check(settings))
    proven = proof_sentence(settings, record["versions"])
    content = (
        "<h1>TAS: zero-shot referring image segmentation</h1>"
        + (f'<p class="about">{escape(proven)}</p>' if proven else "")
        + f'<p class="about">{escape(_ran(settings))}</p>'
        + "".join(f'<p class="headline">{escape(text)}</p>' for text in main if text)
        + _about(settings, record)
        + _warning(earlier)
        + f"<nav>{links}</nav>{body}"
    )
    index = out / "index.html"
    html.write_page(index, f"TAS: {name}", content)
    return index


def _plain(value: Any) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    return " ".join("none" if one is None else str(one) for one in values)


def _other_recipe(settings: Settings) -> str:
    return "" if settings.recipe == "published" else f"recipe {settings.recipe}"


def _ran(settings: Settings) -> str:
    """What was run, in a line."""
    datasets = ", ".join(dataset_title(dataset) for dataset in settings.datasets)
    splits = ", ".join(settings.splits) or "all splits"
    return (
        f"Profile {settings.profile}, recipe {settings.recipe}. "
        f"Data: {datasets} ({splits}, {settings.images_used})."
    )


def _about(settings: Settings, record: Mapping[str, Any]) -> str:
    """A description of the run: data, models, changed settings, time and versions."""
    models = (settings.proposal_network, settings.captioner, *settings.encoders)
    changed = "; ".join(f"{name} = {_plain(value)}" for name, value in settings.changed.items())
    versions = record["versions"]
    libraries = ("tasnb", "python", "torch", "transformers")
    used = ", ".join(f"{name} {versions[name]}" for name in libraries if name in versions)
    finished = str(record["finished"]).replace("T", " ", 1)
    lines = [
        f"Models: {', '.join(models)}.",
        f"Settings changed from the profile: {changed or 'none'}.",
        f"Finished at {finished} after {record['seconds']:.0f} s"
        + (f" with {used}" if used else "")
        + (f"; code {record['code'][:12]}, data {record['data'][:12]}" if "code" in record else "")
        + ".",
    ]
    out = settings.out
    place = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out
    command = "python -m tasnb run --check" + (
        "" if out == ROOT / "runs" / settings.profile else f" --out {shlex.quote(str(place))}"
    )
    if settings.profile != "embedded":
        command += f" --profile {settings.profile}"
    return (
        "".join(f'<p class="about">{escape(line)}</p>' for line in lines)
        + f'<p class="about">This page is not updated by itself: <code>{escape(command)}</code> '
        "reports whether code, data, notebooks or tables have changed since.</p>"
    )


def _warning(earlier: Mapping[str, list[str]]) -> str:
    """A warning about notebooks from an earlier run, and how they differ."""
    if not earlier:
        return ""
    lines = "".join(
        f"<li>{escape(name)}: {escape('; '.join(reasons[:4]))}</li>"
        for name, reasons in earlier.items()
    )
    return (
        '<div class="stale"><b>Not from this run.</b> These notebooks were not run again, and '
        f"their output may differ from what they would produce now:<ul>{lines}</ul></div>"
    )


def _summary(out: Path) -> str:
    tiles = "".join(
        f"<div><b>{escape(number)}</b><span>{escape(words)}</span></div>"
        for number, words in headline.numbers(out)
    )
    figures = [out / "figures" / f"{name}.png" for name in KEY_FIGURES]
    drawn = _figures(file for file in figures if file.is_file())
    drawn = drawn.replace('class="figures"', 'class="figures four"', 1)
    return (f'<div class="numbers">{tiles}</div>' if tiles else "") + drawn


def _table1(out: Path) -> str:
    """Table 1 in mIoU; the rows in oIoU are shown with the notebook's other tables."""
    file = out / "tables" / "table1.md"
    if not file.is_file():
        return ""
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("| oIoU ")]
    if lines[0].startswith("| metric |"):  # the same in all rows
        lines = [re.sub(r"^\|[^|]*\|", "|", line) for line in lines]
    text = "\n".join(lines)
    return f'<div class="scroll">{_markdown(text)}</div>'


def _notebooks(out: Path, earlier: Mapping[str, list[str]]) -> dict[str, tuple[str, str]]:
    """Page, figures and tables of each notebook, followed by files that belong to no notebook."""
    tables, figures = _by_number(out.glob("tables/*.csv")), _by_number(out.glob("figures/*.png"))
    tables.sort(key=lambda csv: not csv.stem.startswith("table"))  # the paper's first
    pages = {page.stem: page for page in _by_number(out.glob("notebooks/*.html"))}
    parts = {}
    for name, page in pages.items():
        record = records.read(page.with_suffix(".run.json")) or {}
        own = record.get("outputs", {})
        mine = [file for file in tables if f"tables/{file.name}" in own]
        drawn = [f for f in figures if f"figures/{f.name}" in own or f.stem[:3] == name[:3]]
        tables = [file for file in tables if file not in mine]
        figures = [file for file in figures if file not in drawn]
        links = [_link(page, "notebook with outputs")]
        if page.with_suffix(".ipynb").is_file():
            links.append(_link(page.with_suffix(".ipynb"), ".ipynb file"))
        note = '<p class="stale">From an earlier run; see above.</p>' if name in earlier else ""
        content = f"<p>{' · '.join(links)}</p>{note}{_figures(drawn)}{''.join(map(_table, mine))}"
        parts[f"notebook-{name}"] = (escape(_heading(page)), content)
    if tables or figures:
        content = _figures(figures) + "".join(map(_table, tables))
        parts["others"] = ("Other tables and figures", content)
    return parts or {"notebooks": ("Notebooks", _NOTHING)}


def _heading(page: Path) -> str:
    """A notebook's first heading ("5 · The full evaluation"), or its name without underscores."""
    try:
        cells = json.loads(page.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
        lines = "".join(cells[0]["source"]).splitlines() if cells else []
    except (OSError, ValueError, KeyError, TypeError):
        lines = []
    found = [line.removeprefix("# ").strip() for line in lines if line.startswith("# ")]
    return found[0] if found else page.stem.replace("_", " ")


def _by_number(files: Iterable[Path]) -> list[Path]:
    """Files in natural order: table2 before table10, table1 before table1_extra.

    Hidden files, which a killed run may leave half written, are omitted.
    """
    return sorted(
        (file for file in files if not file.name.startswith(".")),
        key=lambda file: [
            (0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in re.findall(r"\d+|\D+", file.stem)
        ],
    )


def _link(file: Path, text: str) -> str:
    return f'<a href="{quote(f"{file.parent.name}/{file.name}")}">{text}</a>'


def _sentences(out: Path) -> str:
    pages = _by_number(out.glob("results/*.html"))
    lines = "".join(f"<li>{_link(page, escape(page.stem))}</li>" for page in pages)
    return (
        "<p>All sentences of a split with their images and the chosen masks, sortable and "
        f'searchable.</p><ul class="pages">{lines}</ul>'
        if lines
        else ""
    )


def _markdown(text: str) -> str:
    from nbconvert.filters import markdown2html

    return markdown2html(text)


def _table(csv: Path) -> str:
    """A table from its .md, which has the paper's layout, or else from its .csv."""
    markdown = csv.with_suffix(".md")
    kinds = {"md": markdown, "tex": csv.with_suffix(".tex")}
    links = [_link(csv, "csv")]
    links += [_link(file, name) for name, file in kinds.items() if file.is_file()]
    if markdown.is_file():
        content = _markdown(markdown.read_text(encoding="utf-8"))
    else:
        import pandas as pd

        content = pd.read_csv(csv).to_html(index=False, border=0, na_rep="")
    rows = content.count("<tr") - 1
    table = f'<div class="scroll">{content}</div><p class="files">{" · ".join(links)}</p>'
    if rows > _MANY:
        table = f"<details><summary>{rows} rows</summary>{table}</details>"
    return f"<h3>{escape(title(csv))}</h3>{table}"


def _figures(files: Iterable[Path]) -> str:
    drawn = "".join(map(_figure, files))
    return f'<div class="figures">{drawn}</div>' if drawn else ""


def _figure(png: Path) -> str:
    from PIL import Image

    source, words = quote(f"{png.parent.name}/{png.name}"), escape(title(png))
    try:
        with Image.open(png) as picture:
            width, height = picture.size
        size = f' width="{width}" height="{height}"'
        wide = ' class="wide"' if width > 1.5 * height else ""
    except OSError:
        size = wide = ""
    return (
        f'<figure{wide}><a href="{source}"><img src="{source}" alt="{words}"{size} loading="lazy">'
        f"</a><figcaption>{words}</figcaption></figure>"
    )


def _settings(settings: Settings) -> str:
    changed = settings.changed
    rows = [
        (name, value, "changed from the profile" if name in changed else "")
        for name, value in settings.model_dump(mode="json").items()
    ]
    return _rows(("setting", "value", ""), rows)


def _times(record: Mapping[str, Any]) -> str:
    """Seconds of each notebook when it was run, of which in stages, and those in passes.

    Passes are summed over all processes; divided by the seconds, they say how many cores were busy
    with networks on average.
    """
    parts = ("seconds", "stages", "passes")
    notebooks = record.get("notebooks", {})
    rows = [
        (name, {"seconds": one["seconds"], **(one.get("times") or {})})
        for name, one in notebooks.items()
    ]
    if len(rows) > 1 and all(own.keys() >= set(parts) for _, own in rows):
        rows.append(("all", {part: sum(own[part] for _, own in rows) for part in parts}))
    head = ("notebook", "seconds", "in stages", "in passes through networks", "cores in passes")
    lines = [
        (
            name,
            *(f"{own[part]:.1f}" if part in own else "" for part in parts),
            f"{own['passes'] / own['seconds']:.2f}" if "passes" in own else "",
        )
        for name, own in rows
    ]
    return _rows(head, lines) if lines else ""


def _versions(settings: Settings, record: Mapping[str, Any]) -> str:
    checkpoints = _checkpoints(settings)
    digests = {name: record[name] for name in ("code", "data") if name in record}
    return _rows(("package", "version"), record["versions"].items()) + _rows(
        ("item", "SHA-256"), [*digests.items(), *checkpoints]
    )


def _rows(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    def text(value: Any) -> str:
        return escape(", ".join(map(str, value)) if isinstance(value, list) else str(value))

    body = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{text(value)}</code></td>"
        f"{''.join(f'<td>{escape(more)}</td>' for more in others)}</tr>"
        for name, value, *others in rows
    )
    columns = "".join(f"<th>{name}</th>" for name in head)
    return (
        f'<div class="scroll"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _checkpoints(settings: Settings) -> list[tuple[str, Any]]:
    """(name, digest) from the cards of the profile's checkpoints."""
    rows = []
    for card in sorted((settings.data / settings.profile).glob("checkpoints/*/card.json")):
        content = json.loads(card.read_text(encoding="utf-8"))
        rows += [(f"{card.parent.name}/{file}", sha) for file, sha in content["files"].items()]
    return rows
