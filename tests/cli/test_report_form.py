"""The form with which people report results of the real models."""

from __future__ import annotations

import re

import yaml

from tasnb.cli.arguments import _arguments
from tasnb.settings import ROOT

FORM = ROOT / ".github" / "ISSUE_TEMPLATE" / "proof-report.yml"


def test_the_form_is_one_that_github_accepts() -> None:
    """Its rules: known types, and a label and an id of its own for each field."""
    form = yaml.safe_load(FORM.read_text(encoding="utf-8"))
    assert form["name"] and form["description"]
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in fields} <= {"dropdown", "textarea", "input"}
    ids = [part["id"] for part in fields]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]+", name) for name in ids)
    labels = [part["attributes"]["label"] for part in fields]
    assert len(set(labels)) == len(labels)
    assert {"machine", "proof", "headline"} <= set(ids)


def test_its_commands_exist() -> None:
    found = re.findall(r"`python -m tasnb ([^`]+)`", FORM.read_text(encoding="utf-8"))
    assert len(found) == 3
    for command in found:
        _arguments(command.split())
