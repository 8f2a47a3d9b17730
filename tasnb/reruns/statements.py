"""What a comparison of runs says in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tasnb.reruns.pairs import ALL, HEADLINE, MASKS, NUMBERS, OUTCOMES, SAME, Pair, shared_sentences
from tasnb.results.analysis import GOOD

SIGNIFICANT = 0.05  # p; with few images, an interval alone is too narrow


def notes(found: Sequence[Pair]) -> list[str]:
    """What limits a comparison: encoders without a counterpart, and different proposals."""
    said = []
    for name in dict.fromkeys(pair.second.name for pair in found):
        own = [pair for pair in found if pair.second.name == name]
        first, second = own[0].first, own[0].second
        for k, (run, other) in enumerate(((first, second), (second, first))):
            used = {pair.encoders[k] for pair in own}
            rest = [encoder for encoder in run.encoders if encoder not in used]
            if rest:
                said.append(
                    f"{run.name} with {' and '.join(rest)} is not compared with {other.name}, "
                    f"which has {' and '.join(other.encoders)} only."
                )
        told = {pair.told_by for pair in own}
        both = f"{second.name} and {first.name} choose among different proposals"
        if OUTCOMES in told:
            said.append(
                f"{both}, and not both contain the chosen masks, so choices cannot be compared: "
                f"sentences that only one of them gets right (IoU of {GOOD} or more) are counted "
                "instead. Running notebook 05 again adds the masks to a run."
            )
        elif MASKS in told:
            said.append(f"{both}, so masks with an IoU of {SAME} or more count as the same choice.")
    return said


def summary(rows: pd.DataFrame, changes: pd.DataFrame, found: Sequence[Pair]) -> list[str]:
    """The main results: the headline metric of each run and encoder, and changed choices.

    Args:
        rows: From ``pairs.paired``.
        changes: From ``pairs.changed``.
        found: The pairs that both are about.
    """
    method, metric = HEADLINE
    said, total = [], shared_sentences(found)
    mine = rows[(rows["method"] == method) & (rows["metric"] == metric)]
    for (run, encoder), own in mine.groupby(["run", "encoder"], sort=False):
        row = own.iloc[0]  # over all columns of Table 1, or the only one
        group = [p for p in found if (p.second.name, p.encoder) == (run, encoder)]
        told = {pair.told_by for pair in group}
        first, encoders = group[0].first.name, group[0].encoders
        moved = (changes["run"] == run) & (changes["encoder"] == encoder)
        count, low, high = int(moved.sum()), row["CI low"], row["CI high"]
        if not count and told == {NUMBERS} and encoders[0] == encoders[1]:
            said.append(f"{run} and {first} choose the same masks with {encoder}.")
            continue
        one, two = f"{method} of {run}", first
        begin = f"With {encoder}, "
        if encoders[0] != encoders[1]:
            begin, one, two = "", f"{one} with {encoders[1]}", f"{two} with {encoders[0]}"
        where = (
            "on the shared columns of Table 1" if row["column"] == ALL else f"on {row['column']}"
        )
        p = f"p = {row['p']:.3f}" if row["p"] >= 0.001 else "p < 0.001"
        test = f"95 % confidence interval {low:+.1f} to {high:+.1f}, {p}"
        gap = row["difference"]
        if (low > 0 or high < 0) and row["p"] < SIGNIFICANT:
            side = "above" if gap > 0 else "below"
            line = (
                f"{begin}{one} is {abs(gap):.1f} points of {metric} {side} {two} {where} ({test})"
            )
        else:
            line = (
                f"{begin}{one} and {two} do not differ significantly {where} ({gap:+.1f} points of "
                f"{metric}, {test})"
            )
        choice = f"the choice differs for {count:,} of {total[run]:,} sentences"
        if OUTCOMES in told:
            choice = f"{count:,} of {total[run]:,} sentences are right in only one of the two"
        said.append(f"{line}; {choice}.")
    return said
