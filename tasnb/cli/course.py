"""The command about teaching: course."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasnb.settings import InputError

_COURSE = """\
Writes the course of notebooks/COURSE.md to a folder or zip file: the notebooks without solutions, a
finished run with them, slides that need no network, and the stored results, so that little is
computed in class. The first time, this takes as long as a run. Notebook 07, which measures time, is
left out unless it is named. An earlier course is replaced, unless one of its files was changed."""

_EXAMPLES = """\
examples:
  python -m tasnb course --out course
  python -m tasnb course --out course.zip --notebooks 01,02,03,04 --limit 20"""


def declare(command: Callable[..., Any], add_choices: Callable[..., None]) -> None:
    """Declares the command; the arguments are those of `tasnb.cli.reruns.declare`."""
    parser = command("course", "write editions for students and teachers", _COURSE, _EXAMPLES)
    add_choices(parser.add_argument, "a folder, or a file NAME.zip", "all but 07")
    parser.set_defaults(call=course)


def course(arguments: argparse.Namespace) -> None:
    if not arguments.out:
        raise InputError("say where to write the course: python -m tasnb course --out DIR")
    from tasnb.cli.doctor import check_named
    from tasnb.cli.given import given
    from tasnb.course.editions import slowest, write_course
    from tasnb.workbook.parameters import settings_of

    overrides = given(arguments)
    out = Path(overrides.pop("out"))
    check_named(settings_of(overrides))
    written = write_course(out, overrides, arguments.notebooks)
    if written.is_dir():
        seconds, where = slowest(written / "teacher")
        if where:
            print(f"slowest cell with stored results: {seconds:.0f} s ({where})")
    print(f"course: {written}")
