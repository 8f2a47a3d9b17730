"""All scores of the masks of one image (section 3.3), from what the models made of them.

Beyond the paper, an encoder may see each mask in two forms, the subject of an expression may count
besides the whole of it, N may come from the captions of the other masks, and place may be a term.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tasnb.method import answers, language, proposals, scores
from tasnb.method.places import Placing
from tasnb.method.scores import Floats
from tasnb.settings import Settings


@dataclass(frozen=True)
class Shown:
    """The masks of an image.

    Attributes:
        settings: Which scores are asked for.
        masks: The refined proposals, (M,) rows.
        views: E_v of each mask in one form or two (``Stages.mask_views``), (M, D) or (M, Q, D).
        captions: Of the masks, (M,).
        vectors: Text -> E_t, for every text that is needed.
    """

    settings: Settings
    masks: pd.DataFrame
    views: Sequence[Floats]
    captions: Sequence[str]
    vectors: Mapping[str, Floats]

    def expressions(self, sentences: Iterable[str], subjects: Mapping[str, str]) -> Floats:
        """E_t of some sentences, (S, D), mixed with that of their prompted subjects, if any."""
        texts = list(sentences)
        whole = self._embedded(texts)
        if not subjects:
            return whole
        subject = self._embedded([subjects.get(text, text) for text in texts])
        return scores.mixed(whole, subject, self.settings.noun_share)

    def scores(self, asked: Floats, negatives: Iterable[list[str]]) -> dict[str, Floats]:
        """V, P and N of every mask, each (S, M).

        Args:
            asked: From ``expressions``, (S, D).
            negatives: The negative phrases of each sentence (T_n), (S,).
        """
        said = self._embedded(self.captions)
        v, p = self._mean(scores.v_score, asked), scores.p_score(said, asked)
        if self.settings.negative_rule == "masks":
            told = self._embedded(map(language.prompted, self.captions))
            unlike = np.clip(1 - p, 0, None)
            apart = proposals.apart(self.masks)
            return {"V": v, "P": p, "N": self._mean(scores.n_score_of_masks, told, unlike, apart)}
        negatives = list(negatives)
        phrases = list(dict.fromkeys(text for some in negatives for text in some))
        counts = np.array([[some.count(text) for text in phrases] for some in negatives])
        counts = counts.reshape(len(asked), len(phrases))
        mined = self._embedded(map(language.PROMPT.format, phrases)) if phrases else asked[:0]
        return {"V": v, "P": p, "N": self._mean(scores.n_score, mined, counts)}

    def evidence(
        self, sentences: Iterable[str], subjects: Mapping[str, str], seen: Floats
    ) -> Floats:
        """How much speaks for every mask, whatever the others are (``answers.evidence``), (S, M).

        Args:
            subjects: Sentence -> the prompt for its subject, where it has one.
            seen: V of every mask, (S, M).
        """
        named = self._embedded([subjects.get(text, text) for text in sentences])
        told = named @ self._embedded(map(language.prompted, self.captions)).T
        generic = self._mean(scores.v_score, self._embedded(answers.GENERIC))
        return answers.evidence(seen, generic.mean(0), told)

    def placed(
        self, placing: Placing, sentences: Iterable[str], subjects: Mapping[str, str]
    ) -> Floats:
        """What place adds to the score of every mask, (S, M).

        It does not depend on alpha and lambda, so that both can be varied afterwards.

        Args:
            placing: Has read the sentences.
            subjects: Sentence -> the prompt for its subject, where it has one.
        """
        sentences = list(sentences)
        others, likely = self.others(placing.nouns_of(sentences)), self.likely(sentences, subjects)
        return placing.score(sentences, self.masks, likely, others)

    def likely(self, sentences: Iterable[str], subjects: Mapping[str, str]) -> Floats:
        """How likely each mask shows the subject of each sentence, by V, from 0 to 1, (S, M)."""
        named = self._embedded([subjects.get(text, text) for text in sentences])
        return scores.likelihood(self._mean(scores.v_score, named), self.settings.temperature)

    def others(self, nouns: Sequence[str]) -> dict[str, Floats]:
        """Second noun of a relation -> the chance that each mask shows it, (M,)."""
        if not nouns:
            return {}
        named = self._mean(scores.v_score, self._embedded(map(language.prompted, nouns)))
        chances = scores.chances(named, self.settings.temperature)
        return dict(zip(nouns, chances, strict=True))

    def _embedded(self, texts: Iterable[str]) -> Floats:
        return np.stack([self.vectors[text] for text in texts])

    def _mean(self, score: Callable[..., Floats], *others: Floats) -> Floats:
        """The mean of a score over the forms in which the masks are seen."""
        return np.mean([score(view, *others) for view in self.views], 0)
