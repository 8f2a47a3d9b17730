"""The prior of places for the sentences and masks of a split, from their scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.method.language import prompted
from tasnb.method.places.cues import read
from tasnb.method.places.layout import layout
from tasnb.method.places.priors import Weights, prior
from tasnb.settings import Settings

Floats = npt.NDArray[np.floating]


class Placing:
    """What the settings ask to be read from some sentences about place; false if nothing."""

    def __init__(self, settings: Settings, sentences: Iterable[str]) -> None:
        by_cues = settings.rectifier_rule == "places"
        self.weights = Weights(
            settings.places_weight if by_cues else 0.0,
            settings.size_prior,
            settings.relation_weight,
        )
        self.prompts = set(map(prompted, self.nouns_of(sentences)))

    def __bool__(self) -> bool:
        return any(self.weights)

    def nouns_of(self, sentences: Iterable[str]) -> list[str]:
        """The second nouns of the relations in some sentences; none if relations do not count."""
        asked = sentences if self.weights.relation else ()
        return sorted({noun for text in asked for _, noun in read(text).relations})

    def score(
        self,
        sentences: Sequence[str],
        masks: pd.DataFrame,
        likely: Floats,
        others: Mapping[str, Floats],
    ) -> Floats:
        """What place adds to the score of each mask of an image, (S, M).

        Args:
            sentences: About this image, (S,).
            masks: One row per mask: x, y, w, h, height and width of the image (pixels), (M,).
            likely: How likely each mask is by what it shows, from 0 to 1, (S, M).
            others: Second noun -> the chance that each mask shows it, (M,).
        """
        size = int(masks["height"].iloc[0]), int(masks["width"].iloc[0])
        where = layout(masks[["x", "y", "w", "h"]].to_numpy(float), size)
        rows = zip(sentences, likely, strict=True)
        priors = [prior(read(text), where, own, others, self.weights) for text, own in rows]
        return np.stack(priors)
