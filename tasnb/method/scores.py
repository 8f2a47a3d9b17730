"""The text-augmented visual-text matching score (section 3.3, Eq. 2 to 6).

The V-score compares a masked image with the expression, the P-score compares a caption of the
masked image with the expression, and the N-score penalizes similarity to phrases that name other
objects in the image. The mask with the largest S = V + alpha P + lambda N is chosen. Embeddings are
given as arrays of unit vectors, so everything here is array arithmetic and needs no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.settings import check_whole

Floats = npt.NDArray[np.floating]


def similarity(images: Floats, texts: Floats) -> Floats:
    """Cosine similarity of every text to every image, (T, M).

    Args:
        images: Unit vectors (M, D); or several per image, (M, Q, D), of which the most similar
            counts, as in BLIP-2.
        texts: Unit vectors (T, D).
    """
    cosines = texts @ images.swapaxes(-1, -2)  # (T, M), or (M, T, Q)
    return cosines if images.ndim == 2 else cosines.max(-1).T


def v_score(crops: Floats, expressions: Floats) -> Floats:
    """Cosine similarity of every masked image to every expression (Eq. 2).

    Args:
        crops: Unit vectors E_v(I_m), (M, D), or several per image, (M, Q, D).
        expressions: Unit vectors E_t(T_r), (S, D).

    Returns:
        (S, M), in [-1, 1].
    """
    return similarity(crops, expressions)


def p_score(captions: Floats, expressions: Floats) -> Floats:
    """Cosine similarity of every mask's caption to every expression (Eq. 3), (S, M)."""
    return expressions @ captions.T


def n_score(crops: Floats, phrases: Floats, negative: npt.NDArray[np.integer]) -> Floats:
    """Minus the mean similarity of every masked image to an expression's negative phrases (Eq. 4).

    Args:
        crops: Unit vectors E_v(I_m), (M, D), or several per image, (M, Q, D).
        phrases: Unit vectors E_t(T) of the noun phrases in the caption of the whole image, (T, D).
        negative: For each expression, which phrases are negative (bool) or how often each counts
            (int), (S, T).

    Returns:
        (S, M), in [-1, 1]; 0 for every mask if an expression has no negative phrase.
    """
    count = negative.sum(1, keepdims=True)
    summed = negative.astype(crops.dtype) @ similarity(crops, phrases)
    return -summed / np.maximum(count, 1)


def n_score_of_masks(
    crops: Floats, captions: Floats, unlike: Floats, apart: npt.NDArray[np.bool_]
) -> Floats:
    """Minus the mean similarity of every masked image to the captions of the other masks.

    Beyond the paper: a caption counts the less, the more it resembles the expression.

    Args:
        crops: Unit vectors E_v(I_m), (M, D), or several per image, (M, Q, D).
        captions: Unit vectors E_t of the captions of the masks, as prompts, (M, D).
        unlike: How far each caption is from each expression, 0 or more, (S, M).
        apart: Which masks do not overlap, (M, M); the caption of an overlapping one says nothing.

    Returns:
        (S, M); 0 for a mask that overlaps all others.
    """
    seen = similarity(crops, captions) * apart  # (captions, masks)
    return -(unlike @ seen) / np.maximum(apart.sum(0), 1)


def mixed(expressions: Floats, nouns: Floats, share: float) -> Floats:
    """Unit vectors in the direction of (1 - share) E_t(T_r) + share E_t(noun), (S, D)."""
    both = (1 - share) * expressions + share * nouns
    return both / np.linalg.norm(both, axis=-1, keepdims=True)


def chances(scores: Floats, temperature: float) -> Floats:
    """The softmax of scores over the masks (last axis)."""
    likely = likelihood(scores, temperature)
    return likely / likely.sum(-1, keepdims=True)


def likelihood(scores: Floats, temperature: float) -> Floats:
    """The softmax over the masks (last axis), divided by its largest value: from 0 to 1."""
    return np.exp((scores - scores.max(-1, keepdims=True)) / temperature)


def total_score(v: Floats, p: Floats, n: Floats, alpha: float, lam: float) -> Floats:
    """S = V + alpha P + lambda N (Eq. 5); N already carries its minus sign."""
    return v + alpha * p + lam * n


@dataclass(frozen=True)
class ScoreTable:
    """All scores on one split with one encoder.

    Attributes:
        sentences: One row per sentence, as in ``datasets.Split``, with the columns read from it
            added: subject, head, orientation, the image's caption, negatives (list), own_negative.
        pairs: One row per sentence and mask, sorted by sentence and mask: sentence (row number in
            ``sentences``), mask_id, V, P, N, center_x, center_y (pixels), in_region, intersection,
            area (pixels). Beyond the paper, where the settings ask for it: C (coherence) and G
            (places), both with their weights, and E (evidence, see ``tasnb.method.answers``).
    """

    sentences: pd.DataFrame
    pairs: pd.DataFrame

    def one(self, sentence: int) -> tuple[pd.Series, pd.DataFrame]:
        """The sentence with this number, counted from 0, and its pairs.

        Raises:
            InputError: There is no such sentence.
        """
        check_whole("sentence", sentence, 0, len(self.sentences) - 1)
        return self.sentences.iloc[sentence], self.pairs[self.pairs["sentence"] == sentence]

    def by_image(
        self, masks: pd.DataFrame
    ) -> Iterator[tuple[str, pd.DataFrame, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """The sentences of one image at a time; images without masks are left out.

        Args:
            masks: One row per mask, with the column image; in each image in the order of the pairs.

        Yields:
            The image, its sentences, the rows of its masks (M,), and the rows of the pairs of both,
            (S, M).
        """
        rows_of = masks.groupby("image").indices
        first = np.searchsorted(self.pairs["sentence"], np.arange(len(self.sentences)))
        for image, group in self.sentences.groupby("image", sort=False):
            if image in rows_of:
                rows = rows_of[image]
                yield str(image), group, rows, first[group.index][:, None] + np.arange(len(rows))

    @cached_property
    def _rank(self) -> npt.NDArray[np.int64]:
        """Position of each pair among the pairs of its sentence."""
        return self.pairs.groupby("sentence").cumcount().to_numpy()

    @cached_property
    def _shape(self) -> tuple[int, int]:
        """Number of sentences, and the largest number of masks per sentence."""
        return len(self.sentences), int(self._rank.max()) + 1 if len(self.pairs) else 1

    @cached_property
    def _cell(self) -> npt.NDArray[np.int64]:
        """Position of each pair in a table of ``_shape``, row by row."""
        return self._column["sentence"] * self._shape[1] + self._rank

    @cached_property
    def _column(self) -> dict[str, npt.NDArray]:
        """Columns that repeated choices read, as arrays, since access through the frame is slow."""
        names = [n for n in ("sentence", "area", "intersection", *"VPNCG") if n in self.pairs]
        columns = {name: self.pairs[name].to_numpy() for name in names}
        return columns | {"truth_area": self.sentences["truth_area"].to_numpy(np.int64)}

    def _dense(self, values: npt.ArrayLike, fill: float) -> Floats:
        """The values of the pairs as a table of ``_shape``, padded with `fill`."""
        dense = np.full(self._shape, fill)
        dense.reshape(-1)[self._cell] = values
        return dense

    @cached_property
    def _place(self) -> npt.NDArray[np.int64]:
        return self._dense(np.arange(len(self.pairs)), -1).astype(np.int64)

    @cached_property
    def _barred(self) -> npt.NDArray[np.bool_]:
        """Masks outside the region that a sentence names; none if the region contains no mask."""
        region = self._dense(self.pairs["in_region"].to_numpy(), 0).astype(bool)
        return ~region & region.any(1, keepdims=True)

    @cached_property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """Whether the mask of each pair may be chosen if the rectifier acts, (pairs,)."""
        return ~self._barred.reshape(-1)[self._cell]

    def acted(self) -> npt.NDArray[np.bool_]:
        """Whether the rectifier excludes some but not all masks of each sentence, (S,)."""
        inside = self.pairs["in_region"].to_numpy(bool)
        some, others = (self._dense(those, 0).any(1) for those in (inside, ~inside))
        return some & others

    def total(self, alpha: float, lam: float) -> Floats:
        """S for every pair (Eq. 5); beyond the paper, coherence is added to it."""
        v, p, n = (self._column[name] for name in "VPN")
        total = total_score(v, p, n, alpha, lam)
        return total + self._column["C"] if "C" in self._column else total

    def placed(self, score: Floats) -> Floats:
        """A score for every pair with what its place adds; unchanged under hard halves."""
        return score + self._column["G"] if "G" in self._column else score

    def choose(self, score: Floats, rectify: bool) -> npt.NDArray[np.int64]:
        """The pair with the best mask for every sentence (Eq. 6); ties go to the first.

        Args:
            score: One value per pair.
            rectify: Whether only masks in the region that the expression names may be chosen
                (section 3.4), or in ``extended``, whether places are added.

        Returns:
            (S,) rows of ``pairs``; -1 where the image has no mask.
        """
        dense = self._dense(self.placed(score) if rectify else score, -np.inf)
        if rectify:  # an empty region excludes nothing
            np.putmask(dense, self._barred, -np.inf)
        best = dense.argmax(1)
        return self._place[np.arange(len(best)), best]

    def best_possible(self) -> npt.NDArray[np.int64]:
        """The pair with the largest IoU for every sentence, which a perfect choice would pick."""
        inter, union = self._overlap(np.arange(len(self.pairs)))
        return self.choose(inter / union, rectify=False)

    def outcome(self, chosen: npt.NDArray[np.int64]) -> pd.DataFrame:
        """Intersection, union (pixels), IoU and mask_id of the chosen masks, one row per sentence.

        Where an image has no mask, the union is the ground truth, the IoU 0 and mask_id -1.
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
        """Only intersection and union of ``outcome``, which is faster for many choices."""
        some = chosen >= 0
        inter, union = np.zeros(len(chosen), np.int64), self._column["truth_area"].copy()
        inter[some], union[some] = self._overlap(chosen[some])
        return inter, union

    def _overlap(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray, npt.NDArray]:
        columns = self._column
        truth = columns["truth_area"][columns["sentence"][rows]]
        inter = columns["intersection"][rows]
        return inter, columns["area"][rows] + truth - inter
