"""Paired comparisons of runs on the sentences that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from tasnb.method.metrics import difference, evaluate
from tasnb.reruns.finished import Finished, in_table_1, title
from tasnb.settings import InputError

ALL = "shared columns of Table 1"
SENTENCE = ["image", "sentence", "truth_area", "place"]
"""What identifies a sentence of a column in any run, whatever its number: the image with its
digest, the text, the size of the ground truth, and the place among sentences alike in these."""
HEADLINE = ("TAS", "mIoU")
SIGNIFICANT = 0.05  # p; with few images, an interval alone is too narrow


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
    def same_masks(self) -> bool:
        """Whether both runs chose among the same proposals, so that numbers of masks agree."""
        if not np.array_equal(self.rows["best IoU 1"], self.rows["best IoU 2"]):
            return False
        for method in self.methods:
            one, two = (self.outcome(method, which) for which in (1, 2))
            same = self.rows[f"{method} mask 1"] == self.rows[f"{method} mask 2"]
            if not one[same].equals(two[same]):
                return False
        return True

    def changed(self, method: str) -> pd.Series:
        """Whether the choice of a method differs, per sentence.

        The mask_ids are compared, or where the runs have other proposals, the overlaps.
        """
        names = ["mask"] if self.same_masks else ["intersection", "union"]
        unlike = [
            self.rows[f"{method} {name} 1"] != self.rows[f"{method} {name} 2"] for name in names
        ]
        return pd.concat(unlike, axis=1).any(axis=1)


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
    results = ("row", "best IoU", "mask", "IoU", "intersection", "union")
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


def summary(
    rows: pd.DataFrame, changes: pd.DataFrame, first: str, total: Mapping[str, int]
) -> list[str]:
    """The main results in sentences: the headline metric of each run and encoder.

    Args:
        rows: From ``paired``.
        changes: From ``changed``.
        first: The name of the first run.
        total: From ``shared_sentences``.
    """
    method, metric = HEADLINE
    said = []
    mine = rows[(rows["method"] == method) & (rows["metric"] == metric)]
    for (run, encoder), own in mine.groupby(["run", "encoder"], sort=False):
        row = own.iloc[0]  # over all columns of Table 1, or the only one
        low, high = row["CI low"], row["CI high"]
        where = "" if row["column"] == ALL else f" on {row['column']}"
        moved = changes[(changes["run"] == run) & (changes["encoder"] == encoder)]
        choice = f"the choice differs for {len(moved):,} of {total[run]:,} sentences"
        p = f"p = {row['p']:.3f}" if row["p"] >= 0.001 else "p < 0.001"
        test = f"95 % confidence interval {low:+.1f} to {high:+.1f}, {p}"
        if not len(moved):
            said.append(f"{run} and {first} choose the same masks with {encoder}.")
        elif (low > 0 or high < 0) and row["p"] < SIGNIFICANT:
            gap = f"{abs(row['difference']):.1f} points of {metric}"
            said.append(
                f"With {encoder}, {method} of {run} is {gap} {'above' if low > 0 else 'below'} "
                f"{first}{where} ({test}); {choice}."
            )
        else:
            said.append(
                f"With {encoder}, {method} of {run} and {first} do not differ significantly{where} "
                f"({row['difference']:+.1f} points of {metric}, {test}); {choice}."
            )
    return said
