"""Analyses beyond the paper's tables: upper bounds, captions, negatives, the rectifier."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.datasets.splits import Split, column_name, columns
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import best_proposals
from tasnb.method.scores import ScoreTable
from tasnb.results import ablations, tables
from tasnb.store.files import atomic_write

GOOD = 0.5  # IoU from which a proposal counts as covering its target


def upper_bound(pipeline: Pipeline) -> pd.DataFrame:
    """The results of a perfect choice, and masks per image, before and after the refinement."""
    found = []
    for dataset, split in columns(pipeline.settings):
        data = pipeline.split(dataset, split)
        masks = pipeline.proposals(data.images)
        for name, rows in (("all proposals", masks), ("refined", masks[masks["kept"]])):
            outcome = best_proposals(data.sentences, rows)
            table = tables.rows("upper_bound", name, "", dataset, split, outcome)
            count = len(rows) / len(data.images)
            extra = ("upper_bound", name, "", dataset, split, "masks per image", count)
            table.loc[len(table)] = (*extra, np.nan, len(data.images))
            found.append(table)
    return pd.concat(found, ignore_index=True)


def networks(
    pipeline: Pipeline, names: Mapping[str, str], dataset: str, split: str
) -> pd.DataFrame:
    """Best IoU and masks per image of proposal networks on one column, refined or not.

    Args:
        names: Displayed name -> name in the settings.
    """
    found = []
    for called, name in names.items():
        other = pipeline.variant(proposal_network=name)
        data = other.split(dataset, split)
        masks = other.proposals(data.images)
        for step, rows in (("all", masks), ("refined", masks[masks["kept"]])):
            best = best_proposals(data.sentences, rows)
            count = len(rows) / len(data.images)
            covered = 100 * (best["iou"] >= GOOD).mean()
            found.append((called, step, count, 100 * best["iou"].mean(), covered))
    names_ = ["network", "proposals", "masks per image", "best IoU (%)", f"IoU ≥ {GOOD} (%)"]
    return pd.DataFrame(found, columns=names_)


def caption_accuracy(pipeline: Pipeline, dataset: str, split: str) -> pd.DataFrame:
    """The share of captions that name the target (``language.mentions``), by captioned input.

    For crops and blurred crops, counts each ref once if a refined proposal covers it with an IoU of
    at least ``GOOD``; for whole images, counts every ref.
    """
    data = pipeline.split(dataset, split)
    refs = data.sentences.drop_duplicates("ref_id").reset_index(drop=True)
    masks = pipeline.proposals(data.images)
    best = best_proposals(refs, masks[masks["kept"]])
    covered = (best["iou"] >= GOOD).to_numpy()
    pairs = refs.assign(mask_id=best["mask_id"])[covered]
    found = []
    for form in ("crop", "blur"):
        said = pairs.merge(pipeline.captions(data.images, form), on=["image", "mask_id"])
        named = pipeline.mention(said["caption"], said["names"])
        found.append((form, 100 * pd.Series(named, dtype=float).mean(), len(named)))
    overall = pipeline.image_captions(data.images)
    named = pipeline.mention(overall[refs["image"]], refs["names"])
    found.append(("whole image", 100 * pd.Series(named, dtype=float).mean(), len(named)))
    return pd.DataFrame(found, columns=["captioned", "names the target (%)", "targets"])


def two_captioners(pipeline: Pipeline, dataset: str, split: str) -> pd.DataFrame:
    """Captions of the same masks by the captioners of Table 6: image, mask_id, one column each."""
    images = pipeline.split(dataset, split).images
    found = [
        run.captions(images).rename(columns={"caption": name}).set_index(["image", "mask_id"])
        for name, method, run in ablations.captioners(pipeline)
        if method == "TAS"
    ]
    return pd.concat(found, axis=1).reset_index()


def negatives(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """How many negatives the sentences have, how often none, and how often the target is one."""
    found = []
    for dataset, split in columns(pipeline.settings):
        sentences = pipeline.scored(dataset, split, encoder).sentences
        count = sentences["negatives"].map(len)
        found.append(
            (dataset, split, count.mean(), 100 * (count == 0).mean(),
             100 * sentences["own_negative"].mean(), len(sentences))
        )  # fmt: skip
    names = ["dataset", "split", "phrases per sentence", "no phrase left (%)"]
    return pd.DataFrame(found, columns=[*names, "target among them (%)", "sentences"])


def own_negatives(pipeline: Pipeline, scored: ScoreTable) -> pd.DataFrame:
    """Sentences whose target is among its own negatives, one per image.

    Returns:
        sentence, head, target, caption, negatives (list), and those of them that name the target.
    """
    rows = scored.sentences[scored.sentences["own_negative"]].drop_duplicates("image")
    guilty = [
        [text for text in texts if pipeline.mention([text], [names])[0]]
        for texts, names in zip(rows["negatives"], rows["names"], strict=True)
    ]
    shown = rows[["sentence", "head", "target", "caption", "negatives"]]
    return shown.assign(**{"naming the target": guilty}).reset_index(drop=True)


def rectifier_effect(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """How often the rectifier acts, changes the choice, helps and hurts.

    Returns:
        dataset, split, and shares of the sentences (percent) that have a location word; on which it
        acted (excluded some masks, but not all); whose choice changed; whose IoU rose or fell by
        more than 0.1; then the mIoU gain (points).
    """
    found = []
    for dataset, split in columns(pipeline.settings):
        scored = pipeline.scored(dataset, split, encoder)
        before, after = both_ways(pipeline, pipeline.split(dataset, split), scored)
        named = (scored.sentences["orientation"] != "").to_numpy()
        changed = (before["mask_ids"] != after["mask_ids"]).to_numpy()
        gain = (after["iou"] - before["iou"]).to_numpy()
        found.append(
            (dataset, split, 100 * named.mean(), 100 * scored.acted().mean(), 100 * changed.mean(),
             100 * (gain > 0.1).mean(), 100 * (gain < -0.1).mean(), 100 * gain.mean())
        )  # fmt: skip
    names = ["dataset", "split", "location word (%)", "acted (%)", "changed (%)"]
    return pd.DataFrame(found, columns=[*names, "better (%)", "worse (%)", "mIoU gain"])


def both_ways(pipeline: Pipeline, split: Split, scored: ScoreTable) -> list[pd.DataFrame]:
    """Results without and with the rectifier."""
    return [tables.by_s(pipeline, split, scored, rectify) for rectify in (False, True)]


def per_sentence(pipeline: Pipeline, encoder: str, split: Split) -> pd.DataFrame:
    """One row per sentence: the choice and IoU of each method, and the effect of the rectifier.

    ``acted``: the rectifier excluded some of the masks; ``changed``: TAS would have chosen another
    mask without it. If answers may have any number of masks, ``TAS masks`` has all of them.
    """
    column = split.dataset, split.split
    scored = pipeline.scored(*column, encoder)
    frame = scored.sentences.drop(columns=["ground_truth"])
    frame["best IoU"] = scored.outcome(scored.best_possible())["iou"]
    for method in tables.OWN:
        outcome = tables.outcome(pipeline, method, encoder, *column)
        frame[[f"{method} mask", f"{method} IoU"]] = outcome[["mask_id", "iou"]]
        frame[[f"{method} intersection", f"{method} union"]] = outcome[["intersection", "union"]]
    before, after = both_ways(pipeline, split, scored)
    if pipeline.settings.answers == "any":
        frame["TAS masks"] = after["mask_ids"]
    changed = (before["mask_ids"] != after["mask_ids"]).to_numpy()
    return frame.assign(acted=scored.acted(), changed=changed)


def with_masks(frame: pd.DataFrame, masks: pd.DataFrame) -> pd.DataFrame:
    """Adds the chosen masks to ``per_sentence``, so that they can be compared without a store.

    Args:
        frame: With ``"<method> mask"``, and ``"<method> masks"`` if an answer may have several.
        masks: The proposals among which they were chosen: image, mask_id, height, width, counts.

    Returns:
        ``frame`` with ``"<method> counts"``: COCO's compressed run lengths of an answer, which is
        the union of its masks, of the sentence's height and width; "" for an answer without a mask.
    """
    names = ["image", "mask_id", "height", "width", "counts"]
    known = {
        (image, number): {"size": [height, width], "counts": counts}
        for image, number, height, width, counts in masks[names].itertuples(index=False)
    }

    def counts(image: str, numbers: Sequence[int]) -> str:
        parts = [known[image, number] for number in numbers if (image, number) in known]
        return coco_mask.merge(parts)["counts"].decode() if parts else ""

    answers = {
        method: frame.get(f"{method} masks", frame[f"{method} mask"].map(lambda one: [one]))
        for method in tables.OWN
    }
    return frame.assign(
        **{
            f"{method} counts": [counts(*own) for own in zip(frame["image"], numbers, strict=True)]
            for method, numbers in answers.items()
        }
    )


def save_per_sentence(pipeline: Pipeline) -> None:
    """Writes ``results/<dataset>-<split>-<encoder>.parquet`` for every column and encoder."""
    for dataset, split in columns(pipeline.settings):
        masks = pipeline.refined(pipeline.split(dataset, split).images)
        for encoder in pipeline.settings.encoders:
            found = per_sentence(pipeline, encoder, pipeline.split(dataset, split))
            frame = with_masks(found, masks)
            column = column_name(pipeline.settings, dataset, split)
            name = f"{column}-{tables.short(encoder)}.parquet"
            with atomic_write(pipeline.settings.out / "results" / name) as path:
                frame.to_parquet(path, index=False)


def steps(pipeline: Pipeline, encoder: str) -> pd.DataFrame:
    """The effect of each module of Table 4 on single sentences, for every column.

    Returns:
        dataset, split, step, share of sentences whose IoU rises or falls by more than 0.1, and the
        mIoU gain (points).
    """
    found = []
    for dataset, split in columns(pipeline.settings):
        ious = [
            tables.outcome(pipeline, name, encoder, dataset, split)["iou"]
            for name in tables.MODULES
        ]
        for name, (before, after) in zip(tables.MODULES[1:], itertools.pairwise(ious), strict=True):
            gain = (after - before).to_numpy()
            better, worse = 100 * (gain > 0.1).mean(), 100 * (gain < -0.1).mean()
            step = "+ " + name.rpartition("+ ")[2]
            found.append((dataset, split, step, better, worse, 100 * gain.mean()))
    names = ["dataset", "split", "step", "better (%)", "worse (%)", "mIoU gain"]
    return pd.DataFrame(found, columns=names)


def targets(split: Split) -> pd.DataFrame:
    """One row per ref: target, its share of the image, and its sentences."""
    frame = split.sentences.groupby("ref_id", sort=False)
    first = frame.first()
    texts = frame["sentence"].agg(" / ".join)
    return pd.DataFrame({"target": first["target"], "share": first["share"], "sentences": texts})
