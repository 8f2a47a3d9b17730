"""The view that the explorer draws, as plain data for JSON.

A view has everything about one picture that needs a model, so that all the rest is arithmetic on
scores and done in the browser. Anything else that can draw a view may take its place. All lists
over masks are in the order of ``masks``, the refined proposals of the picture:

- ``format``: 2; a change that readers cannot ignore raises it.
- ``about``: What computed it, in words.
- ``picture``: ``src``, an address or data URI, and ``size`` [width, height] in pixels. All
  coordinates below are in these pixels.
- ``masks``: For each, ``id`` (its mask_id), ``outline`` (an SVG path, holes by the even-odd rule),
  ``box`` [x, y, w, h], ``center`` [x, y], ``area`` (share of the picture) and ``rle`` (size [h, w]
  and counts, COCO's compressed run lengths at full resolution).
- ``caption``: Of the whole picture. ``captions``: Of the masks, by what the captioner sees, "blur"
  or "crop".
- ``blur``: Standard deviation of the blur behind a mask, in pixels.
- ``expressions``: Those in this view, in order. Each has ``text``, ``subject``, ``head``,
  ``orientation`` (words among left, right, top, bottom; "" where places are soft), ``places`` (what
  was read about them, in words), ``phrases`` of the picture's caption (``text``, ``negative``, and
  ``why``), ``inside`` (whether the rectifier keeps each mask), ``scores`` and ``truth``. ``scores``
  has V and N by "ENCODER CLIP_INPUT", and P by "ENCODER CAPTION_INPUT"; in the recipe ``extended``
  also G by "ENCODER CLIP_INPUT", which places and size add to S in place of the rectifier, and C,
  which is always added. Where answers may have any number of masks, E (evidence, see
  ``tasnb.method.answers``) by "ENCODER CLIP_INPUT CAPTION_INPUT". ``truth`` is null, or ``target``
  (its name), ``outline``, ``iou`` of each mask, and ``rle``.
- ``first``: Number of the first of them among all expressions of a series, of which there are
  ``count``; ``at``: Number of the one to show.
- ``jumps``: Expressions worth a look: ``title``, and ``at``, all their numbers in order.
- ``choice``: What the first scores are of: recipe, encoder, caption_input and clip_input.
  ``choices``: What may be chosen of each.
- ``names``: The encoders' names in the settings, by the short names used everywhere else.
- ``weights``: To begin with, alpha and lam; and, as the settings of these names, ``answers`` ("one"
  or "any"), ``several_share`` and ``least_evidence``. ``temperature``: Of the likelihood of a mask
  by S, of which ``several_share`` is a share.
- ``defaults``: The profile's own choice and weights.
- ``recipes``: alpha, lam and the inputs with which each recipe begins.
- ``code``: ``image``, an expression of Python for the picture, and ``settings`` other than these
  that differ from the profile, for a call that repeats the answer.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.datasets.splits import Split
from tasnb.method import language, places, released
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.models import parsers
from tasnb.profiles import RECIPES
from tasnb.settings import Settings, make_settings, short

FORMAT = 2
WIDEST = 1600  # pixels of the longer side; a larger picture is scaled down to be shown
INPUTS = {"caption_input": ("blur", "crop"), "clip_input": ("crop", "blur", "both")}
ANSWERING = ("answers", "several_share", "least_evidence")
DIGITS, FEW = 8, 5  # of scores, whose embeddings are in 32 bits; and where space matters

View = dict[str, Any]


class Views:
    """The views of the pictures of a split; what all of them need is computed together.

    Args:
        pipeline: Computes what is not stored.
        split: Contains the pictures and the expressions.
        tables: The scores by encoder; by default, of all encoders of the settings.
    """

    def __init__(
        self, pipeline: Pipeline, split: Split, tables: Mapping[str, ScoreTable] | None = None
    ) -> None:
        self.pipeline, self.split, self.settings = pipeline, split, pipeline.settings
        encoders = self.settings.encoders
        self.tables = tables or {name: pipeline.score(split, name) for name in encoders}
        self.sentences = next(iter(self.tables.values())).sentences
        self.pairs = {
            name: dict(list(table.pairs.groupby("sentence"))) for name, table in self.tables.items()
        }
        masks = pipeline.refined(split.images)
        said = pipeline.captions(split.images)["caption"]
        self.masks = dict(list(masks.assign(caption=said.to_numpy()).groupby("image")))
        self.nothing = masks[:0].assign(caption="")
        self.captions = pipeline.image_captions(split.images)
        self.phrases = pipeline.noun_phrases(self.captions)
        self.wordnet = parsers.load_wordnet(self.settings.data / "wordnet" / "wordnet.zip")

    def view(self, rows: Sequence[int], src: str = "", brief: bool = False) -> View:
        """The view of one picture and some of its expressions.

        Args:
            rows: The numbers of the expressions, which are consecutive.
            src: The picture's address; by default, its pixels are included.
            brief: Leave out what a page of many pictures has no space for: the last digits of
                scores, and run lengths unless answers may have any number of masks, which need them
                to be combined.
        """
        key = str(self.sentences["image"].iloc[rows[0]])
        height, width = (int(self.sentences[side].iloc[rows[0]]) for side in ("height", "width"))
        scale = 1.0 if src else min(1.0, WIDEST / max(height, width))
        size = [max(1, round(scale * side)) for side in (width, height)]
        masks = self.masks.get(key, self.nothing)
        settings = self.settings
        kernel = settings.blur_kernel
        digits, with_rle = FEW if brief else DIGITS, not brief or settings.answers == "any"
        view: View = {
            "format": FORMAT,
            "about": "",
            "picture": {"src": src or data_uri(self._fitted(key, size)), "size": size},
            "masks": [_mask(row, scale, with_rle) for row in masks.to_dict("records")],
            "caption": str(self.captions[key]),
            "captions": {settings.caption_input: masks["caption"].tolist()},
            "blur": round(scale * (0.3 * ((kernel - 1) / 2 - 1) + 0.8), 3),
            "expressions": [self._expression(row, scale, digits, with_rle) for row in rows],
            "first": int(rows[0]),
            "count": int(rows[-1]) + 1,
            "at": int(rows[0]),
            "jumps": [],
            "choice": choice_of(settings, list(self.tables)[-1]),
            "choices": {
                "recipe": list(RECIPES),
                "encoder": [short(name) for name in settings.encoders],
                **{name: list(inputs) for name, inputs in INPUTS.items()},
            },
            "names": {short(name): name for name in settings.encoders},
            "weights": {
                "alpha": settings.alpha,
                "lam": settings.lambda_of(self.split.dataset),
                **{name: getattr(settings, name) for name in ANSWERING},
            },
            "temperature": settings.temperature,
        }
        return view | _to_repeat(settings)

    def _fitted(self, key: str, size: list[int]) -> npt.NDArray[np.uint8]:
        pixels = self.pipeline.pixels(self.split.images, key)
        if list(pixels.shape[1::-1]) == size:
            return pixels
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)

    def _expression(self, number: int, scale: float, digits: int, with_rle: bool) -> View:
        """An expression, what was read from it, and its scores."""
        sentence = self.sentences.iloc[number]
        scores: dict[str, dict[str, list[float]]] = {"V": {}, "P": {}, "N": {}}
        scores |= {name: {} for name in "CGE" if all(name in t.pairs for t in self.tables.values())}
        pairs = None
        for encoder, by_sentence in self.pairs.items():
            pairs = by_sentence.get(number)
            for name in scores:
                seen, said = self.settings.clip_input, self.settings.caption_input
                form = {"P": said, "E": f"{seen} {said}"}.get(name, seen)
                key = f"{short(encoder)} {form}"
                values = [] if pairs is None else pairs[name].to_numpy(float).round(digits).tolist()
                scores[name][key] = values
        soft = self.settings.rectifier_rule == "places"
        return {
            "text": str(sentence["sentence"]),
            "subject": str(sentence["subject"]),
            "head": str(sentence["head"]),
            "orientation": "" if soft else str(sentence["orientation"]),
            "places": places.in_words(places.read(sentence["sentence"])) if soft else "",
            "phrases": self._phrases(sentence, pairs),
            "inside": [] if pairs is None else pairs["in_region"].astype(bool).tolist(),
            "scores": scores,
            "truth": _truth(sentence, pairs, scale, with_rle) if sentence["truth_area"] else None,
        }

    def _phrases(self, sentence: pd.Series, pairs: pd.DataFrame | None) -> list[View]:
        """The phrases of the picture's caption, and why each became a negative phrase or not.

        Or the captions of the masks, if N is made from them.
        """
        if self.settings.negative_rule == "masks":
            why = "describes other masks: the less it resembles the expression, the more it counts"
            said = [] if pairs is None else dict.fromkeys(pairs["caption"])
            return [{"text": text, "negative": True, "why": why} for text in said]
        head = str(sentence["head"])
        theirs = self.settings.negative_rule == "released"
        same = released.are_near_synonyms if theirs else language.are_synonyms
        found = []
        for phrase in self.phrases[sentence["caption"]]:
            shared = [noun for noun in phrase.nouns.split() if same(noun, head, self.wordnet)]
            why = "names another object: masks that look like it lose points"
            if shared:
                why = "is the subject" if head in shared else f"“{shared[0]}” also means “{head}”"
            found.append({"text": phrase.text, "negative": not shared, "why": why})
        return found


def runs(sentences: pd.DataFrame) -> list[range]:
    """The numbers of consecutive sentences about the same picture."""
    image = sentences["image"].to_numpy()
    starts = [0, *(np.flatnonzero(image[1:] != image[:-1]) + 1), len(image)]
    return [range(int(a), int(b)) for a, b in itertools.pairwise(starts) if a < b]


def choice_of(settings: Settings, encoder: str) -> dict[str, str]:
    """The choice that the settings stand for."""
    chosen = {name: getattr(settings, name) for name in INPUTS}
    return {"recipe": settings.recipe, "encoder": short(encoder), **chosen}


_OF_RUNS = ("datasets", "splits", "limit", "sample", "seed", "store", "out", "data", "profile")


def _to_repeat(settings: Settings) -> View:
    """What a call of ``tasnb.segment`` needs to repeat the answer."""
    own = make_settings(settings.profile)
    told = ("recipe", "encoders", "alpha", "lam", *ANSWERING, *INPUTS)
    changed = {k: v for k, v in settings.changed.items() if k not in (*told, *_OF_RUNS)}
    if settings.profile != "embedded":
        changed = {"profile": settings.profile, **changed}
    weights = {name: getattr(own, name) for name in ("alpha", "lam", *ANSWERING)}
    defaults = {**weights, **choice_of(own, own.encoders[-1])}
    begins = ("alpha", "lam", *INPUTS)
    by_recipe = {name: make_settings(settings.profile, recipe=name) for name in RECIPES}
    recipes = {name: {k: getattr(by, k) for k in begins} for name, by in by_recipe.items()}
    return {
        "defaults": defaults,
        "recipes": recipes,
        "code": {"image": '"picture.jpg"', "settings": changed},
    }


def data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """A picture, RGB uint8 (H, W, 3), as the address of a JPEG file that contains it."""
    _, content = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


def _mask(row: Mapping[str, Any], scale: float, with_rle: bool) -> View:
    size = [int(row["height"]), int(row["width"])]
    mask = {
        "id": int(row["mask_id"]),
        "outline": outline_of(*size, row["counts"], scale),
        "box": [round(scale * row[name], 2) for name in "xywh"],
        "center": [round(scale * row[name], 2) for name in ("center_x", "center_y")],
        "area": round(row["area"] / (size[0] * size[1]), 5),
    }
    return mask | _rle(size, row["counts"]) if with_rle else mask


def _rle(size: list[int], counts: bytes) -> View:
    return {"rle": {"size": size, "counts": counts.decode()}}


def _truth(sentence: pd.Series, pairs: pd.DataFrame | None, scale: float, with_rle: bool) -> View:
    iou = []
    if pairs is not None:
        union = pairs["area"] + sentence["truth_area"] - pairs["intersection"]
        iou = (pairs["intersection"] / union).round(4).tolist()
    size = [int(sentence["height"]), int(sentence["width"])]
    drawn = outline_of(*size, sentence["ground_truth"], scale)
    truth = {"target": sentence["target"], "outline": drawn, "iou": iou}
    return truth | _rle(size, sentence["ground_truth"]) if with_rle else truth


@lru_cache(maxsize=20_000)  # encoders choose the same masks, and columns share images
def outline_of(height: int, width: int, counts: bytes, scale: float = 1.0) -> str:
    """``outline`` of a mask as COCO's run lengths."""
    mask = coco_mask.decode({"size": [height, width], "counts": counts}).astype(bool)
    return outline(mask, scale)


def outline(mask: npt.NDArray[np.bool_], scale: float = 1.0) -> str:
    """The outlines of a mask (H, W), holes included, as an SVG path in pixels times ``scale``."""
    whole = mask.astype(np.uint8)
    left, top, width, height = cv2.boundingRect(whole)
    if not width:
        return ""
    part = whole[top : top + height, left : left + width]
    fine = cv2.resize(part, (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST)
    at = (2 * left, 2 * top)
    lines, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=at)
    parts = []
    for line in lines:
        smooth = (cv2.approxPolyDP(line, 1.0 / scale, True)[:, 0] + 0.5) / 2 * scale
        parts.append("M" + "L".join([f"{x:.5g} {y:.5g}" for x, y in smooth.tolist()]) + "Z")
    return "".join(parts)
