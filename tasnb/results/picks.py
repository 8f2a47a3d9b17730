"""Which sentences are shown as pictures, and what the pictures show of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.datasets.splits import Split
from tasnb.drawing.figures import Bested, Example, Overview, Rectified
from tasnb.method.masked_images import masked_images
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import best_proposals, decode
from tasnb.method.scores import ScoreTable
from tasnb.results import analysis, tables

CLEAREST = 20  # sentences among which the one with the best captions is shown


def pick_bested(
    pipeline: Pipeline, names: Mapping[str, str], dataset: str, split: str, count: int
) -> list[Bested]:
    """Expressions on which the networks differ most, one per image.

    The first network has the largest lead in all rows but the last, and the smallest (or is behind)
    in the last.

    Args:
        names: Displayed name -> name in the settings, two or more.
    """
    data = pipeline.split(dataset, split)
    best, masks = {}, {}
    for called, name in names.items():
        table = pipeline.variant(proposal_network=name).proposals(data.images)
        masks[called] = table[table["kept"]].set_index(["image", "mask_id"])
        best[called] = best_proposals(data.sentences, table[table["kept"]])
    first, *others = names
    gap = best[first]["iou"] - pd.concat([best[o]["iou"] for o in others], axis=1).max(axis=1)
    order = data.sentences.assign(gap=gap).sort_values("gap", ascending=False, kind="stable")
    ahead = order[order["image"] != order["image"].iloc[-1]].drop_duplicates("image")
    found = []
    for index in [*ahead.index[: count - 1], order.index[-1]]:
        row = data.sentences.loc[index]
        shown = {}
        for called in names:
            mask_id = best[called]["mask_id"][index]
            shown[called] = np.zeros((row["height"], row["width"]), bool)
            if mask_id >= 0:
                shown[called] = decode(masks[called].loc[[(row["image"], mask_id)]])[0]
        pixels = pipeline.pixels(data.images, row["image"])
        found.append(Bested(pixels, row["sentence"], data.ground_truth(index), shown))
    return found


def pick_examples(frame: pd.DataFrame, better: str, worse: str, count: int) -> pd.DataFrame:
    """Sentences where one method is much better than the other, one per image, best first.

    Args:
        frame: From ``per_sentence``.
        better, worse: Methods.
    """
    gain = frame[f"{better} IoU"] - frame[f"{worse} IoU"]
    order = frame.assign(gain=gain)[gain > 0.3].sort_values("gain", ascending=False, kind="stable")
    return order.drop_duplicates("image").head(count)


def to_examples(
    pipeline: Pipeline,
    split: Split,
    frame: pd.DataFrame,
    methods: tuple[str, str] = ("CLIP-only", "TAS"),
) -> list[Example]:
    """Ground truth and the choices of two methods, for ``figures.examples``.

    Args:
        frame: Rows of ``per_sentence``, or others with ``"<method> mask"`` for both methods, or
            ``"<method> masks"``, all masks of an answer.
    """

    def chosen(row: pd.Series, name: str) -> npt.NDArray[np.bool_]:
        those = row.get(f"{name} masks", [row[f"{name} mask"]])
        return pipeline.masks(split.images, row["image"], those)

    return [
        Example(
            image=pipeline.pixels(split.images, row["image"]),
            expression=row["sentence"],
            truth=split.ground_truth(index),
            chosen={name: chosen(row, name) for name in methods},
        )
        for index, row in frame.iterrows()
    ]


def pick_rectified(
    pipeline: Pipeline, scored: ScoreTable, split: Split, count: int
) -> list[Rectified]:
    """Sentences that the rectifier improves most, one per image, and one that it makes worse."""
    before, after = analysis.both_ways(pipeline, split, scored)
    frame = scored.sentences.assign(
        gain=after["iou"] - before["iou"], before=before["mask_ids"], after=after["mask_ids"]
    )
    frame = frame[frame["before"] != frame["after"]].sort_values("gain", kind="stable")
    spoilt = frame[frame["gain"] < -0.1].head(1)
    mended = frame[::-1].drop_duplicates("image").head(count - len(spoilt))
    found = []
    for index, row in pd.concat([mended, spoilt]).iterrows():
        pairs = scored.pairs[scored.pairs["sentence"] == index]
        masks = pipeline.proposals({row["image"]: split.images[row["image"]]})
        place = {mask_id: k for k, mask_id in enumerate(pairs["mask_id"])}
        found.append(
            Rectified(
                image=pipeline.pixels(split.images, row["image"]),
                masks=decode(masks[masks["kept"]]),
                expression=row["sentence"],
                orientation=row["orientation"],
                center_x=pairs["center_x"].to_numpy(),
                center_y=pairs["center_y"].to_numpy(),
                in_region=pairs["in_region"].to_numpy(),
                before=[place[mask_id] for mask_id in row["before"]],
                after=[place[mask_id] for mask_id in row["after"]],
                truth=split.ground_truth(index),
            )
        )
    return found


def pick_overview(pipeline: Pipeline, scored: ScoreTable, split: Split) -> Overview:
    """The most instructive sentence: rectified, better than with V alone, with 4 to 6 masks.

    Of the ``CLEAREST`` that come closest, the one whose captions and negatives are right most
    often: they name things that are annotated in the image, and no negative names the target.
    """
    settings, dataset = pipeline.settings, split.dataset
    total = scored.total(settings.alpha, settings.lambda_of(dataset))
    answer = tables.by_s(pipeline, split, scored)
    gain = (
        answer["iou"] - scored.outcome(tables.choose("CLIP-only", scored, settings, dataset))["iou"]
    )
    count = scored.pairs.groupby("sentence").size().reindex(gain.index, fill_value=0)
    fits = (scored.sentences["orientation"] != "").astype(float) + count.between(4, 6) + gain
    best = fits[count > 0].sort_values(ascending=False, kind="stable").index[:CLEAREST]

    def named(index: int) -> float:
        row = scored.sentences.loc[index]
        captions = scored.pairs.loc[scored.pairs["sentence"] == index, "caption"]
        texts = [*captions, *row["negatives"]]
        things = split.things[row["image"]]
        return np.mean(pipeline.mention_any(texts, things)) - row["own_negative"] if things else 0.0

    index = max(map(int, best), key=named, default=0)
    row = scored.sentences.loc[index]
    pairs = scored.pairs[scored.pairs["sentence"] == index]
    masks = pipeline.proposals({row["image"]: split.images[row["image"]]}).query("kept")
    image = pipeline.pixels(split.images, row["image"])
    forms = {
        form: masked_images(image, decode(masks), form, settings.blur_kernel)
        for form in ("crop", "blur")
    }
    return Overview(
        sentence=index,
        image=image,
        expression=row["sentence"],
        orientation=row["orientation"],
        caption=row["caption"],
        negatives=row["negatives"],
        truth=split.ground_truth(index),
        masks=decode(masks),
        crops=forms["crop"],
        blurs=forms["blur"],
        pairs=pairs.assign(
            S=total[pairs.index], chosen=pairs["mask_id"].isin(answer["mask_ids"][index])
        ),
    )
