"""The view that the explorer draws, as plain data for JSON.

A view has everything about one picture that needs a model, so that all the rest is arithmetic on
scores and done by ``explorer.js``. Anything else that can draw a view may take its place. All lists
over masks are in the order of ``masks``, the refined proposals of the picture:

- ``format``: 1; a change that readers cannot ignore raises it.
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
  ``orientation`` (words among left, right, top, bottom), ``phrases`` of the picture's caption
  (``text``, ``negative``, and ``why``), ``inside`` (whether the rectifier keeps each mask),
  ``scores`` and ``truth``. ``scores`` has V and N by "ENCODER CLIP_INPUT", and P by "ENCODER
  CAPTION_INPUT". ``truth`` is null, or ``target`` (its name), ``outline`` and ``iou`` of each mask.
- ``first``: Number of the first of them among all expressions of a series, of which there are
  ``count``; ``at``: Number of the one to show.
- ``jumps``: Expressions worth a look: ``title``, and ``at``, all their numbers in order.
- ``choice``: What the first scores are of: recipe, encoder, caption_input and clip_input.
  ``choices``: What may be chosen of each.
- ``names``: The encoders' names in the settings, by the short names used everywhere else.
- ``defaults``: The profile's own choice, and alpha and lam.
- ``code``: ``image``, an expression of Python for the picture, and ``settings`` other than these
  that differ from the profile, for a call that repeats the answer.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.datasets.splits import Split
from tasnb.method import language, released
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import decode
from tasnb.method.scores import ScoreTable
from tasnb.models import parsers
from tasnb.profiles import RECIPES
from tasnb.settings import Settings, make_settings, short

FORMAT = 1
WIDEST = 1600  # pixels of the longer side; a larger picture is scaled down to be shown
CHOICES = ("caption_input", "clip_input")
INPUTS = {"caption_input": ("blur", "crop"), "clip_input": ("crop", "blur")}
DIGITS = 8  # of scores, whose embeddings are in 32 bits

View = dict[str, Any]


def view_of(
    pipeline: Pipeline,
    split: Split,
    rows: Sequence[int],
    *,
    encoders: Sequence[str] = (),
    src: str = "",
    first: int = 0,
) -> View:
    """The view of one picture and some of its expressions.

    Args:
        pipeline: Computes what is not stored.
        split: Contains the picture and the expressions.
        rows: The expressions' rows in ``split.sentences``, all about the same picture.
        encoders: Whose scores to include; by default, all of the settings.
        src: The picture's address; by default, its pixels are included.
        first: The number of the first expression in its series.
    """
    settings = pipeline.settings
    encoders = list(encoders or settings.encoders)
    sentences = split.sentences.loc[list(rows)].reset_index(drop=True)
    key = str(sentences["image"].iloc[0])
    images = {key: split.images[key]}
    some = Split(split.dataset, split.split, sentences, images)
    masks = pipeline.refined(images)
    pixels = pipeline.pixels(images, key)
    shown, scale = _fitted(pixels)
    tables = {encoder: pipeline.score(some, encoder) for encoder in encoders}
    table = tables[encoders[0]]
    view: View = {
        "format": FORMAT,
        "about": "",
        "picture": {"src": src or data_uri(shown), "size": [shown.shape[1], shown.shape[0]]},
        "masks": _masks(masks, pixels, scale),
        "caption": str(pipeline.image_captions(images)[key]),
        "captions": {settings.caption_input: list(pipeline.captions(images)["caption"])},
        "blur": round(scale * (0.3 * ((settings.blur_kernel - 1) / 2 - 1) + 0.8), 3),
        "expressions": [
            _expression(pipeline, some, number, table, tables, scale)
            for number in range(len(sentences))
        ],
        "first": first,
        "count": len(sentences),
        "at": first,
        "jumps": [],
        "choice": choice_of(settings, encoders[-1]),
        "choices": {
            "recipe": list(RECIPES),
            "encoder": [short(name) for name in settings.encoders],
            **{name: list(inputs) for name, inputs in INPUTS.items()},
        },
        "names": {short(name): name for name in settings.encoders},
    }
    return view | _to_repeat(settings)


def choice_of(settings: Settings, encoder: str) -> dict[str, str]:
    """The choice that the settings stand for."""
    chosen = {name: getattr(settings, name) for name in CHOICES}
    return {"recipe": settings.recipe, "encoder": short(encoder), **chosen}


def _to_repeat(settings: Settings) -> View:
    """What a call of ``tasnb.segment`` needs to repeat the answer."""
    own = make_settings(settings.profile)
    told = ("recipe", "encoders", "alpha", "lam", *CHOICES)
    changed = {k: v for k, v in settings.changed.items() if k not in (*told, *_OF_RUNS)}
    if settings.profile != "embedded":
        changed = {"profile": settings.profile, **changed}
    defaults = {"alpha": own.alpha, "lam": own.lam, **choice_of(own, own.encoders[-1])}
    return {"defaults": defaults, "code": {"image": '"picture.jpg"', "settings": changed}}


_OF_RUNS = ("datasets", "splits", "limit", "seed", "store", "out", "data", "profile")


def _fitted(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], float]:
    """A picture of at most ``WIDEST`` pixels, and its scale."""
    scale = min(1.0, WIDEST / max(pixels.shape[:2]))
    if scale == 1:
        return pixels, scale
    size = [max(1, round(scale * side)) for side in pixels.shape[1::-1]]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), scale


def data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """A picture, RGB uint8 (H, W, 3), as the address of a JPEG file that contains it."""
    _, content = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


def _masks(masks: pd.DataFrame, pixels: npt.NDArray[np.uint8], scale: float) -> list[View]:
    found = []
    boxes = masks[["x", "y", "w", "h"]].to_numpy() * scale
    centers = masks[["center_x", "center_y"]].to_numpy() * scale
    for row in range(len(masks)):
        one = masks.iloc[[row]]
        found.append(
            {
                "id": int(one["mask_id"].iloc[0]),
                "outline": outline(decode(one)[0], scale),
                "box": boxes[row].round(2).tolist(),
                "center": centers[row].round(2).tolist(),
                "area": round(float(one["area"].iloc[0]) / pixels[..., 0].size, 5),
                "rle": {
                    "size": [int(side) for side in pixels.shape[:2]],
                    "counts": one["counts"].iloc[0].decode("ascii"),
                },
            }
        )
    return found


def outline(mask: npt.NDArray[np.bool_], scale: float = 1.0) -> str:
    """The outlines of a mask (H, W), holes included, as an SVG path in pixels times ``scale``."""
    fine = mask.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    lines, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parts = []
    for line in lines:
        smooth = (cv2.approxPolyDP(line, 1.0 / scale, True)[:, 0] + 0.5) / 2 * scale
        parts.append("M" + "L".join(f"{x:.5g} {y:.5g}" for x, y in smooth) + "Z")
    return "".join(parts)


def _expression(
    pipeline: Pipeline,
    split: Split,
    number: int,
    table: ScoreTable,
    tables: dict[str, ScoreTable],
    scale: float,
) -> View:
    """An expression, what was read from it, and its scores."""
    settings = pipeline.settings
    sentence, pairs = table.one(number)
    scores: dict[str, dict[str, list[float]]] = {"V": {}, "P": {}, "N": {}}
    for encoder, scored in tables.items():
        _, own = scored.one(number)
        for name, form in (("V", "clip"), ("P", "caption"), ("N", "clip")):
            key = f"{short(encoder)} {getattr(settings, f'{form}_input')}"
            scores[name][key] = own[name].astype(float).round(DIGITS).tolist()
    truth = None
    if sentence["truth_area"]:
        union = pairs["area"] + sentence["truth_area"] - pairs["intersection"]
        size = [int(sentence["height"]), int(sentence["width"])]
        mask = coco_mask.decode({"size": size, "counts": sentence["ground_truth"]}).astype(bool)
        truth = {
            "target": sentence["target"],
            "outline": outline(mask, scale),
            "iou": (pairs["intersection"] / union).round(4).tolist(),
        }
    return {
        "text": str(sentence["sentence"]),
        "subject": str(sentence["subject"]),
        "head": str(sentence["head"]),
        "orientation": str(sentence["orientation"]),
        "phrases": _phrases(pipeline, sentence),
        "inside": pairs["in_region"].astype(bool).tolist(),
        "scores": scores,
        "truth": truth,
    }


def _phrases(pipeline: Pipeline, sentence: pd.Series) -> list[View]:
    """The noun phrases of the picture's caption, and why each became a negative phrase or not."""
    settings, head = pipeline.settings, str(sentence["head"])
    wordnet = parsers.load_wordnet(settings.data / "wordnet" / "wordnet.zip")
    theirs = settings.negative_rule == "released"
    same = released.are_near_synonyms if theirs else language.are_synonyms
    found = []
    for phrase in pipeline.noun_phrases([sentence["caption"]])[sentence["caption"]]:
        shared = [noun for noun in phrase.nouns.split() if same(noun, head, wordnet)]
        why = "names another object: masks that look like it lose points"
        if shared:
            why = "is the subject" if head in shared else f"“{shared[0]}” is a synonym of “{head}”"
        found.append({"text": phrase.text, "negative": not shared, "why": why})
    return found
