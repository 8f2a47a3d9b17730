"""Tables 3 to 7, the paper's ablations: weights, modules, inputs and choice of the models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.baselines import scoring
from tasnb.datasets.splits import ablated, columns, stand_in
from tasnb.method.metrics import difference, evaluate
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.profiles import RECIPES, is_phrases
from tasnb.results.tables import MODULES, Cell, by_image, choose, gathered, outcome, rows
from tasnb.settings import Settings, make_settings, short

ALPHAS = (0.0, 0.05, 0.1, 0.2, 0.4)
LAMBDAS = (0.0, 0.3, 0.5, 0.7, 0.9)
INPUTS = (("crop", "crop"), ("blur", "blur"), ("crop", "blur"), ("blur", "crop"))
CAPTIONERS = {"blip2": "BLIP-2", "blip2-8bit": "BLIP-2 (8-bit)", "git": "GIT"}
FAMILIES = {"open_clip": "CLIP", "blip2-itc": "BLIP-2", "albef": "ALBEF"}
"""Kind of captioner or encoder -> its name in Tables 6 and 7."""


def table3(scored: ScoreTable, encoder: str, settings: Settings) -> pd.DataFrame:
    """Table 3: alpha and lambda varied one at a time, with the rectifier."""
    return gathered("table3", cells3(scored, encoder, settings))


def cells3(scored: ScoreTable, encoder: str, settings: Settings) -> Iterator[Cell]:
    """The cells of Table 3."""
    points = [(f"alpha = {a:g}", a, settings.lam) for a in ALPHAS]
    points += [(f"lambda = {b:g}", settings.alpha, b) for b in LAMBDAS]
    for name, alpha, lam in points:
        chosen = scored.choose(scored.total(alpha, lam), True)
        yield name, encoder, *ablated(settings), by_image(scored, chosen)


def grid(scored: ScoreTable, alphas: npt.ArrayLike, lambdas: npt.ArrayLike) -> pd.DataFrame:
    """oIoU and mIoU for every pair of alpha and lambda, from stored scores only."""
    found = []
    for alpha in np.asarray(alphas, float):
        for lam in np.asarray(lambdas, float):
            values = evaluate(*scored.overlap(scored.choose(scored.total(alpha, lam), True)))
            found.append((alpha, lam, values["oIoU"], values["mIoU"]))
    return pd.DataFrame(found, columns=["alpha", "lambda", "oIoU", "mIoU"])


def table4(scored: ScoreTable, encoder: str, settings: Settings) -> pd.DataFrame:
    """Table 4: the modules, added one by one."""
    return gathered("table4", cells4(scored, encoder, settings))


def cells4(scored: ScoreTable, encoder: str, settings: Settings) -> Iterator[Cell]:
    """The cells of Table 4."""
    dataset, split = ablated(settings)
    for name in MODULES:
        chosen = choose(name, scored, settings, dataset)
        yield name, encoder, dataset, split, by_image(scored, chosen)


def table5(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """Table 5: the four combinations of inputs to the captioner and CLIP."""
    return gathered("table5", cells5(pipeline, encoder))


def cells5(pipeline: Pipeline, encoder: str) -> Iterator[Cell]:
    """The cells of Table 5."""
    dataset, split = ablated(pipeline.settings)
    for caption_input, clip_input in INPUTS:
        scored = pipeline.scored(dataset, split, encoder, caption_input, clip_input)
        result = by_image(scored, choose("TAS", scored, pipeline.settings, dataset))
        yield f"BLIP-2 {caption_input}, CLIP {clip_input}", encoder, dataset, split, result


def swapped(settings: Settings) -> list[tuple[str, str]]:
    """The columns of Tables 6 and 7: RefCOCO+ testA and RefCOCOg val(U)."""
    both = (("RefCOCO+", "testA"), ("RefCOCOg", "val(U)"))
    return list(dict.fromkeys(stand_in(settings, *column) for column in both))


def table6(pipeline: Pipeline) -> pd.DataFrame:
    """Table 6: no captions (CLIP-only), and TAS with BLIP-2 and with another captioner."""
    return gathered("table6", cells6(pipeline))


def cells6(pipeline: Pipeline) -> Iterator[Cell]:
    """The cells of Table 6."""
    for encoder in pipeline.settings.encoders:
        for name, method, run in captioners(pipeline):
            for column in swapped(pipeline.settings):
                yield name, encoder, *column, outcome(run, method, encoder, *column)


def captioners(pipeline: Pipeline) -> list[tuple[str, str, Pipeline]]:
    """The rows of Table 6: name, method, and the pipeline with that captioner."""
    ours, theirs = pipeline.settings.captioner, pipeline.settings.other_captioner
    found = [("no captioner", "CLIP-only", pipeline), (captioner(ours), "TAS", pipeline)]
    if theirs != ours:
        name = captioner(theirs)
        name = short(theirs) if name == captioner(ours) else name
        found.append((name, "TAS", pipeline.with_other_captioner))
    return found


def captioner(name: str) -> str:
    """The name of a captioner in Table 6."""
    return CAPTIONERS.get(name.partition(":")[0], short(name))


def table7(pipeline: Pipeline) -> pd.DataFrame:
    """Table 7: three image-text encoders, alone and with TAS, with unchanged alpha and lambda."""
    return gathered("table7", cells7(pipeline))


def cells7(pipeline: Pipeline) -> Iterator[Cell]:
    """The cells of Table 7."""
    for name, method, encoder in contrasts(pipeline.settings):
        for column in swapped(pipeline.settings):
            yield name, encoder, *column, outcome(pipeline, method, encoder, *column)


def contrasts(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """The rows of Table 7: name, method and encoder."""
    for encoder in dict.fromkeys([settings.encoders[-1], *settings.other_encoders]):
        kind = encoder.partition(":")[0]
        family = FAMILIES.get(kind, kind)
        yield (family if family == "CLIP" else f"{family}-ITC"), "CLIP-only", encoder
        yield f"{family}-TAS", "TAS", encoder


DIFFERENCES = {
    "areas_of": "area thresholds not scaled to the image size",
    "subset_overlap": "overlap threshold of 0.4, not 0.9",
    "crop_rule": "boxes without their last row and column",
    "negative_rule": "synonyms share at least three synsets",
    "rectifier_rule": "rectifier with other parser, words and halves",
    "lam_g": "lambda of 0.7 on RefCOCOg or RefScenesg as well",
}
"""Setting -> how the authors' released code differs from the paper's text in it."""


def recipes(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """TAS as in the paper's text, with each difference of the released code alone, and with all.

    All sentences of the columns of Tables 3 to 7 are pooled.

    Returns:
        recipe, mIoU, ``gain`` over the first row with its ``low`` and ``high`` (95 % interval, in
        points), masks per image, and the shares of sentences (percent) on which the rectifier
        excludes some of the masks (``acted``) and on which it changes the choice (``changed``).
    """
    released = RECIPES["released"]
    changes = {"published": {}} | {DIFFERENCES[name]: {name: released[name]} for name in released}
    plain = make_settings(pipeline.settings.profile)
    base, found = pipeline.variant(**{name: getattr(plain, name) for name in released}), []
    for name, change in (changes | {"released (all differences)": released}).items():
        run = base.variant(**change)
        result = pd.concat(_chosen(run, encoder), ignore_index=True)
        if not found:
            first = result
        gain = difference(result, first, "mIoU")
        value = evaluate(result["intersection"], result["union"])["mIoU"]
        shares = [100 * result[column].mean() for column in ("acted", "changed")]
        masks = result.drop_duplicates("image")["masks"].mean()
        found.append((name, value, gain.value, gain.low, gain.high, masks, *shares))
    names = ["recipe", "mIoU", "gain", "low", "high", "masks per image"]
    return pd.DataFrame(found, columns=[*names, "acted (%)", "changed (%)"])


CHOICES = {
    "subject embedded as a prompt as well": ("noun_share",),
    "surroundings blurred as well as black": ("clip_input",),
    "soft prior of places": ("rectifier_rule", "places_weight"),
    "relations to a second object": ("relation_weight",),
    "preference for large masks": ("size_prior",),
    "smaller lambda": ("lam", "lam_g"),
}
"""A choice of the recipe ``extended`` -> its settings."""
NOT_CHOSEN: dict[str, dict[str, Any]] = {
    "N from the captions of the other masks": {"negative_rule": "masks"},
    "coherence of a heat map with the mask": {"coherence": 0.1},
}
"""Choices that were no gain on development scenes -> their settings."""


def extended(
    pipeline: Pipeline, encoder: str, among: Sequence[tuple[str, str]] | None = None
) -> pd.DataFrame:
    """What each choice beyond the paper is worth, added to ``published`` and to all the others.

    Args:
        among: Dataset and split of the columns to pool; by default all those of Table 1.

    Returns:
        One row per choice, after one for all of ``extended``: choice; ``first``, its gain in mIoU
        over ``published``, and ``last``, over ``extended`` without it; for both the 95 % interval
        (``first low``, ``first high``, ...) and the mIoU with the choice (``first mIoU``, ...).
        Choices that were no gain on development scenes are not part of ``extended``; for them,
        ``last`` is the gain over ``extended``.
    """
    recipe = RECIPES["extended"]
    names = list(among or [c for c in columns(pipeline.settings) if not is_phrases(c[0])])
    plain, whole = pipeline.in_recipe("published"), pipeline.in_recipe("extended")
    before, after = (_pooled(run, encoder, names) for run in (plain, whole))
    found = [("extended", before, after, before, after)]
    for choice, fields in CHOICES.items():
        one = plain.variant(**{name: recipe[name] for name in fields})
        others = whole.variant(**{name: getattr(plain.settings, name) for name in fields})
        alone, without = (_pooled(run, encoder, names) for run in (one, others))
        found.append((choice, before, alone, without, after))
    for choice, change in NOT_CHOSEN.items():
        if "coherence" in change and not scoring.methods_of(encoder, plain.settings):
            continue  # there is no heat map of an encoder without a CLIP image tower
        alone, beside = (_pooled(run.variant(**change), encoder, names) for run in (plain, whole))
        found.append((choice, before, alone, after, beside))
    gains = [
        {"choice": choice, **_gain("first", alone, less), **_gain("last", more, without)}
        for choice, less, alone, without, more in found
    ]
    return pd.DataFrame(gains)


def _gain(name: str, more: pd.DataFrame, less: pd.DataFrame) -> dict[str, float]:
    """The gain in mIoU of one outcome over another, its interval, and the first one's mIoU."""
    gain = difference(more, less, "mIoU")
    value = evaluate(more["intersection"], more["union"])["mIoU"]
    return {name: gain.value, f"{name} low": gain.low, f"{name} high": gain.high,
            f"{name} mIoU": value}  # fmt: skip


def _pooled(run: Pipeline, encoder: str, among: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """The choices of TAS on some columns, with the image of each sentence."""
    return pd.concat([outcome(run, "TAS", encoder, *column) for column in among], ignore_index=True)


def _studied(settings: Settings) -> list[tuple[str, str]]:
    """The columns of Tables 3 to 7, without duplicates."""
    return list(dict.fromkeys([ablated(settings), *swapped(settings)]))


def _chosen(run: Pipeline, encoder: str) -> Iterator[pd.DataFrame]:
    """The choices of TAS on each column of Tables 3 to 7, and the effect of the rectifier."""
    for column in _studied(run.settings):
        scored = run.scored(*column, encoder)
        total = scored.total(run.settings.alpha, run.settings.lambda_of(column[0]))
        picks = [scored.choose(total, rectify) for rectify in (True, False)]
        masks = scored.pairs.groupby("sentence").size()
        yield by_image(scored, picks[0]).assign(
            acted=scored.acted(),
            changed=picks[0] != picks[1],
            masks=masks.reindex(range(len(scored.sentences)), fill_value=0),
        )


def defects(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """How often the released code would crash or rank by NaN; these cases are handled here.

    Counted on the columns of Tables 3 to 7, with the released recipe.
    """
    run = pipeline.variant(**RECIPES["released"])
    count = dict.fromkeys(
        ("no mask left: crash", "a mask one pixel wide: crash", "a single mask: NaN",
         "no negative phrase: NaN, first mask chosen"), 0
    )  # fmt: skip
    for column in _studied(run.settings):
        split = run.split(*column)
        masks, sentences = run.refined(split.images), run.scored(*column, encoder).sentences
        left = masks.groupby("image").size().reindex(split.images, fill_value=0)
        per_sentence = sentences["image"].map(left)
        thin = masks[(masks["w"] == 1) | (masks["h"] == 1)]
        numbers = (
            (per_sentence == 0).sum(),
            sentences["image"].isin(thin["image"]).sum(),
            (per_sentence == 1).sum(),
            (sentences["negatives"].map(len) == 0).sum(),
        )
        for name, number in zip(count, numbers, strict=True):
            count[name] += int(number)
    return pd.DataFrame(count.items(), columns=["case in the released code", "sentences"])


def networks(pipeline: Pipeline, names: Mapping[str, str], encoder: str) -> pd.DataFrame:
    """TAS with the proposals of several networks, on the column of the ablations.

    Args:
        names: Displayed name -> name in the settings.
    """
    found, column = [], ablated(pipeline.settings)
    for called, name in names.items():
        result = outcome(pipeline.variant(proposal_network=name), "TAS", encoder, *column)
        found.append(rows("networks", f"TAS with {called}", encoder, *column, result))
    return pd.concat(found, ignore_index=True)
