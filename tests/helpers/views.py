"""The explorer's views of the first pictures of RefScenes val."""

from __future__ import annotations

import copy
from pathlib import Path

from tasnb.explorer.content import View, Views
from tasnb.method.pipeline import Pipeline
from tasnb.settings import Settings, make_settings

TEXTS = (
    '<img src=x onerror="alert(1)"> & "quotes" \'too\'',
    "</script><script>window.attacked = true</script><!--",
    "]]> --> <!-- <script",
    "the 🐈‍⬛ next to 👩🏽‍🚀",
    "הקטה מימין\u202e قطة",
    "/*SCRIPT*/ /*VIEW*/ \\1 \\g<0> ${window.attacked = true}\u2028`",
)
"""What users type and captioners might say."""

FIRST = {"datasets": ["refscenes"], "splits": ["val"], "limit": 2}


def first_settings(store: Path, **changes: object) -> Settings:
    return make_settings(**{**FIRST, "store": str(store), **changes})


def first_views(store: Path, **changes: object) -> Views:
    pipeline = Pipeline(first_settings(store, **changes))
    return Views(pipeline, pipeline.split("refscenes", "val"))


def rows_of(views: Views, number: int) -> list[int]:
    """The numbers of the expressions about a picture."""
    key = list(views.split.images)[number]
    return [row for row, image in enumerate(views.sentences["image"]) if image == key]


def first_view(store: Path, **changes: object) -> View:
    """The view of the first picture, with all of its expressions."""
    views = first_views(store, **changes)
    return views.view(rows_of(views, 0))


def with_text(view: View, text: str) -> View:
    """The view with the text everywhere where there may be one."""
    view = copy.deepcopy(view)
    view["caption"] = view["about"] = text
    view["captions"] = {form: [text] * len(said) for form, said in view["captions"].items()}
    view["jumps"] = [{"title": text, "at": [0]}]
    for expression in view["expressions"]:
        expression |= {"text": text, "subject": text, "head": text}
        expression["truth"]["target"] = text
        expression["phrases"] = [
            {"text": text, "negative": negative, "why": text} for negative in (True, False)
        ]
    return view
