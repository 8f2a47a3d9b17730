"""Prints the proof of a profile: ``python -m tasnb doctor --prove``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from tasnb.proof import record
from tasnb.proof.answers import Answer
from tasnb.proof.prove import FAILURES, Line, as_text, models_of
from tasnb.proof.prove import prove as lines_of
from tasnb.settings import InputError, Settings
from tasnb.workbook.records import now, versions


def prove(
    settings: Settings, as_json: bool = False, answers: Sequence[Answer] | None = None
) -> int:
    """Prints a line per answer, keeps the result for reports, and returns the exit status.

    Args:
        settings: Of the profile.
        as_json: Print a JSON document instead.
        answers: Instead of those that come with the package.

    Raises:
        InputError: The profile is embedded, nothing can be asked, or the pictures are missing.
    """
    if settings.profile == "embedded":
        raise InputError(
            "--prove is for public models: add --profile lite, --profile paper or --profile "
            "modern; without --prove, the embedded models are compared with their cards"
        )
    width = max(len(model) for _, model in models_of(settings))
    lines: list[Line] = []
    for line in lines_of(settings, answers):
        lines.append(line)
        if not as_json:
            print(as_text(line, width), flush=True)
    installed = versions()
    record.write(settings, lines, installed)
    failed = [line for line in lines if line.verdict in FAILURES]
    asked = sum(line.verdict in ("agrees", "holds", "disagrees", "fails") for line in lines)
    if as_json:
        content = {
            "profile": settings.profile,
            "finished": now(),
            "versions": {name: installed[name] for name in record.LIBRARIES},
            "ok": not failed,
            "lines": [line._asdict() for line in lines],
        }
        print(json.dumps(content, indent=2))
    if failed:
        models = ", ".join(dict.fromkeys(line.model for line in failed))
        print(f"tasnb: the profile {settings.profile} is not proven: {models}", file=sys.stderr)
        return 1
    if not as_json:
        print(f"profile {settings.profile}: all {asked} answers are as expected")
    return 0
