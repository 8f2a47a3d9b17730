"""Tables 1 and 2 as tidy frames, each result alongside the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb import profiles
from tasnb.baselines import scoring
from tasnb.datasets.splits import Split, columns
from tasnb.method import answers
from tasnb.method.metrics import evaluate
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import Floats, ScoreTable
from tasnb.settings import Settings, short

COLUMNS = ["table", "method", "encoder", "dataset", "split", "metric", "value", "paper", "n"]

BOX = "box P@0.5"
"""Metric that only the table ``newer`` has."""

Cell = tuple[str, str, str, str, pd.DataFrame]
"""Method, encoder, dataset, split, and the outcome (``by_image``) that a table's numbers summarize.
"""

OWN = ("Text-only", "CLIP-only", "TAS")
FREESOLO = "Global-Local (FreeSOLO)"
BY_RECIPE = {recipe: f"TAS ({recipe})" for recipe in profiles.RECIPES}
"""Recipe -> name of its TAS row in a run with another recipe."""
ANY = "TAS (extended, several masks or none)"
"""Row of the table with sentences that have several targets or none."""
READINGS = ("published", "released")
"""The two recipes that Tables 1 and 2 show next to each other (``both_recipes``)."""
METHODS = (
    *("Text-only", "CLIP Surgery", "Score Map", "Grad-CAM", "Region Token"),
    *(FREESOLO, "Global-Local", "CLIP-only", "TAS", *BY_RECIPE.values()),
)
"""Rows of Table 1 in the paper's order; those not in ``OWN`` are from `tasnb.baselines.scoring`."""
EXTRA = ("CLIP Surgery", "Score Map", "Grad-CAM")  # with a ViT, these are not in the paper
MODULES = ("V", "V + P", "V + P + N", "V + P + N + spatial")

ENCODERS = ("RN50", "ViT-B/32", "")
"""The paper's visual encoders of CLIP in its order; "" stands for all others."""


def counterpart(encoder: str) -> str:
    """The visual encoder of CLIP in the paper that corresponds to ours; "" if ours is not CLIP."""
    kind, _, name = encoder.lower().rpartition(":")
    if kind not in ("", "open_clip"):
        return ""
    return "ViT-B/32" if "vit" in name else "RN50" if "rn" in name else ""


def choose(
    method: str, scored: ScoreTable, settings: Settings, dataset: str
) -> npt.NDArray[np.int64]:
    """The pairs chosen by a method of Table 1 or a row of Table 4."""
    lam = settings.lambda_of(dataset)
    total = scored.total(settings.alpha, lam)
    v, p = scored.pairs["V"].to_numpy(), scored.pairs["P"].to_numpy()
    scores = {
        "Text-only": (p, False),
        "CLIP-only": (v, False),
        "TAS": (total, True),
        "V": (v, False),
        "V + P": (v + settings.alpha * p, False),
        "V + P + N": (total, False),
        "V + P + N + spatial": (total, True),
    }
    return scored.choose(*scores[method])


def outcome(
    pipeline: Pipeline, method: str, encoder: str, dataset: str, split: str
) -> pd.DataFrame:
    """The results of any method of Tables 1, 2 and 4, one row per sentence.

    Returns:
        As from ``answered``.
    """
    pipeline, method = run_of(pipeline, method)
    key = (method, encoder, dataset, split)
    if key not in pipeline.outcomes:
        data = pipeline.split(dataset, split)
        of_its_own = method in scoring.METHODS or method in scoring.NEWER
        scored = (
            pipeline.choices(dataset, split)
            if of_its_own
            else pipeline.scored(dataset, split, encoder)
        )
        pipeline.outcomes[key] = answered(pipeline, method, encoder, data, scored)
    return pipeline.outcomes[key]


def run_of(pipeline: Pipeline, method: str) -> tuple[Pipeline, str]:
    """The pipeline that computes a row, and the method's name in it."""
    if method == FREESOLO:
        return pipeline.on_other_network, "Global-Local"
    if method == ANY:
        return pipeline.answering_any, "TAS"
    recipe = next((recipe for recipe, name in BY_RECIPE.items() if name == method), None)
    return (pipeline.in_recipe(recipe), "TAS") if recipe else (pipeline, method)


def answered(
    pipeline: Pipeline, method: str, encoder: str, data: Split, scored: ScoreTable
) -> pd.DataFrame:
    """The results of a method of ``run_of`` on any sentences.

    Args:
        data: The sentences; those without a target have an empty ground truth.
        scored: Of these sentences; V, P and N are needed by the methods of ``choose``.

    Returns:
        ``answers.outcome`` with the image of each sentence, and mask_ids, all masks of the answer.
    """
    if method in ("TAS", MODULES[-1]):
        return by_s(pipeline, data, scored)
    if method in scoring.METHODS or method in scoring.NEWER:
        score = scoring.scores(pipeline, method, data, encoder, scored)
        pick = scored.choose(score, rectify=False)
    else:
        pick = choose(method, scored, pipeline.settings, data.dataset)
    members = np.zeros(len(scored.pairs), bool)
    members[pick[pick >= 0]] = True
    return _results(pipeline, data, scored, answers.Answers(pick, members), members.astype(float))


def by_s(pipeline: Pipeline, data: Split, scored: ScoreTable, rectify: bool = True) -> pd.DataFrame:
    """The results of TAS, as from ``answered``, or of TAS without the rectifier."""
    settings = pipeline.settings
    total = scored.total(settings.alpha, settings.lambda_of(data.dataset))
    found = answers.answers(scored, total, settings, rectify)
    return _results(pipeline, data, scored, found, scored.placed(total) if rectify else total)


def _results(
    pipeline: Pipeline, data: Split, scored: ScoreTable, found: answers.Answers, score: Floats
) -> pd.DataFrame:
    several = pipeline.settings.answers == "any"
    masks = pipeline.refined(data.images) if several else None
    result = answers.outcome(scored, found, masks)
    ids = pd.Series(answers.mask_ids(scored, found, score), index=result.index, dtype=object)
    return result.assign(image=scored.sentences["image"].to_numpy(), mask_ids=ids)


def by_image(scored: ScoreTable, chosen: npt.NDArray[np.int64]) -> pd.DataFrame:
    """``ScoreTable.outcome`` with the image of each sentence, for intervals and paired tests."""
    return scored.outcome(chosen).assign(image=scored.sentences["image"].to_numpy())


@lru_cache(maxsize=1)
def paper_numbers() -> pd.Series:
    """The paper's results by (table, method, encoder, dataset, split, metric)."""
    frame = pd.read_csv(Path(__file__).with_name("paper.csv"), keep_default_na=False)
    return frame.set_index(COLUMNS[:6])["paper"].astype(float)


def rows(
    table: str, method: str, encoder: str, dataset: str, split: str, outcome: pd.DataFrame
) -> pd.DataFrame:
    """All metrics of one method on one split as tidy rows.

    Args:
        encoder: Ours, or "" for a method without an image encoder.
        outcome: From ``ScoreTable.outcome``.
    """
    values = evaluate(outcome["intersection"], outcome["union"])
    known, printed = paper_numbers(), "TAS" if method in BY_RECIPE.values() else method
    found = []
    for metric, value in values.items():
        where = (table, printed, counterpart(encoder), profiles.counterpart(dataset), split)
        paper = known.get((*where, metric), np.nan)
        row = (table, method, short(encoder), dataset, split, metric, value, paper, len(outcome))
        found.append(row)
    return pd.DataFrame(found, columns=COLUMNS)


def gathered(table: str, cells: Iterable[Cell]) -> pd.DataFrame:
    """The ``rows`` of all cells of a table."""
    found = [rows(table, *cell) for cell in cells]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)


def table1(pipeline: Pipeline) -> pd.DataFrame:
    """Table 1: every method of the paper on every split of the RefCOCO family.

    TSEG, which requires training, is cited: its rows contain only the paper's results.
    """
    found = gathered("table1", cells1(pipeline))
    return pd.concat([found, _cited("TSEG", found)], ignore_index=True)


def cells1(pipeline: Pipeline) -> Iterator[Cell]:
    """The measured cells of Table 1."""
    return _main_cells(pipeline, False, lambda e: methods(pipeline, e, extra=False))


def table1_extra(pipeline: Pipeline) -> pd.DataFrame:
    """Additional rows of Table 1 that are not in the paper: activation maps of the ViT."""
    cells = _main_cells(pipeline, False, lambda e: methods(pipeline, e, extra=True))
    return gathered("table1_extra", cells)


def table2(pipeline: Pipeline) -> pd.DataFrame:
    """Table 2: Global-Local and TAS on phrases that may refer to several objects.

    The paper cites Global-Local's result from its authors, without stating the encoder.
    """
    found = gathered("table2", cells2(pipeline))
    return pd.concat([found, _cited("Global-Local", found)], ignore_index=True)


def cells2(pipeline: Pipeline) -> Iterator[Cell]:
    """The measured cells of Table 2."""
    wanted = ("Global-Local", "TAS", *BY_RECIPE.values())
    return _main_cells(
        pipeline,
        True,
        lambda e: [m for m in methods(pipeline, e, extra=False) if m in wanted],
    )


def table2_extra(pipeline: Pipeline) -> pd.DataFrame:
    """The other methods of Table 1 on the data of Table 2."""
    wanted = ("Global-Local", "TAS", *BY_RECIPE.values())
    cells = _main_cells(
        pipeline, True, lambda e: [m for m in methods(pipeline, e) if m not in wanted]
    )
    return gathered("table2_extra", cells)


def methods(pipeline: Pipeline, encoder: str, extra: bool | None = None) -> list[str]:
    """The rows of an encoder: the paper's (False), the additional ones (True), or all (None)."""
    settings = pipeline.settings
    there = [*scoring.methods_of(encoder, settings), *OWN]
    if "Global-Local" in there:
        there.append(FREESOLO)
    if settings.both_recipes:
        there += [BY_RECIPE[recipe] for recipe in READINGS if recipe != settings.recipe]
    rows = [m for m in METHODS if m in there]
    if encoder != settings.encoders[-1]:
        rows.remove(
            "Text-only"
        )  # it has no image encoder: a single row, with the last text encoder
    beyond = EXTRA if "Region Token" in there else ()
    return [m for m in rows if extra is None or (m in beyond) == extra]


def _main_cells(
    pipeline: Pipeline, phrases: bool, names: Callable[[str], Sequence[str]]
) -> Iterator[Cell]:
    wanted = {encoder: names(encoder) for encoder in pipeline.settings.encoders}
    for dataset, split in columns(pipeline.settings):
        for encoder, some in wanted.items() if profiles.is_phrases(dataset) == phrases else ():
            for method in some:
                name = "" if method == "Text-only" else encoder
                result = outcome(pipeline, method, encoder, dataset, split)
                yield method, name, dataset, split, result


def _cited(method: str, beside: pd.DataFrame) -> pd.DataFrame:
    """The paper's results of a method on the columns of a table, without a value of ours."""
    there = beside[["table", "dataset", "split"]].drop_duplicates()
    known = paper_numbers().rename("paper").reset_index()
    known = known[known["method"] == method]
    known = known[~known["encoder"].isin(["RN50", "ViT-B/32"])]  # those are measured here
    named = there.assign(theirs=there["dataset"].map(profiles.counterpart))
    found = named.merge(
        known.rename(columns={"dataset": "theirs"}), on=["table", "theirs", "split"]
    )
    found = found.assign(method=f"{method} (cited)", value=np.nan, n=0)
    return found[COLUMNS] if len(found) else pd.DataFrame(columns=COLUMNS)
