"""The whole of TAS: from images and referring expressions to scores (section 3.1).

TAS proposes masks for each image, scores every mask of the image against the expression, and picks
the best-scoring mask in the region that the expression names. `stages` runs the models and stores
what they return; here their results are combined into one table with a row per sentence and mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasnb.datasets.splits import Split, column_name, columns, load_split
from tasnb.method import answers, language, proposals, rectifier, released, scores
from tasnb.method.places import Placing, unplaced
from tasnb.method.shown import Shown
from tasnb.method.stages import Images, Stages
from tasnb.models import parsers
from tasnb.settings import Settings, check_whole, make_settings, short
from tasnb.store.files import atomic_write

if TYPE_CHECKING:
    from nltk.corpus.reader import WordNetCorpusReader


TERMS = {
    *("alpha", "lam", "lam_g", "noun_share", "places_weight", "size_prior", "relation_weight"),
    *("coherence", "temperature", "caption_input", "clip_input"),
}
"""Settings of the scores alone: sentences, masks and their pairs do not depend on them."""


class Pipeline(Stages):
    """The stages of TAS, and the scores of sentences and masks computed from them."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.is_variant = False  # made by ``variant``
        self._splits: dict[tuple[str, str], Split] = {}
        self._choices: dict[tuple[str, str], scores.ScoreTable] = {}
        self._scored: dict[tuple[str | None, ...], scores.ScoreTable] = {}
        self._in_recipe: dict[str, Pipeline] = {}
        self.outcomes: dict[tuple[str, ...], pd.DataFrame] = {}  # filled by tables.outcome

    def variant(self, **changes: Any) -> Pipeline:
        """The same pipeline with some settings changed; stages they do not affect are shared.

        So are, in memory, the unscored pairs if only ``TERMS`` are changed.

        Raises:
            InputError: As from ``make_settings``.
        """
        changed = Pipeline(make_settings(**{**self.settings.model_dump(), **changes}))
        changed.is_variant = True
        if changes.keys() <= TERMS:
            changed._splits, changed._choices = self._splits, self._choices
        return changed

    def few(self, images: int) -> Pipeline:
        """The same pipeline on some images of each split, for side studies not in the paper.

        Raises:
            InputError: `images` is not a whole number of at least 1.
        """
        check_whole("few", images, 1)
        if all(len(self.split(*one).images) <= images for one in columns(self.settings)):
            return self  # there are no more
        return self.variant(limit=min(self.settings.limit or images, images))

    def mention(self, texts: Iterable[str], names: Iterable[Sequence[str]]) -> list[bool]:
        """Whether each text names an object, given the object's names (``Split.sentences``)."""
        pairs = list(zip(texts, names, strict=True))
        return [language.mentions(text, some, self._wordnet) for text, some in pairs]

    def mention_any(self, texts: Iterable[str], things: Iterable[Sequence[str]]) -> list[bool]:
        """Whether each text names any of some objects, given the names of each."""
        named = list(things)
        return [any(self.mention([text] * len(named), named)) for text in texts]

    @property
    def _wordnet(self) -> WordNetCorpusReader:
        return parsers.load_wordnet(self.settings.data / "wordnet" / "wordnet.zip")

    @cached_property
    def on_other_network(self) -> Pipeline:
        """The same pipeline on the unrefined proposals of ``settings.other_network``.

        The authors of Global-Local, whose FreeSOLO numbers the paper cites, used them unrefined.
        """
        name = self.settings.other_network
        return self.variant(proposal_network=name, subset_overlap=1.0, min_mask_area=0.0)

    @cached_property
    def with_other_captioner(self) -> Pipeline:
        """The same pipeline with the captions of ``settings.other_captioner`` (Table 6)."""
        return self.variant(captioner=self.settings.other_captioner)

    def in_recipe(self, recipe: str) -> Pipeline:
        """The same pipeline with another recipe, kept in memory; itself with its own."""
        if recipe == self.settings.recipe:
            return self
        if recipe not in self._in_recipe:
            changed = self.settings.in_recipe(recipe).model_dump()
            self._in_recipe[recipe] = self.variant(**changed)
        return self._in_recipe[recipe]

    @cached_property
    def answering_any(self) -> Pipeline:
        """The recipe ``extended``, whose answers may have several masks or none."""
        return self.in_recipe("extended").variant(answers="any")

    def split(self, dataset: str, split: str) -> Split:
        """The sentences, images and ground truth of one column of the tables."""
        if (dataset, split) not in self._splits:
            self._splits[dataset, split] = load_split(self.settings, dataset, split)
        return self._splits[dataset, split]

    def scored(
        self,
        dataset: str,
        split: str,
        encoder: str,
        caption_input: str | None = None,
        clip_input: str | None = None,
    ) -> scores.ScoreTable:
        """``score`` for one column of the tables, kept in memory and written to ``out/scores``.

        Variants write no files, since theirs would have the same names.
        """
        caption_input = caption_input or self.settings.caption_input
        clip_input = clip_input or self.settings.clip_input
        key = (dataset, split, encoder, caption_input, clip_input)
        if key not in self._scored:
            data, table = self.split(dataset, split), self.choices(dataset, split)
            scored = self.score(data, encoder, caption_input, clip_input, table)
            if not self.is_variant:
                models = (self.settings.proposal_network, self.settings.captioner, encoder)
                named = map(short, models)
                column = column_name(self.settings, dataset, split)
                name = "-".join([column, *named, caption_input, clip_input])
                with atomic_write(self.settings.out / "scores" / f"{name}.parquet") as path:
                    scored.pairs.to_parquet(path, index=False)
            self._scored[key] = scored
        return self._scored[key]

    def score(
        self,
        split: Split,
        encoder: str,
        caption_input: str | None = None,
        clip_input: str | None = None,
        table: scores.ScoreTable | None = None,
    ) -> scores.ScoreTable:
        """Computes V, P and N for every sentence and every refined mask of its image (section 3.3).

        Args:
            split: From ``split()``, or any object of the same form.
            encoder: The model that provides E_v and E_t.
            caption_input, clip_input: How images are masked for the captioner and for the encoder,
                "blur" or "crop", or for the encoder "both"; None: as in the settings.
            table: ``unscored(split)``, if it has been computed already.
        """
        images, settings = split.images, self.settings
        table = table or self.unscored(split)
        masks = self.refined(images)
        said = self.captions(images, caption_input)["caption"].to_numpy()
        views = self.mask_views(images, encoder, clip_input)
        maps = self.coherence(images, encoder) if settings.coherence else None
        sentences = self._with_negatives(table.sentences, images)
        placing = Placing(settings, sentences["sentence"])
        named = self.subjects(sentences)
        subjects = named if settings.noun_share else {}
        evident = settings.answers == "any"
        prompts = {language.PROMPT.format(t) for some in sentences["negatives"] for t in some}
        prompts |= {*subjects.values(), *placing.prompts}
        if settings.negative_rule == "masks" or evident:
            prompts |= set(map(language.prompted, said))
        if evident:
            prompts |= {*answers.GENERIC}
        if evident or placing:
            prompts |= {*named.values()}
        vectors = self.text_embeddings([*sentences["sentence"], *said, *prompts], encoder)
        pairs = table.pairs
        names = "VPN" + "C" * bool(settings.coherence) + "G" * bool(placing) + "E" * evident
        found = {name: np.zeros(len(pairs)) for name in names}
        caption = np.full(len(pairs), "", object)
        for _, group, rows, where in scores.ScoreTable(sentences, pairs).by_image(masks):
            seen = [view[rows] for view in views]
            shown = Shown(settings, masks.iloc[rows], seen, said[rows], vectors)
            asked = shown.expressions(group["sentence"], subjects)
            own = shown.scores(asked, group["negatives"])
            if maps is not None:
                own["C"] = settings.coherence * asked @ maps[rows].T
            if placing:
                own["G"] = shown.placed(placing, group["sentence"], named)
            if evident:
                own["E"] = shown.evidence(group["sentence"], named, own["V"])
            for name, values in own.items():
                found[name][where] = values
            caption[where] = said[rows]
        return scores.ScoreTable(sentences, pairs.assign(**found, caption=caption))

    def subjects(self, sentences: pd.DataFrame) -> dict[str, str]:
        """Sentence -> the prompt for its subject without words of place, where it has one.

        Args:
            sentences: With the columns sentence, subject and head.
        """
        named = sentences[sentences["head"] != ""]
        pairs = zip(named["sentence"], named["subject"], strict=True)
        return {text: language.prompted(unplaced(text, subject)) for text, subject in pairs}

    def choices(self, dataset: str, split: str) -> scores.ScoreTable:
        """``unscored`` for one column of the tables, kept in memory."""
        key = (dataset, split)
        if key not in self._choices:
            self._choices[key] = self.unscored(self.split(dataset, split))
        return self._choices[key]

    def unscored(self, split: Split) -> scores.ScoreTable:
        """Pairs every sentence with every refined mask of its image, without V, P and N.

        Methods with scores of their own need only this; it takes neither captioner nor encoder.
        """
        masks = self.refined(split.images)
        read = self.expressions(split.sentences["sentence"]).loc[split.sentences["sentence"]]
        sentences = split.sentences.assign(**{name: read[name].to_numpy() for name in read})
        rows_of = masks.groupby("image").indices
        nothing = np.zeros(0, np.int64)
        numbers, shared, taken = [nothing], [nothing], [nothing]
        for image, group in sentences.groupby("image", sort=False):
            rows = rows_of.get(image, nothing)
            if not len(rows):
                continue
            numbers.append(np.repeat(group.index.to_numpy(), len(rows)))
            shared.append(proposals.intersections_with_truth(group, masks.iloc[rows]).ravel())
            taken.append(np.tile(rows, len(group)))
        found = {"sentence": np.concatenate(numbers), "intersection": np.concatenate(shared)}
        rows = np.concatenate(taken)
        same = ("mask_id", "area", "center_x", "center_y")
        pairs = pd.DataFrame({**found, **{name: masks[name].to_numpy()[rows] for name in same}})
        pairs = pairs.sort_values(["sentence", "mask_id"], kind="stable", ignore_index=True)
        orientation = sentences["orientation"].to_numpy()[pairs["sentence"]]
        if self.settings.rectifier_rule == "places":  # nothing is excluded
            return scores.ScoreTable(sentences, pairs.assign(in_region=True))
        pairs["in_region"] = rectifier.in_region_grouped(
            pairs.assign(orientation=orientation), "sentence", self.settings.rectifier_rule
        )
        return scores.ScoreTable(sentences, pairs)

    def _with_negatives(self, sentences: pd.DataFrame, images: Images) -> pd.DataFrame:
        """Adds the caption of each sentence's image and its negative phrases (T_n of Eq. 4).

        Both are empty if the captions of the masks take the place of the image's.
        """
        if self.settings.negative_rule == "masks":
            nothing: list[list[str]] = [[] for _ in sentences.index]
            return sentences.assign(caption="", negatives=nothing, own_negative=False)
        overall = self.image_captions(images)
        caption = overall.loc[sentences["image"]].to_numpy()
        phrases = self.noun_phrases(overall)
        wordnet = self._wordnet
        theirs = self.settings.negative_rule == "released"
        same = released.are_near_synonyms if theirs else language.are_synonyms
        negatives, own = [], []
        for text, head, names in zip(caption, sentences["head"], sentences["names"], strict=True):
            kept = language.negative_phrases(phrases[text], head, wordnet, same)
            negatives.append(kept)
            own.append(any(self.mention(kept, [names] * len(kept))))
        return sentences.assign(caption=caption, negatives=negatives, own_negative=own)
