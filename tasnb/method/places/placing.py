"""The prior of places for the sentences and masks of a split, from their scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.method.language import prompted
from tasnb.method.places.cues import read
from tasnb.method.places.layout import layout
from tasnb.method.places.priors import Weights, prior
from tasnb.method.scores import likelihood
from tasnb.settings import Settings

Floats = npt.NDArray[np.floating]


class Placing:
    """What the settings ask to be read from some sentences about place; false if nothing.

    Attributes:
        prompts: Sentence -> the text to embed for the second noun of its relation, if it has one.
    """

    def __init__(self, settings: Settings, sentences: Iterable[str]) -> None:
        by_cues = settings.rectifier_rule == "places"
        self.weights = Weights(
            settings.places_weight if by_cues else 0.0,
            settings.size_prior,
            settings.relation_weight,
        )
        self.temperature = settings.temperature
        self.prompts: dict[str, str] = {}
        for sentence in sentences if self.weights.relation else ():
            if relation := read(sentence).relation:
                self.prompts[sentence] = prompted(relation.other)

    def __bool__(self) -> bool:
        return any(self.weights)

    def score(
        self,
        sentences: Sequence[str],
        masks: pd.DataFrame,
        totals: Floats,
        others: dict[str, Floats],
    ) -> Floats:
        """What place adds to the score of each mask of an image, (S, M).

        Args:
            sentences: About this image, (S,).
            masks: One row per mask: x, y, w, h, height and width of the image (pixels), (M,).
            totals: S by everything but place, (S, M); which masks are likely follows from it.
            others: Sentence -> the chance that each mask shows its second noun, (M,).
        """
        size = int(masks["height"].iloc[0]), int(masks["width"].iloc[0])
        where = layout(masks[["x", "y", "w", "h"]].to_numpy(float), size)
        likely = likelihood(totals, self.temperature)
        rows = zip(sentences, likely, strict=True)
        priors = [prior(read(t), where, own, others.get(t), self.weights) for t, own in rows]
        return np.stack(priors)
