"""Paired comparisons of runs on the sentences that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.method.metrics import difference, evaluate
from tasnb.reruns.finished import Finished, in_table_1, title
from tasnb.results.analysis import GOOD
from tasnb.settings import InputError

ALL = "shared columns of Table 1"
SENTENCE = ["image", "sentence", "truth_area", "place"]
"""What identifies a sentence of a column in any run, whatever its number: the image with its
digest, the text, the size of the ground truth, and the place among sentences alike in these."""
HEADLINE = ("TAS", "mIoU")
SAME = 0.8  # IoU from which masks of different proposals count as the same choice
NUMBERS, MASKS, OUTCOMES = "numbers", "masks", "outcomes"
"""By what changed choices are told, see ``Pair.told_by``."""


@dataclass(frozen=True, eq=False)
class Pair:
    """The sentences of a column that two runs share, in the order of the first.

    Attributes:
        first, second: The runs.
        encoders: Short names of the encoders; they differ only if the runs have none in common.
        column: Its name in file names.
        rows: One row per sentence, with the suffixes " 1" and " 2" for results, and ``row 1`` and
            ``row 2``, the row numbers in each run.
    """

    first: Finished
    second: Finished
    encoders: tuple[str, str]
    column: str
    rows: pd.DataFrame

    @property
    def encoder(self) -> str:
        """The encoder as text, "clip-vit", or "clip-vit → albef"."""
        return " → ".join(dict.fromkeys(self.encoders))

    @property
    def methods(self) -> list[str]:
        """The methods with results in both runs."""
        return [
            name.removesuffix(" union 1")
            for name in self.rows
            if name.endswith(" union 1") and f"{name[:-1]}2" in self.rows
        ]

    def outcome(self, method: str, which: int) -> pd.DataFrame:
        """Image, intersection and union of each sentence in run 1 or 2."""
        parts = {n: self.rows[f"{method} {n} {which}"] for n in ("intersection", "union")}
        return pd.DataFrame({"image": self.rows["image"], **parts})

    @cached_property
    def told_by(self) -> str:
        """By what a changed choice is told: the best that both runs allow.

        ``NUMBERS``: Both runs chose among the same proposals, so that numbers of masks agree.
        ``MASKS``: The masks themselves; an IoU of ``SAME`` or more is no change. ``OUTCOMES``: A
        run does not include its chosen masks, so only sentences count that are right in one of the
        runs (an IoU of ``GOOD``) and wrong in the other.
        """
        if self._same_masks:
            return NUMBERS
        named = [f"{method} counts {k}" for method in self.methods for k in (1, 2)]
        return MASKS if {*named, "height 1", "width 1"} <= set(self.rows) else OUTCOMES

    @property
    def _same_masks(self) -> bool:
        if not np.array_equal(self.rows["best IoU 1"], self.rows["best IoU 2"]):
            return False
        for method in self.methods:
            one, two = (self.outcome(method, which) for which in (1, 2))
            same = self.rows[f"{method} mask 1"] == self.rows[f"{method} mask 2"]
            if not one[same].equals(two[same]):
                return False
        return True

    def changed(self, method: str) -> pd.Series:
        """Whether the choice of a method differs, per sentence, see ``told_by``."""
        if self.told_by == NUMBERS:
            return self.rows[f"{method} mask 1"] != self.rows[f"{method} mask 2"]
        if self.told_by == MASKS:
            names = ("height 1", "width 1", f"{method} counts 1", f"{method} counts 2")
            pairs = zip(*(self.rows[name] for name in names), strict=True)
            return pd.Series([_iou(*pair) < SAME for pair in pairs], self.rows.index)
        right = [self.rows[f"{method} IoU {k}"] >= GOOD for k in (1, 2)]
        return right[0] != right[1]


@lru_cache(maxsize=20_000)  # sentences about the same object choose the same masks
def _iou(height: int, width: int, one: str, two: str) -> float:
    """IoU of two masks in COCO's compressed run lengths; "" is no mask."""
    if one == two or not one or not two:
        return float(one == two)
    masks = [{"size": [height, width], "counts": counts.encode()} for counts in (one, two)]
    return float(coco_mask.iou(masks[:1], masks[1:], [0])[0, 0])


def pairs(first: Finished, second: Finished) -> list[Pair]:
    """The shared sentences of two runs, for every column and encoder.

    Encoders that both runs have are compared with themselves; if there are none, the last encoder
    of each run is compared with that of the other.
    """
    shared = [name for name in first.encoders if name in second.encoders]
    encoders = [(name, name) for name in shared]
    if not shared and first.encoders and second.encoders:
        encoders = [(first.encoders[-1], second.encoders[-1])]
    found = []
    for one, two in encoders:
        for column in first.columns:
            if (column, one) in first.results and (column, two) in second.results:
                frames = [_keyed(first, column, one, 1), _keyed(second, column, two, 2)]
                rows = frames[0].merge(frames[1], on=[*SENTENCE, "target"])
                if len(rows):
                    rows = rows.sort_values("row 1", ignore_index=True)
                    found.append(Pair(first, second, (one, two), column, rows))
    return found


def _keyed(run: Finished, column: str, encoder: str, which: int) -> pd.DataFrame:
    frame = run.sentences(column, encoder).reset_index(names="row")
    frame["place"] = frame.groupby(SENTENCE[:3]).cumcount()
    for name in [name for name in frame if name.endswith(" mask")]:  # all masks of each answer
        those = frame.get(f"{name}s", frame[name].map(lambda mask_id: [mask_id][: mask_id >= 0]))
        frame[name] = [tuple(sorted(ids)) for ids in those]
    results = ("row", "best IoU", "mask", "IoU", "intersection", "union", "counts")
    results += ("height", "width")
    names = {n: f"{n} {which}" for n in frame if n.endswith(results)}
    return frame[[*SENTENCE, "target", *names]].rename(columns=names)


def all_pairs(runs: Sequence[Finished]) -> list[Pair]:
    """The pairs of the first run with every other.

    Raises:
        InputError: A run has no per-sentence results, or none of the sentences of the first.
    """
    for run in runs:
        if not run.results:
            raise InputError(
                f"the run in {run.folder} has no results per sentence: run notebook 05 in it"
            )
    found: list[Pair] = []
    for run in runs[1:]:
        mine = pairs(runs[0], run)
        if not mine:
            raise InputError(
                f"{runs[0].name} and {run.name} have no sentences in common: choose runs that "
                "share a split"
            )
        found += mine
    return found


def shared_sentences(found: Sequence[Pair]) -> dict[str, int]:
    """Name of each run but the first -> number of sentences that it shares with the first."""
    counts: dict[str, dict[str, int]] = {}
    for pair in found:
        counts.setdefault(pair.second.name, {})[pair.column] = len(pair.rows)
    return {name: sum(columns.values()) for name, columns in counts.items()}


def paired(found: Sequence[Pair]) -> pd.DataFrame:
    """Paired differences of every method, on each column and over all columns of Table 1.

    Returns:
        run (compared with the first), encoder, method, column, metric, sentences, first and second
        (%), difference (points) with its 95 % interval (``CI low``, ``CI high``), and p.
    """
    rows = []
    for own in _groups(found):
        for method in own[0].methods:
            single = [(title(pair.column), [pair]) for pair in own]
            table1 = [pair for pair in own if in_table_1(pair.column)]
            pooled = [(ALL, table1)] if len(table1) > 1 else []
            for column, some in pooled + single:
                one, two = (
                    pd.concat([pair.outcome(method, k) for pair in some], ignore_index=True)
                    for k in (1, 2)
                )
                values = [evaluate(o["intersection"], o["union"]) for o in (one, two)]
                for metric in ("oIoU", "mIoU"):
                    key = (own[0].second.name, own[0].encoder, method, column, metric, len(one))
                    gap = difference(two, one, metric)
                    rows.append((*key, values[0][metric], values[1][metric], *gap))
    names = ["run", "encoder", "method", "column", "metric", "sentences", "first", "second"]
    return pd.DataFrame(rows, columns=[*names, "difference", "CI low", "CI high", "p"])


def _groups(found: Sequence[Pair]) -> Iterator[list[Pair]]:
    """The pairs of every run and encoder."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
        groups.setdefault((pair.second.name, pair.encoder), []).append(pair)
    yield from groups.values()


def changed(found: Sequence[Pair], method: str = "TAS") -> pd.DataFrame:
    """The sentences on which a method chooses another mask, the largest changes of IoU first.

    Returns:
        run, encoder, column, sentence, target, IoU in the first run and in the other, gain, and
        ``first page`` and ``second page``: files of the runs that show the sentence, or "".
    """
    parts = []
    for pair in found:
        if method not in pair.methods:
            continue
        rows = pair.rows[pair.changed(method)]
        ious = [rows[f"{method} IoU {k}"] for k in (1, 2)]
        frame = pd.DataFrame({"sentence": rows["sentence"], "target": rows["target"]})
        frame = frame.assign(first=ious[0], second=ious[1], gain=ious[1] - ious[0])
        for k, (name, run) in enumerate({"first": pair.first, "second": pair.second}.items()):
            page = run.results[pair.column, pair.encoders[k]].with_suffix(".html")
            links = [f"{page}#s{row}" if page.is_file() else "" for row in rows[f"row {k + 1}"]]
            frame[f"{name} page"] = links
        frame.insert(0, "column", title(pair.column))
        frame.insert(0, "encoder", pair.encoder)
        frame.insert(0, "run", pair.second.name)
        parts.append(frame)
    every = pd.concat(parts, ignore_index=True)
    order = every["gain"].abs().sort_values(ascending=False, kind="stable").index
    return every.loc[order].reset_index(drop=True)
