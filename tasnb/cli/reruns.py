"""What the commands about several runs do: compare, sweep, overview, export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tasnb.settings import ROOT, InputError


def compare(arguments: argparse.Namespace) -> None:
    from tasnb.reruns.comparison import compare

    page, said = compare(arguments.runs, arguments.out or "")
    for line in said:
        print(line)
    print(f"comparison: {page}")


def sweep(arguments: argparse.Namespace) -> int:
    from tasnb.cli.commands import given, say
    from tasnb.cli.doctor import check_named
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
    print(f"{count} runs: {page}")


def export(arguments: argparse.Namespace) -> int:
    from tasnb.cli.commands import say
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
