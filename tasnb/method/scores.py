"""V, P, N and their sum S (Eq. 2 to 6) as array arithmetic; nothing here needs a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.settings import check_whole

Floats = npt.NDArray[np.floating]


def similarity(images: Floats, texts: Floats) -> Floats:
    """Cosine of every text with every image, (T, M).

    Args:
        images: Unit vectors (M, D); or several of each image, (M, Q, D), the nearest of which
            counts, as in BLIP-2.
        texts: Unit vectors (T, D).
    """
    cosines = texts @ images.swapaxes(-1, -2)  # (T, M), or (M, T, Q)
    return cosines if images.ndim == 2 else cosines.max(-1).T


def v_score(crops: Floats, expressions: Floats) -> Floats:
    """Cosine of every masked image with every expression (Eq. 2).

    Args:
        crops: Unit vectors E_v(I_m), (M, D) or, several of each, (M, Q, D).
        expressions: Unit vectors E_t(T_r), (S, D).

    Returns:
        (S, M), in [-1, 1].
    """
    return similarity(crops, expressions)


def p_score(captions: Floats, expressions: Floats) -> Floats:
    """Cosine of every mask's caption with every expression, in text space (Eq. 3), (S, M)."""
    return expressions @ captions.T


def n_score(crops: Floats, phrases: Floats, negative: npt.NDArray[np.integer]) -> Floats:
    """Minus the mean cosine of every masked image with an expression's negative phrases (Eq. 4).

    Args:
        crops: Unit vectors E_v(I_m), (M, D) or, several of each, (M, Q, D).
        phrases: Unit vectors E_t(T) of the noun phrases of the whole image's caption, (T, D).
        negative: Which of them are negative for which expression, (S, T), bool or how often.

    Returns:
        (S, M), in [-1, 1]; 0 for every mask of an expression that has no negative phrase.
    """
    count = negative.sum(1, keepdims=True)
    summed = negative.astype(crops.dtype) @ similarity(crops, phrases)
    return -summed / np.maximum(count, 1)


def total_score(v: Floats, p: Floats, n: Floats, alpha: float, lam: float) -> Floats:
    """S = V + alpha P + lambda N (Eq. 5); N is negative already."""
    return v + alpha * p + lam * n


@dataclass(frozen=True)
class ScoreTable:
    """All scores of one split with one encoder.

    Attributes:
        sentences: A row a sentence, as in ``datasets.Split``, with what was read from it: subject,
            head, orientation, the image's caption, negatives (list), own_negative.
        pairs: A row a sentence and mask: sentence (row of ``sentences``), mask_id, V, P, N,
            center_x, center_y, in_region, intersection, area. Sorted by sentence and mask.
    """

    sentences: pd.DataFrame
    pairs: pd.DataFrame

    def one(self, sentence: int) -> tuple[pd.Series, pd.DataFrame]:
        """A sentence by its number, from 0, and its pairs.

        Raises:
            InputError: There is no such sentence.
        """
        check_whole("sentence", sentence, 0, len(self.sentences) - 1)
        return self.sentences.iloc[sentence], self.pairs[self.pairs["sentence"] == sentence]

    @cached_property
    def _rank(self) -> npt.NDArray[np.int64]:
        """Position of a pair among its sentence's pairs."""
        return self.pairs.groupby("sentence").cumcount().to_numpy()

    @cached_property
    def _shape(self) -> tuple[int, int]:
        """(sentences, most masks)."""
        return len(self.sentences), int(self._rank.max()) + 1 if len(self.pairs) else 1

    @cached_property
    def _cell(self) -> npt.NDArray[np.int64]:
        """Position of a pair in a table of ``_shape``, row after row."""
        return self._column["sentence"] * self._shape[1] + self._rank

    @cached_property
    def _column(self) -> dict[str, npt.NDArray]:
        """What many choices on the same table read again and again; frames are slow to ask."""
        names = [n for n in ("sentence", "area", "intersection", *"VPN") if n in self.pairs]
        columns = {name: self.pairs[name].to_numpy() for name in names}
        return columns | {"truth_area": self.sentences["truth_area"].to_numpy(np.int64)}

    def _dense(self, values: npt.ArrayLike, fill: float) -> Floats:
        """Values of the pairs as (sentences, most masks), the rest filled."""
        dense = np.full(self._shape, fill)
        dense.reshape(-1)[self._cell] = values
        return dense

    @cached_property
    def _place(self) -> npt.NDArray[np.int64]:
        return self._dense(np.arange(len(self.pairs)), -1).astype(np.int64)

    @cached_property
    def _barred(self) -> npt.NDArray[np.bool_]:
        """Masks outside the region that a sentence names; none if the region is empty."""
        region = self._dense(self.pairs["in_region"].to_numpy(), 0).astype(bool)
        return ~region & region.any(1, keepdims=True)

    def acted(self) -> npt.NDArray[np.bool_]:
        """Whether the rectifier bars some of a sentence's masks and leaves others, (S,)."""
        inside = self.pairs["in_region"].to_numpy(bool)
        some, others = (self._dense(those, 0).any(1) for those in (inside, ~inside))
        return some & others

    def total(self, alpha: float, lam: float) -> Floats:
        """S of every pair (Eq. 5)."""
        v, p, n = (self._column[name] for name in "VPN")
        return total_score(v, p, n, alpha, lam)

    def choose(self, score: Floats, rectify: bool) -> npt.NDArray[np.int64]:
        """The pair of the best mask of every sentence (Eq. 6), the first of equals.

        Args:
            score: A value a pair.
            rectify: Whether only masks in the region that the expression names may be chosen
                (section 3.4).

        Returns:
            (S,) rows of ``pairs``; -1 where the image has no mask.
        """
        dense = self._dense(score, -np.inf)
        if rectify:  # an empty region leaves the choice as it was
            np.putmask(dense, self._barred, -np.inf)
        best = dense.argmax(1)
        return self._place[np.arange(len(best)), best]

    def best_possible(self) -> npt.NDArray[np.int64]:
        """The pair with the largest IoU of every sentence: what a perfect choice would score."""
        inter, union = self._overlap(np.arange(len(self.pairs)))
        return self.choose(inter / union, rectify=False)

    def outcome(self, chosen: npt.NDArray[np.int64]) -> pd.DataFrame:
        """Intersection, union (pixels), IoU and mask_id of a choice, a row a sentence.

        A sentence without any mask has IoU 0, its ground truth in the union, and mask_id -1.
        """
        inter, union = self.overlap(chosen)
        some = chosen >= 0
        mask_id = np.full(len(chosen), -1)
        mask_id[some] = self.pairs["mask_id"].to_numpy()[chosen[some]]
        return pd.DataFrame(
            {"intersection": inter, "union": union, "iou": inter / union, "mask_id": mask_id}
        )

    def overlap(
        self, chosen: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Intersection and union of ``outcome`` alone, for many choices in a row."""
        some = chosen >= 0
        inter, union = np.zeros(len(chosen), np.int64), self._column["truth_area"].copy()
        inter[some], union[some] = self._overlap(chosen[some])
        return inter, union

    def _overlap(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray, npt.NDArray]:
        columns = self._column
        truth = columns["truth_area"][columns["sentence"][rows]]
        inter = columns["intersection"][rows]
        return inter, columns["area"][rows] + truth - inter
