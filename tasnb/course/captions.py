"""Checks of the exercises of notebook 02: masked images and captions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from tasnb.course.checking import Exercise, call, expect_same
from tasnb.course.verdicts import expect
from tasnb.datasets.splits import columns
from tasnb.method import language, masked_images, proposals
from tasnb.method.pipeline import Pipeline
from tasnb.results import analysis


def better_form(pipeline: Pipeline, better: Any) -> str:
    expect(better in ("crop", "blur"), 'Answer "crop" or "blur".')
    table = analysis.caption_accuracy(pipeline, *columns(pipeline.settings)[0])
    named = table.set_index("captioned")["names the target (%)"]
    expect(
        not named[better] < named.drop("whole image").max(),
        "The captioner has been trained on whole pictures. In which of the two forms does what it "
        "sees look more like one?",
    )
    gap = abs(named["blur"] - named["crop"])
    return f"The two differ by {gap:.1f} points. Section 6.3 asks what that is worth for TAS."


def crop(pipeline: Pipeline, crop: Any) -> str:
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3) + 1
    mask = np.zeros((5, 6), bool)
    mask[1:4, 2:4] = True
    mask[1, 2] = False
    before = image.copy()
    got = np.asarray(call(crop, image, mask))
    expect((image == before).all(), "The image itself has changed; work on a copy.")
    expect(
        got.shape[:2] != image.shape[:2],
        "The result is as large as the image. It should be cut to the box of the mask.",
    )
    expect(
        got.shape == (3, 2, 3),
        "The result should have the size of the mask's box, with the last row and column of the "
        f"mask included; yours is {got.shape[0]} x {got.shape[1]}.",
    )
    expect((got[0, 0] == 0).all(), "Pixels of the box outside the mask should be black.")
    split = pipeline.split(*columns(pipeline.settings)[0])
    key = next(iter(split.images))
    pixels = pipeline.pixels(split.images, key)
    for one in proposals.decode(pipeline.proposals({key: split.images[key]}))[:10]:
        rows, across = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        box = np.s_[rows[0] : rows[-1] + 1, across[0] : across[-1] + 1]
        truth = np.where(one[box][..., None], pixels[box], 0)
        got = np.asarray(call(crop, pixels, one))
        expect(
            got.shape == truth.shape and bool((got == truth).all()),
            "Right on the small example, but not on a mask of this run. Does your function change "
            "its arguments, or rely on their size?",
        )
    side = max(truth.shape[:2])
    assert masked_images.masked_image(pixels, one).shape == (side, side, 3)
    return "tasnb.method.masked_images does the same and pads the result to a square."


CAPTIONS = (
    ("a woman next to a tree", "man", "A word may contain another one."),
    ("two dogs on the grass", "dog", "The plural counts, too."),
    ("A Dog on the grass", "dog", "Captions may contain capital letters."),
    ("a dog, asleep", "dog", "Punctuation is not part of a word."),
    ("a man with a hat", "man", "The word itself should be found."),
    ("buses in a street", "bus", "Some plurals end in -es."),
    ("a hotdog", "dog", "A word may contain another one."),
)


def names_target(pipeline: Pipeline, names_it: Any) -> str:
    def captions_and_nouns() -> Iterator[tuple[str, str]]:
        split = pipeline.split(*columns(pipeline.settings)[0])
        images = dict(list(split.images.items())[:20])
        said = pipeline.captions(images)["caption"]
        nouns = {name for names in split.sentences["names"].head(50) for name in names}
        yield from product(said.head(200), sorted(nouns)[:20])

    def truth(caption: str, noun: str) -> bool:
        return language.says(caption.lower(), noun.lower())

    expect_same(names_it, truth, CAPTIONS, captions_and_nouns())
    return "Section 2.2 uses this rule, and WordNet for irregular plurals."


EXERCISES: dict[str, Exercise] = {
    "2.1": Exercise(("better",), "Predict which form is better for captions.", better_form),
    "2.2": Exercise(("crop",), "Write a function crop(image, mask), Eq. 1.", crop),
    "2.3": Exercise(("names_it",), "Mend the function names_it(caption, noun).", names_target),
}
