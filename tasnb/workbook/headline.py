"""The main result of a run as one sentence and a few numbers, made from its tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tasnb.settings import Settings

VERDICTS = ("held", "not held", "undecided")
_CLAIM = re.compile(r"TAS beats CLIP-only with (\S+)")
_NUMBER = r"([+-]?\d+(?:\.\d+)?)"
_POINTS = re.compile(rf"{_NUMBER} \[{_NUMBER}, {_NUMBER}\] points of mIoU")
_COLUMNS = re.compile(r"ahead in (\d+) of (\d+) columns")


class Gain(NamedTuple):
    """The gain of TAS over CLIP-only with one encoder, in points of mIoU.

    Attributes:
        encoder: Its name.
        value, low, high: The gain and its 95 % confidence interval.
        ahead, columns: Number of columns of Table 1 in which TAS is ahead, and of all columns.
    """

    encoder: str
    value: float
    low: float
    high: float
    ahead: int
    columns: int


def gains(out: Path) -> list[Gain]:
    """A run's gains over all columns of Table 1, read from its table of claims."""
    found = []
    for claim in _read(out, "claims").itertuples(index=False):
        name, points = _CLAIM.match(str(claim[0])), _POINTS.search(str(claim[1]))
        columns = _COLUMNS.search(str(claim[1]))
        if name and points and columns:
            numbers = map(float, points.groups())
            found.append(Gain(name[1], *numbers, *map(int, columns.groups())))
    return found


def headline(out: Path) -> str:
    """One sentence comparing TAS with CLIP-only; "" for a run without these numbers."""
    found = gains(out)
    parts = [_sentence(gain) for gain in found] or _by_column(out)
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def paper_check(settings: Settings) -> str:
    """How many of the paper's numbers lie within our intervals, in one sentence.

    "" for a run without this check, which needs the paper's data.
    """
    table = _read(settings.out, "paper_check")
    if not {"recipe", "verdict"} <= set(table) or table.empty:
        return ""
    known = table[table["verdict"] != "not in the paper"]
    parts = [
        f"in {(rows['verdict'] == 'within').sum()} of {len(rows)} cases by the recipe {recipe}"
        for recipe, rows in known.groupby("recipe", sort=False)
    ]
    first = table[table["recipe"] == table["recipe"].iloc[0]]
    unknown = int((first["verdict"] == "not in the paper").sum())
    are = "result is" if unknown == 1 else "results are"
    apart = f"; {unknown} {are} not in the paper and left out" if unknown else ""
    others = "" if settings.profile == "paper" else ", which used other models"
    return (
        f"Check against the paper{others}, on {settings.images_used}: the paper's number lies "
        f"within the 95 % interval of ours {' and '.join(parts)}{apart}."
    )


def verdicts(out: Path) -> dict[str, int]:
    """How many of the paper's claims are held, not held and undecided; {} if none is known."""
    claims = _read(out, "claims")
    if "verdict" not in claims or claims.empty:
        return {}
    return {word: int((claims["verdict"] == word).sum()) for word in VERDICTS}


def means(out: Path) -> dict[str, pd.Series]:
    """Encoder -> mean mIoU of each method over the columns of Table 1 (%), if TAS is among them."""
    table = _table1(out)
    found = {}
    for encoder, rows in table[table["encoder"] != ""].groupby("encoder", sort=False):
        own = rows.groupby("method")["value"].mean()
        if {"TAS", "CLIP-only"} <= set(own.index):
            found[str(encoder)] = own
    return found


def numbers(out: Path) -> list[tuple[str, str]]:
    """Key numbers with their descriptions: mIoU, gains, the claims, and number of sentences."""
    found, ahead = [], {gain.encoder: gain for gain in gains(out)}
    for encoder, own in means(out).items():
        best = own.drop("TAS").idxmax()
        words = f"mean mIoU of TAS with {encoder}; CLIP-only: {own['CLIP-only']:.1f}"
        if best != "CLIP-only":
            words += f", best other method ({best}): {own[best]:.1f}"
        found.append((f"{own['TAS']:.1f} %", words))
        if gain := ahead.get(encoder):
            words = f"points of mIoU over CLIP-only with {encoder}, all sentences together; "
            words += f"95 % confidence interval {gain.low:+.1f} to {gain.high:+.1f}"
            found.append((f"{gain.value:+.1f}", words))
    if counts := verdicts(out):
        words = f"of {sum(counts.values())} claims of the paper: {', '.join(counts)}"
        found.append((" · ".join(map(str, counts.values())), words))
    columns = _table1(out).drop_duplicates(["dataset", "split"])
    if len(columns):
        words = f"sentences in {len(columns)} columns of Table 1"
        found.append((f"{int(columns['n'].sum()):,}", words))
    return found


def _table1(out: Path) -> pd.DataFrame:
    """The measured mIoU of Table 1; no rows if a run has none."""
    names = ["method", "encoder", "metric", "value", "n", "dataset", "split"]
    table = _read(out, "table1")
    if not set(names) <= set(table):
        return pd.DataFrame(columns=names)
    table = table[(table["metric"] == "mIoU") & table["value"].notna()]
    return table.assign(encoder=table["encoder"].fillna(""))


def _sentence(gain: Gain) -> str:
    interval = f"95 % confidence interval {gain.low:.1f} to {gain.high:.1f}"
    if gain.low > 0:
        said = f"TAS is {gain.value:.1f} points of mIoU ahead of CLIP-only ({interval})"
    elif gain.high < 0:
        said = f"TAS is {-gain.value:.1f} points of mIoU behind CLIP-only ({interval})"
    else:
        said = (
            f"TAS and CLIP-only do not differ significantly ({gain.value:+.1f} points of mIoU, "
            f"{interval})"
        )
    return f"with {gain.encoder}, {said}, with TAS ahead in {gain.ahead} of {gain.columns} columns"


def _by_column(out: Path) -> list[str]:
    """For a run without a table of claims: the number of columns in which TAS is clearly ahead."""
    table = _read(out, "intervals")
    if not {"method", "encoder", "metric", "CI low", "CI high"} <= set(table):
        return []
    rows = table[(table["method"] == "CLIP-only") & (table["metric"] == "mIoU")]
    return [
        f"with {encoder}, TAS is ahead of CLIP-only in {(mine['CI low'] > 0).sum()} of "
        f"{len(mine)} columns and behind in {(mine['CI high'] < 0).sum()}; the rest are undecided "
        "(95 % confidence intervals of mIoU)"
        for encoder, mine in rows.groupby("encoder", sort=False)
    ]


def _read(out: Path, name: str) -> pd.DataFrame:
    try:
        return pd.read_csv(out / "tables" / f"{name}.csv")
    except (OSError, ValueError):  # missing, empty, or not a table
        return pd.DataFrame()
