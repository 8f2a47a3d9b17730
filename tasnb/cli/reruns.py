"""The commands about several runs: compare, sweep, overview, export."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasnb.settings import ROOT, InputError

_COMPARE = """\
Compares runs with the first of them: what differs in settings, code, data and versions; every table
side by side; paired differences on the sentences that both cover, with intervals and tests; and the
sentences whose choice changed. Writes a page, CSV files and Markdown to a folder, where they
replace those of an earlier comparison."""

_COMPARE_EXAMPLES = """\
examples:
  python -m tasnb compare runs/embedded runs/alpha02
  python -m tasnb compare runs/sweeps/alpha/alpha=* --out /tmp/alphas"""

_SWEEP = """\
Runs several variants of the settings, each as a run of its own, in an order in which variants share
stored results. Writes one table and a picture of mIoU, with a page. Variants that are up to date
are skipped; an interrupted sweep resumes where it stopped."""

_SWEEP_EXAMPLES = """\
examples:
  python -m tasnb sweep -p alpha 0 0.1 0.2                    three runs of notebook 05
  python -m tasnb sweep -p alpha 0 0.1 -p lam 0.3 0.7 1       six runs: every combination
  python -m tasnb sweep -p encoders open_clip:embedded/clip-rn albef:embedded/albef --limit 20
  python -m tasnb sweep -p alpha 0 0.1 -p backend dask        a single value is for all variants
  python -m tasnb sweep variants.toml                         a grid, or named variants

variants.toml contains [grid] with lists of values, or [variants.NAME] with values; optionally
[base] with settings of all variants, and notebooks = ["05"]."""

_OVERVIEW = """\
Lists all runs below a folder in its index.html, with dates, settings, images, sentences and main
results. For runs/, every run does this by itself."""

_EXPORT = """\
Packs tables, figures, per-sentence results, settings and digests of a run into a zip file. --check
verifies such a file on any machine: all digests, and whether Tables 1 and 2 follow from the
results."""

_EXPORT_EXAMPLES = """\
examples:
  python -m tasnb export runs/embedded --to embedded.zip
  python -m tasnb export --check embedded.zip"""


def declare(command: Callable[..., Any], add_choices: Callable[..., None]) -> None:
    """Declares the commands of this module.

    Args:
        command: Adds a command and returns its parser: name, what it does, description, examples.
        add_choices: Adds the options for what is run, and where.
    """
    parser = command("sweep", "run several variants of the settings", _SWEEP, _SWEEP_EXAMPLES)
    add = parser.add_argument
    add("file", metavar="FILE.toml", nargs="?", help="describes the variants")
    add(
        "-p",
        dest="parameters",
        action="append",
        nargs="+",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a setting and its values, of which every combination is run; may be repeated",
    )
    add_choices(add, "where to write the runs and the table (default: runs/sweeps/...)", "05")
    add("--force", action="store_true", help="run everything, even if it is up to date")
    add("--plan", action="store_true", help="list the variants in their order; run nothing")
    parser.set_defaults(call=sweep)

    parser = command("compare", "compare runs", _COMPARE, _COMPARE_EXAMPLES)
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="folders of runs; the first is the reference")
    add("--out", metavar="DIR", help="where to write it (default: in runs/comparisons)")
    parser.set_defaults(call=compare)

    parser = command("overview", "list all runs below a folder", _OVERVIEW)
    parser.add_argument("folder", metavar="DIR", nargs="?", help="(default: runs)")
    parser.set_defaults(call=overview)

    parser = command("export", "pack a run, or verify a packed one", _EXPORT, _EXPORT_EXAMPLES)
    add = parser.add_argument
    add("run", metavar="RUN", nargs="?", help="the folder of a run")
    add("--to", metavar="FILE.zip", help="a new file")
    add("--check", metavar="FILE", help="verify a file that was exported")
    parser.set_defaults(call=export)


def compare(arguments: argparse.Namespace) -> None:
    from tasnb.reruns.comparison import compare

    page, said = compare(arguments.runs, arguments.out or "")
    for line in said:
        print(line)
    print(f"comparison: {page}")


def sweep(arguments: argparse.Namespace) -> int:
    from tasnb.cli.doctor import check_named
    from tasnb.cli.given import given, say
    from tasnb.reruns import overview, plan, sweep
    from tasnb.workbook.parameters import settings_of

    overrides = given(arguments)
    out = overrides.pop("out", "")
    if arguments.file:
        if arguments.parameters or arguments.notebooks:
            raise InputError(f"{arguments.file} describes the sweep: leave out -p and --notebooks")
        found = plan.from_file(arguments.file, out, overrides)
    elif arguments.parameters:
        found = plan.from_arguments(arguments.notebooks, arguments.parameters, out, overrides)
    else:
        raise InputError("say what to vary: a TOML file, or -p alpha 0 0.1 0.2")
    for variant in found.variants:
        check_named(settings_of(variant.overrides))
    if arguments.plan:
        for variant in found.variants:
            print(variant.name)
        return 0
    page, failed = sweep.run(found, arguments.force)
    overview.renew(found.out)
    print(f"\n{(found.out / 'sweep.md').read_text(encoding='utf-8').strip()}\n")
    print(f"sweep: {page}")
    if failed:
        return say(f"{len(failed)} of {len(found.variants)} variants failed, see {page}", 1)
    return 0


def overview(arguments: argparse.Namespace) -> None:
    from tasnb.reruns import overview

    page, count = overview.write(Path(arguments.folder or ROOT / "runs").expanduser())
    print(f"{count} {'run' if count == 1 else 'runs'}: {page}")


def export(arguments: argparse.Namespace) -> int:
    from tasnb.cli.given import say
    from tasnb.reruns import package

    if arguments.check:
        if arguments.run or arguments.to:
            raise InputError("--check reads a file: leave out RUN and --to")
        report = package.check(arguments.check)
        for line in report.lines:
            print(line)
        if report.damaged:
            return say(f"{arguments.check} is not what was exported: {report.damaged[0]}", 1)
        return 0
    if not arguments.run or not arguments.to:
        raise InputError("say what to export and where: python -m tasnb export RUN --to FILE.zip")
    digest: Any = package.export(arguments.run, arguments.to)
    print(f"export: {arguments.to}\nSHA-256: {digest}")
    return 0
