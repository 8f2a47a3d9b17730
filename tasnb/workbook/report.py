"""The pages of a run: each executed notebook as HTML, and one index of tables and figures."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasnb.settings import Settings
from tasnb.store.files import atomic_write

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; background: #fff;
  max-width: 80rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem;
  border-bottom: 2px solid #d9e0e8; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; }
a { color: #0b5cad; }
p.about, .files { color: #5a6775; margin: .2rem 0; }
.files { font-size: .85rem; }
nav a { margin-right: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums;
  margin: .5rem 0; }
th, td { padding: .28rem .5rem; border-bottom: 1px solid #e3e8ee; text-align: left;
  vertical-align: top; }
thead th { border-bottom: 2px solid #9fb0c2; background: #f4f7fa; }
tbody tr:hover { background: #f4f7fa; }
td code, pre { font-size: .85em; overflow-wrap: anywhere; }
.figures { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
figure { margin: 0; padding: .6rem; border: 1px solid #e3e8ee; border-radius: .4rem; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; color: #5a6775; padding-top: .4rem; }
"""


def write_html(notebook: Any, path: Path, title: str) -> None:
    """Writes an executed notebook (an nbformat node) as a page, with its code."""
    from nbconvert import HTMLExporter

    notebook = _without_bars(notebook)
    exporter = HTMLExporter(template_name="lab")
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _without_bars(notebook: Any) -> Any:
    """A copy without progress bars, which on a page are half a screen of the past."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        kept = []
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                lines = re.split(r"[\r\n]+", output.text)
                output.text = "\n".join(line for line in lines if not _BAR.search(line)).strip()
                if not output.text:
                    continue
            kept.append(output)
        if "outputs" in cell:
            cell.outputs = kept
    return notebook


_BAR = re.compile(r"\d+%\||TqdmWarning|from \.autonotebook")
"""tqdm's bars, and its warning that they could be widgets."""


def write_index(settings: Settings, record: Mapping[str, Any]) -> Path:
    """Writes ``<out>/index.html``: every table and figure of the run, and what it was run with.

    Args:
        settings: of the run; `out` says where.
        record: of the run, as in its run.json (finished, seconds, versions).
    """
    out = settings.out
    tables = _by_number(out.glob("tables/*.csv"))
    tables.sort(key=lambda csv: not csv.stem.startswith("table"))  # the paper's first
    figures = _by_number(out.glob("figures/*.png"))
    pages = _by_number(out.glob("notebooks/*.html"))
    sentences = _by_number(out.glob("results/*.html"))
    changed = settings.model_dump(mode="json")
    sections = {
        "Tables": "".join(map(_table, tables)) or "<p>None were written.</p>",
        "Figures": f'<div class="figures">{"".join(map(_figure, figures))}</div>'
        if figures
        else "<p>None were written.</p>",
        "Sentences": _list(_link(page, escape(page.stem)) for page in sentences),
        "Notebooks": _list(map(_link, pages)),
        "Settings": _pairs(("setting", "value"), changed.items()),
        "Checkpoints": _pairs(("checkpoint", "SHA-256"), _checkpoints(settings)),
        "Versions": _pairs(("package", "version"), record["versions"].items()),
    }
    links = " ".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    body = "".join(
        f'<section id="{name.lower()}"><h2>{name}</h2>{content}</section>'
        for name, content in sections.items()
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>TAS: {escape(settings.profile)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>TAS: zero-shot referring image segmentation</h1>"
        f'<p class="about">profile {escape(settings.profile)}, recipe {escape(settings.recipe)}, '
        f"finished {escape(str(record['finished']))} after {record['seconds']:.0f} s</p>"
        f"<nav>{links}</nav>{body}</body></html>\n"
    )
    index = out / "index.html"
    with atomic_write(index) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return index


def _by_number(files: Iterable[Path]) -> list[Path]:
    """In the order a reader expects: table2 before table10, table1 before table1_extra.

    What a killed run has half written (a name that begins with a dot) is left out.
    """
    return sorted(
        (file for file in files if not file.name.startswith(".")),
        key=lambda file: [
            (0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in re.findall(r"\d+|\D+", file.stem)
        ],
    )


CAPTIONS = {
    "01_best_iou": "How good the best proposal is, and by the size of the target",
    "01_networks": "The best proposal of three networks (Figure 3 of the paper)",
    "01_proposals": "All of SAM's masks, and those that the refinement keeps",
    "02_captions": "Captions of masked crops and of blurred ones",
    "02_whole_captions": "Captions of whole images",
    "03_scores": "V, P, N and S of every mask for one expression",
    "03_separation": "How far each score lifts the target above the other masks",
    "04_overview": "TAS on one expression (Figure 2 of the paper)",
    "04_rectifier": "The rectifier: centres, the part that is kept, before and after",
    "05_ahead": "TAS less CLIP-only, with intervals",
    "05_causes": "What becomes of the sentences",
    "05_failures": "Where CLIP-only is right and TAS wrong",
    "05_maps": "Activation maps of one expression",
    "05_successes": "Where TAS is right and CLIP-only wrong (Figures 1 and 4 of the paper)",
    "05_table1_miou": "Table 1, mIoU",
    "05_table1_oiou": "Table 1, oIoU",
    "06_grid": "mIoU and oIoU over alpha and lambda",
    "06_recipes": "What each difference of the released code is worth",
    "06_steps": "Sentences that each module mends and spoils",
    "06_table3": "Table 3: the weights",
    "06_table4": "Table 4: the modules",
    "06_table5": "Table 5: crop or blur",
    "06_table6": "Table 6: captioners",
    "06_table7": "Table 7: encoders",
    "07_speed": "Seconds an image and memory, by stage",
}
"""Stem of a figure's file -> what the report writes under it."""


def _title(file: Path) -> str:
    """A caption from a file's name: table1_extra -> Table 1 extra."""
    if file.suffix == ".png" and file.stem in CAPTIONS:
        return escape(CAPTIONS[file.stem])
    words = re.sub(r"(?<=[a-z])(?=\d)", " ", file.stem.replace("_", " "))
    return escape(words[:1].upper() + words[1:])


def _link(file: Path, text: str | None = None) -> str:
    return f'<a href="{quote(f"{file.parent.name}/{file.name}")}">{text or _title(file)}</a>'


def _list(links: Iterable[str]) -> str:
    lines = "".join(f"<li>{link}</li>" for link in links)
    return f"<ul>{lines}</ul>" if lines else "<p>None were written.</p>"


def _table(csv: Path) -> str:
    """A table from its .md, which has the paper's layout, or else from the .csv itself."""
    markdown = csv.with_suffix(".md")
    links = [_link(csv, "csv")]
    if markdown.is_file():
        from nbconvert.filters import markdown2html

        links.append(_link(markdown, "md"))
        content = markdown2html(markdown.read_text(encoding="utf-8"))
    else:
        import pandas as pd

        content = pd.read_csv(csv).to_html(index=False, border=0, na_rep="")
    return (
        f'<h3>{_title(csv)}</h3><div class="scroll">{content}</div>'
        f'<p class="files">{" · ".join(links)}</p>'
    )


def _figure(png: Path) -> str:
    source, title = quote(f"{png.parent.name}/{png.name}"), _title(png)
    return (
        f'<figure><a href="{source}"><img src="{source}" alt="{title}" loading="lazy"></a>'
        f"<figcaption>{title}</figcaption></figure>"
    )


def _pairs(head: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    def text(value: Any) -> str:
        return escape(", ".join(map(str, value)) if isinstance(value, list) else str(value))

    body = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{text(value)}</code></td></tr>"
        for name, value in rows
    )
    return (
        f"<table><thead><tr><th>{head[0]}</th><th>{head[1]}</th></tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _checkpoints(settings: Settings) -> list[tuple[str, Any]]:
    """(name, digest) from the cards of the profile's checkpoints."""
    rows = []
    for card in sorted((settings.data / settings.profile).glob("checkpoints/*/card.json")):
        content = json.loads(card.read_text(encoding="utf-8"))
        rows += [(f"{card.parent.name}/{file}", sha) for file, sha in content["files"].items()]
    return rows
