"""Words of place in expressions, and the recipe ``extended`` sentence by sentence (notebook 08)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb import profiles
from tasnb.datasets.splits import Split, columns
from tasnb.drawing.places import Placed
from tasnb.method.language import prompted
from tasnb.method.masked_images import masked_images
from tasnb.method.metrics import difference
from tasnb.method.pipeline import Pipeline
from tasnb.method.places import Placing, in_words, read, unplaced
from tasnb.method.places.cues import words_of
from tasnb.method.places.layout import layout
from tasnb.method.places.priors import over_image
from tasnb.method.places.vocabulary import ALSO, CUES, SIDES
from tasnb.method.proposals import decode
from tasnb.method.shown import Shown
from tasnb.profiles import is_phrases
from tasnb.results import tables
from tasnb.results.ablations import CHOICES
from tasnb.settings import Settings

FAR = {word for word, kind in CUES.items() if kind in SIDES and word.endswith(("most", "est"))}
KINDS = (
    "one side", "a corner", "the far end", "the middle", "front or back", "a count", "a size",
    "a second object", "none of these",
)  # fmt: skip
"""Kinds of words of place; an expression may have several."""
RECIPES = ("published", "extended")
READ = "read by the paper's rule (%)"


def kinds_of(expression: str) -> list[str]:
    """Which of ``KINDS`` an expression has, as `tasnb.method.places` reads it; one or more."""
    reading, words = read(expression), words_of(expression)
    implied = {ALSO.get(relation.kind) for relation in reading.relations}
    plain = {cue.kind for cue in reading.cues if not cue.rank} - implied
    sides = plain.intersection(SIDES)
    far = FAR.intersection(words) or any(f"far {side}" in " ".join(words) for side in SIDES)
    found = {
        "one side": len(sides) == 1 and not far,
        "a corner": len(sides) == 2,
        "the far end": len(sides) == 1 and far,
        "the middle": "middle" in plain,
        "front or back": plain & {"front", "back"},
        "a count": any(cue.rank for cue in reading.cues),
        "a size": plain & {"big", "small"},
        "a second object": reading.relations,
    }
    return [kind for kind, there in found.items() if there] or [KINDS[-1]]


def spoken(pipeline: Pipeline) -> pd.DataFrame:
    """How often the expressions of a run have each kind of words, and what the paper's rule reads.

    Returns:
        words of place; an example, the shortest; number of sentences; their share of all sentences,
        and the part of them in which ``published`` reads an orientation (percent); then the share
        in each dataset, by its title.
    """
    parts = []
    for dataset, split in columns(pipeline.settings):
        texts = pipeline.split(dataset, split).sentences["sentence"]
        published = pipeline.in_recipe("published").expressions(texts)["orientation"]
        seen = (published.loc[texts] != "").to_numpy()
        title = profiles.title(dataset, pipeline.settings.datasets)
        parts.append(pd.DataFrame({"dataset": title, "sentence": texts, "seen": seen}))
    every = pd.concat(parts, ignore_index=True)
    rows = every.assign(kind=every["sentence"].map(kinds_of)).explode("kind")
    sizes = every.groupby("dataset", sort=False).size()
    found = []
    for kind in KINDS:
        mine = rows[rows["kind"] == kind]
        shortest = min(mine["sentence"], key=lambda text: (len(text), text), default="")
        by_dataset = 100 * mine.groupby("dataset").size().reindex(sizes.index, fill_value=0) / sizes
        found.append(
            {"words of place": kind, "example": shortest, "sentences": len(mine),
             "share (%)": 100 * len(mine) / len(every),
             READ: 100 * mine["seen"].mean() if len(mine) else np.nan,
             **by_dataset.to_dict()}
        )  # fmt: skip
    return pd.DataFrame(found)


def studied(settings: Settings) -> list[tuple[str, str]]:
    """The first column of each dataset of Table 1, or of a run without any, of each dataset."""
    first = dict(reversed(columns(settings)))
    found = [(dataset, first[dataset]) for dataset in settings.datasets if dataset in first]
    return [column for column in found if not is_phrases(column[0])] or found


def compared(pipeline: Pipeline, encoder: str, among: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Every sentence of some columns with the choices of TAS by both ``RECIPES``.

    Returns:
        dataset, split, row (number of the sentence in its split), image, sentence, ``kinds_of`` it,
        and for each recipe its mask_id, intersection, union and IoU ("extended IoU", ...).
    """
    return pd.concat([_compared(pipeline, encoder, *column) for column in among], ignore_index=True)


def _compared(pipeline: Pipeline, encoder: str, dataset: str, split: str) -> pd.DataFrame:
    sentences = pipeline.split(dataset, split).sentences[["image", "sentence"]]
    kinds = sentences["sentence"].map(kinds_of)
    frame = sentences.assign(dataset=dataset, split=split, row=sentences.index, kinds=kinds)
    for recipe in RECIPES:
        _add(frame, recipe, pipeline.in_recipe(recipe), encoder)
    return frame


def _add(frame: pd.DataFrame, name: str, run: Pipeline, encoder: str) -> None:
    """Adds the choices of TAS on the sentences of one column to a frame."""
    outcome = tables.outcome(run, "TAS", encoder, *frame[["dataset", "split"]].iloc[0])
    names = {"mask_id": "mask", "intersection": "intersection", "union": "union", "iou": "IoU"}
    if run.settings.answers == "any":
        names["mask_ids"] = "masks"
    for column, called in names.items():
        frame[f"{name} {called}"] = outcome[column].to_numpy()


def by_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """Both recipes on the sentences with each kind of words, and on all.

    Args:
        frame: From ``compared``.

    Returns:
        words of place, sentences, mIoU by both recipes, the gain of ``extended`` with its 95 %
        interval (CI low, CI high), and the shares of sentences whose IoU rises and falls by more
        than 0.1 (percent).
    """
    rows = frame.explode("kinds")
    groups = {kind: rows[rows["kinds"] == kind] for kind in KINDS} | {"all": frame}
    found = []
    for kind, mine in groups.items():
        if mine.empty:
            continue
        published, extended = (_outcome(mine, recipe) for recipe in RECIPES)
        gain = difference(extended, published, "mIoU")
        rise = mine["extended IoU"] - mine["published IoU"]
        shares = 100 * (rise > 0.1).mean(), 100 * (rise < -0.1).mean()
        means = [100 * mine[f"{recipe} IoU"].mean() for recipe in RECIPES]
        found.append((kind, len(mine), *means, gain.value, gain.low, gain.high, *shares))
    names = ["words of place", "sentences", *RECIPES, "mIoU gain", "CI low", "CI high"]
    return pd.DataFrame(found, columns=[*names, "better (%)", "worse (%)"])


def _outcome(rows: pd.DataFrame, recipe: str) -> pd.DataFrame:
    names = {f"{recipe} {name}": name for name in ("intersection", "union")}
    return rows[["image", *names]].rename(columns=names)


def alone(pipeline: Pipeline, encoder: str, column: tuple[str, str], choice: str) -> pd.DataFrame:
    """The sentences of a column with the choices by ``published``, and with one choice added.

    Args:
        choice: A key of ``ablations.CHOICES``.

    Returns:
        As ``compared``, with the additional recipe "with it" and the ``gain`` in IoU; the largest
        gain first.
    """
    plain, extended = pipeline.in_recipe("published"), profiles.RECIPES["extended"]
    frame = _compared(pipeline, encoder, *column)
    changed = plain.variant(**{name: extended[name] for name in CHOICES[choice]})
    _add(frame, "with it", changed, encoder)
    frame["gain"] = frame["with it IoU"] - frame["published IoU"]
    return frame.sort_values("gain", ascending=False, kind="stable")


def subjects(pipeline: Pipeline, frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """The prompted subjects of some expressions: of the largest gains, then of the largest losses.

    Args:
        frame: From ``alone``.
    """
    changed = frame[frame["gain"].abs() > 0.1].drop_duplicates("sentence")
    best, worst = changed[changed["gain"] > 0], changed[changed["gain"] < 0]
    rows = pd.concat([best.head(count), worst.tail(max(1, count // 2))])
    read = pipeline.expressions(rows["sentence"]).loc[rows["sentence"]]
    heads = zip(rows["sentence"], read["head"], read["subject"], strict=True)
    shown = [prompted(unplaced(text, subject)) if head else "" for text, head, subject in heads]
    found = {
        "expression": rows["sentence"], "subject, as a prompt": shown,
        "IoU without": rows["published IoU"], "IoU with": rows["with it IoU"],
    }  # fmt: skip
    return pd.DataFrame(found).reset_index(drop=True)


# --- Pictures -------------------------------------------------------------------------------------


def views(
    pipeline: Pipeline, encoder: str, row: pd.Series
) -> tuple[list[npt.NDArray[np.uint8]], list[npt.NDArray[np.uint8]], list[str], list[str]]:
    """Both views of each mask of an image with V in each, as ``figures.captions`` takes them.

    Args:
        row: Of ``compared`` or ``alone``.
    """
    run = pipeline.in_recipe("extended")
    split = run.split(row["dataset"], row["split"])
    images = {row["image"]: split.images[row["image"]]}
    masks, pixels = run.refined(images), run.pixels(images, row["image"])
    text = run.text_embeddings([row["sentence"]], encoder)[row["sentence"]]
    pictures, said = [], []
    for form in ("crop", "blur"):
        vectors = run.mask_embeddings(images, encoder, form)[1]
        v = (vectors @ text).reshape(len(masks), -1).max(1)
        best = " (best)"
        said.append([f"V {one:.3f}{best if one == v.max() else ''}" for one in v])
        kernel = run.settings.blur_kernel
        pictures.append(masked_images(pixels, decode(masks), form, kernel))
    return pictures[0], pictures[1], said[0], said[1]


def crowded(pipeline: Pipeline, column: tuple[str, str]) -> tuple[str, str, str]:
    """The image of a column with most things of one name, and the names of two things in it.

    Images with things of several names come first; without them, both names are the same.
    """
    split = pipeline.split(*column)
    targets = split.sentences.drop_duplicates("ref_id").groupby("image", sort=False)["target"]
    best = (False, 0), ("", "", "")
    for image, names in targets:
        things = [called[0] for called in split.things.get(image, ()) if called] or list(names)
        (name, number), *others = Counter(things).most_common()
        rank = bool(others), number
        if rank > best[0]:
            best = rank, (str(image), name, others[0][0] if others else name)
    return best[1]


def placed(
    pipeline: Pipeline, encoder: str, column: tuple[str, str], image: str, asked: Sequence[str]
) -> list[Placed]:
    """What ``extended`` makes of some expressions about one image.

    Args:
        asked: Expressions of any kind, not only those of the dataset.
    """
    run = pipeline.in_recipe("extended")
    split = run.split(*column)
    rows = split.sentences[split.sentences["image"] == image].iloc[[0] * len(asked)]
    rows = rows.assign(sentence=list(asked)).reset_index(drop=True)
    one = Split(*column, rows, {image: split.images[image]})
    masks, pixels = run.refined(one.images), run.pixels(one.images, image)
    if masks.empty:
        return []
    table = run.score(one, encoder)
    results = [tables.by_s(run, one, table, rectify) for rectify in (False, True)]
    placing = Placing(run.settings, asked)
    named = run.subjects(table.sentences)
    vectors = run.text_embeddings([*asked, *named.values(), *placing.prompts], encoder)
    seen = run.mask_views(one.images, encoder)
    shown = Shown(run.settings, masks, seen, [""] * len(masks), vectors)
    others = shown.others(placing.nouns_of(asked))
    where = layout(masks[["x", "y", "w", "h"]].to_numpy(float), pixels.shape[:2])
    found = []
    for number, (text, likely) in enumerate(zip(asked, shown.likely(asked, named), strict=True)):
        _, pairs = table.one(number)
        place = {mask_id: k for k, mask_id in enumerate(pairs["mask_id"])}
        before, after = ([place[one] for one in r["mask_ids"][number]] for r in results)
        found.append(
            Placed(
                image=pixels,
                masks=decode(masks),
                expression=text,
                reading=in_words(read(text)),
                centers=where.center * np.array(pixels.shape[1::-1]),
                likely=likely,
                prior=over_image(read(text), where, likely, others, placing.weights),
                before=before,
                after=after,
            )
        )
    return found
