"""The explorer in a notebook: what it asks is answered here, with the models of a profile."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import pandas as pd
import traitlets
from PIL import Image, UnidentifiedImageError

from tasnb.datasets.expressions import check_expression
from tasnb.datasets.splits import Split, columns
from tasnb.explorer import content, page
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.models import parsers
from tasnb.models.encoders import load_encoder
from tasnb.profiles import RECIPES, title
from tasnb.results import tables
from tasnb.results.analysis import GOOD
from tasnb.segmentation import pictures
from tasnb.settings import (
    InputError,
    Settings,
    check_whole,
    make_settings,
    short,
    unknown,
)
from tasnb.workbook.spare import RUN

if TYPE_CHECKING:
    from tasnb.segmentation.pictures import Picture

Tell = Callable[[int, int, str], None]

ASKED_FIRST = "the person on the left"
"""What is asked about a picture of one's own if nothing is given."""


def explore(
    image: Picture | None = None,
    expression: str = "",
    profile: str = "embedded",
    sentence: int = 0,
    settings: Settings | None = None,
    **overrides: Any,
) -> Explorer:
    """Shows a picture, its masks, their scores, and what changes them.

    Args:
        image: As in ``segment``; None: the pictures and sentences of the run's first column, which
            ``datasets`` and ``splits`` select.
        expression: A referring expression; without an image, the first sentence of the column that
            contains it, or else it is asked about the column's first picture.
        profile: Selects the models.
        sentence: Without an image and an expression, the number of the sentence to begin with.
        settings: Used in place of a profile, such as ``pipeline.settings`` in a notebook.
        **overrides: Other settings.

    Returns:
        A widget. Where nobody can click, under papermill, it leaves a page that works without a
        kernel.

    Raises:
        InputError: As from ``segment``.
    """
    given = settings.model_dump() if settings else {"profile": profile}
    return Explorer(Session(make_settings(**{**given, **overrides}), image, expression, sentence))


class Session:
    """What an explorer shows and may be asked: the data behind the widget, without the widget.

    Args:
        settings: The settings that it starts from.
        image, expression, sentence: As in ``explore``.

    Raises:
        InputError: As from ``explore``.
    """

    def __init__(
        self, settings: Settings, image: Picture | None, expression: str = "", sentence: int = 0
    ) -> None:
        self.settings = settings
        self.pipeline = Pipeline(settings)
        self.pipelines: dict[tuple[str, ...], Pipeline] = {}
        self.evident: dict[Pipeline, Pipeline] = {}
        self.encoder = settings.encoders[-1]
        self.split: Split
        self.named = ""  # how code refers to the picture
        self.jumps: dict[str, list[int]] = {}
        if image is None:
            self._open_column(expression, sentence)
        else:
            self.open(image, expression or ASKED_FIRST)

    def warm(self) -> threading.Thread:
        """Loads what new expressions need in the background, so that the first is quick, too."""

        def load() -> None:
            with contextlib.suppress(Exception):  # asking will say what is wrong
                parsers.load_parser(self.settings.spacy_model)
                for encoder in self.settings.encoders:
                    load_encoder(encoder, self.settings).encode_texts(["a thing"])

        # No daemon: PyTorch aborts if a process ends while a thread of it is still loading a model.
        loading = threading.Thread(target=load)
        loading.start()
        return loading

    # -- what is open --------------------------------------------------------------------------

    def open(self, image: Picture, expression: str, named: str = "") -> None:
        """Opens a picture of one's own; it has a series of one expression."""
        check_expression(expression)
        asked = replace(pictures.asked(image, self.settings), expression=expression)
        self.split, self.jumps, self.at = pictures.split_of([asked]), {}, 0
        self.named = named or (repr(str(image)) if isinstance(image, str | Path) else "image")
        self.about = "A picture of your own"

    def _open_column(self, expression: str, sentence: int) -> None:
        dataset, split = columns(self.settings)[0]
        self.split = self.pipeline.split(dataset, split)
        scored = self.pipeline.scored(dataset, split, self.encoder)
        self.jumps = worth_a_look(self.pipeline, self.split, scored)
        self.about = f"{title(dataset)} {split}"
        check_whole("sentence", sentence, 0, len(self.split.sentences) - 1)
        self.at = sentence
        if expression:
            check_expression(expression)
            found = self.split.sentences["sentence"].str.contains(expression, regex=False)
            self.at = int(found.to_numpy().argmax()) if found.any() else 0
            if not found.any():
                self.split = self._with(expression)

    def _with(self, expression: str) -> Split:
        """The split with another expression in place of the one shown, without ground truth."""
        sentences = self.split.sentences.copy()
        row = sentences.index[self.at]
        nothing = {"target": "", "names": (), "truth_area": 0, "share": 0.0}
        for name, value in {"sentence": expression.strip(), **nothing}.items():
            sentences.at[row, name] = value
        return replace(self.split, sentences=sentences)

    # -- what is shown -------------------------------------------------------------------------

    def view(
        self, choice: Mapping[str, str] | None = None, tell: Tell | None = None
    ) -> content.View:
        """The view of the expression that is open, with all other expressions of its picture.

        Args:
            choice: Of recipe, encoder and inputs.
            tell: Called with the number of each step, the number of all steps, and its name.
        """
        pipeline = self._by(choice or content.choice_of(self.settings, self.encoder))
        sentences = self.split.sentences
        run = next(run for run in content.runs(sentences) if self.at in run)
        some = _only(self.split, run)
        steps = {"masks": pipeline.refined, "captions": pipeline.captions,
                 "caption of the picture": pipeline.image_captions}  # fmt: skip
        for encoder in pipeline.settings.encoders:
            steps[short(encoder)] = partial(pipeline.mask_views, encoder=encoder)
        # Step by step only for somebody who waits: `Views` computes what is missing anyway.
        for number, (name, compute) in enumerate(steps.items() if tell else (), start=1):
            tell(number, len(steps), name)
            compute(some.images)
        scored = {
            name: self._evident(pipeline).score(some, name) for name in pipeline.settings.encoders
        }
        view = content.Views(pipeline, some, scored).view(range(len(run)))
        view["first"] = run[0]
        settings = pipeline.settings
        models = (settings.proposal_network, settings.captioner, *settings.encoders)
        view["about"] = f"{self.about}, recipe {settings.recipe}, with {', '.join(models)}."
        view["count"], view["at"] = len(sentences), self.at
        view["jumps"] = [{"title": name, "at": those} for name, those in self.jumps.items()]
        view["code"]["image"] = self._code()
        if choice:
            view["choice"] = dict(choice)
        return view

    def _evident(self, pipeline: Pipeline) -> Pipeline:
        """A pipeline that has the evidence for each mask, too, so that answers may be of any number
        of them as soon as somebody wants it."""
        if pipeline.settings.answers == "any":
            return pipeline
        if pipeline not in self.evident:
            self.evident[pipeline] = pipeline.variant(answers="any")
        return self.evident[pipeline]

    def _code(self) -> str:
        if self.named:
            return self.named
        image = self.split.images[str(self.split.sentences["image"].iloc[self.at])]
        return repr(os.path.relpath(image)) if not isinstance(image, np.ndarray) else "image"

    def _by(self, choice: Mapping[str, str]) -> Pipeline:
        """The pipeline for a choice of recipe and inputs."""
        names = {short(name): name for name in self.settings.encoders}
        known = {"recipe": list(RECIPES), "encoder": list(names), **content.INPUTS}
        for name, options in known.items():
            if choice.get(name) not in options:
                raise unknown(name, choice.get(name), options)
        key = tuple(choice[name] for name in ("recipe", *content.INPUTS))
        own = tuple(getattr(self.settings, name) for name in ("recipe", *content.INPUTS))
        if key == own:
            return self.pipeline
        if key not in self.pipelines:
            recipe, *inputs = key
            based = self.settings
            if recipe != self.settings.recipe:
                based = make_settings(**self.settings.in_recipe(recipe).model_dump())
            changed = dict(zip(content.INPUTS, inputs, strict=True))
            self.pipelines[key] = Pipeline(make_settings(**{**based.model_dump(), **changed}))
        return self.pipelines[key]

    # -- what is asked -------------------------------------------------------------------------

    def answer(
        self, asked: Mapping[str, Any], buffers: Sequence[Any] = (), tell: Tell | None = None
    ) -> dict[str, Any]:
        """The answer to a message of the explorer: {"view": ...} or {"error": one line}.

        Args:
            asked: ``choice``, and one of ``expression`` (a text), ``go`` (the number of an
                expression of the series), ``picture`` (the name of a file whose content is the
                first buffer), or none, for other scores of the same expression.
            tell: As for ``view``.
        """
        before = self.split, self.at, self.jumps, self.named, self.about
        try:
            choice = dict(asked.get("choice") or content.choice_of(self.settings, self.encoder))
            if "at" in asked and 0 <= int(asked["at"]) < len(self.split.sentences):
                self.at = int(asked["at"])
            if "picture" in asked:
                name = str(asked["picture"])
                expression = str(asked.get("text") or "").strip() or ASKED_FIRST
                self.open(_read(bytes(buffers[0]), name), expression, repr(name))
            elif "expression" in asked:
                check_expression(str(asked["expression"]))
                self.split = self._with(str(asked["expression"]))
            elif "go" in asked:
                self.at = min(max(0, int(asked["go"])), len(self.split.sentences) - 1)
            return {"view": self.view(choice, tell)}
        except InputError as error:
            told = str(error)
        except Exception as error:  # the view must go on working
            told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self.split, self.at, self.jumps, self.named, self.about = before
        return {"error": told}


def worth_a_look(pipeline: Pipeline, split: Split, scored: ScoreTable) -> dict[str, list[int]]:
    """Expressions of a column by how the parts of TAS change their outcome."""

    def right(outcome: pd.DataFrame) -> np.ndarray:
        return outcome["iou"].to_numpy() >= GOOD

    v = right(scored.outcome(scored.choose(scored.pairs["V"].to_numpy(), rectify=False)))
    without, with_ = (tables.by_s(pipeline, split, scored, rectify) for rectify in (False, True))
    s, all_ = right(without), right(with_)
    possible = right(scored.outcome(scored.best_possible()))
    kinds = {
        "V wrong, TAS right": ~v & all_,
        "V right, TAS wrong": v & ~all_,
        "the rectifier helps": ~s & all_,
        "the rectifier hurts": s & ~all_,
        "no mask is right": ~possible,
    }
    if pipeline.settings.answers == "any":
        count = with_["mask_ids"].map(len).to_numpy()
        kinds |= {
            "TAS answers with several masks": count > 1,
            "TAS answers with nothing": count < 1,
        }
    return {name: np.flatnonzero(those).tolist() for name, those in kinds.items()}


def _only(split: Split, rows: Sequence[int]) -> Split:
    """Some sentences about one picture."""
    sentences = split.sentences.iloc[rows].reset_index(drop=True)
    key = sentences["image"].iloc[0]
    return replace(split, sentences=sentences, images={key: split.images[key]})


def _read(data: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        raise InputError(f"cannot read {name}: choose a JPEG or PNG file") from None
    return image


class Explorer(anywidget.AnyWidget):
    """The widget; see ``explore``."""

    _esm = page.SCRIPT
    _css = page.STYLE
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session) -> None:
        self.session = session
        super().__init__(view=session.view())
        self.on_msg(self._asked)
        if not nobody_clicks():
            session.warm()

    def _asked(self, _: Any, message: dict[str, Any], buffers: list[Any]) -> None:
        number = message.get("number")

        def tell(*progress: Any) -> None:
            self.send({"number": number, "progress": progress})

        with quiet():
            answer = self.session.answer(message, buffers, tell)
        # so that other cells that show it, and a page that is loaded again, show what is open
        self.view = answer.get("view", self.view)
        self.send({"number": number, **answer})

    def _repr_mimebundle_(self, **options: Any) -> Any:
        if nobody_clicks():  # a page that needs no kernel
            text = f"explorer: {self.view['expressions'][0]['text']}"
            return {"text/html": page.fragment(self.view), "text/plain": text}, {}
        return super()._repr_mimebundle_(**options)


def nobody_clicks() -> bool:
    """Whether the notebook is run by ``python -m tasnb run``."""
    return os.environ.get(RUN) == "1"


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Progress bars of an answer would end up under some other cell."""
    return contextlib.redirect_stderr(io.StringIO())
