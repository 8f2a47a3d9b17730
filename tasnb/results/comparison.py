"""Statistics of the differences: intervals, paired tests, and the paper's claims (section 4).

Images are resampled rather than sentences, since all sentences of an image share its proposals and
captions. RefScenes and RefScenes+ have the same images, which are drawn together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd

from tasnb.datasets.splits import ablated, columns
from tasnb.method.metrics import Difference, difference, evaluate, interval
from tasnb.method.pipeline import Pipeline
from tasnb.profiles import has_places, is_phrases, title
from tasnb.results import ablations, tables
from tasnb.settings import Settings

MAPS = ("CLIP Surgery", "Score Map", "Grad-CAM")  # methods based on activation maps
LITTLE = 2  # points of mIoU; smaller differences count as little
PAPERS_INPUTS = ("blur", "crop")  # input to the captioner, input to CLIP
SMALL = 0.04  # share of the image; smaller targets count as small


def intervals(pipeline: Pipeline) -> pd.DataFrame:
    """Every result of Tables 1 and 2 with its interval, and the gain of TAS over that method.

    Returns:
        method, encoder, dataset, split, metric, value, low, high (95 % interval); ``gain of TAS``
        with ``CI low`` and ``CI high``, and p of the paired test; NaN for TAS itself.
    """
    found = []
    for dataset, split in columns(pipeline.settings):
        for encoder in pipeline.settings.encoders:
            tas = tables.outcome(pipeline, "TAS", encoder, dataset, split)
            for method in tables.methods(pipeline, encoder):
                own = tables.outcome(pipeline, method, encoder, dataset, split)
                values = evaluate(own["intersection"], own["union"])
                for metric in ("oIoU", "mIoU"):
                    ahead = (float("nan"),) * 4
                    if method != "TAS":
                        ahead = difference(tas, own, metric)
                    name = "" if method == "Text-only" else tables.short(encoder)
                    key = (method, name, dataset, split, metric)
                    found.append((*key, values[metric], *interval(own, metric), *ahead))
    names = ["method", "encoder", "dataset", "split", "metric", "value", "low", "high"]
    return pd.DataFrame(found, columns=[*names, "gain of TAS", "CI low", "CI high", "p"])


def claims(pipeline: Pipeline) -> pd.DataFrame:
    """The paper's claims, each with the result measured here and whether the claim is held.

    A claim is held if the 95 % interval of the relevant difference lies on the claimed side, not
    held if it lies on the other side, and undecided otherwise. Claims about Tables 1, 3 and 4 refer
    to all sentences of the columns of Table 1, which tell more than the paper's single column for
    Tables 3 and 4; that about the rectifier to the columns whose expressions may contain location
    words. So do claims about Tables 5 to 7 if ``settings.claims_on`` is "all"; otherwise, since
    they need other captions or embeddings, they refer to the columns of these tables. All but those
    about Tables 1 and 6 use the last encoder. See ``left_out`` for claims that the run has no data
    for.
    """
    found: list[Row] = []
    there = columns(pipeline.settings)
    compared = bool(_of_table1(pipeline.settings))
    if compared:
        for encoder in pipeline.settings.encoders:
            found += _against_others(pipeline, encoder)
        found += _modules(pipeline) + _weights(pipeline)
    of5, of6 = columns_of_claims(pipeline.settings).values()
    if of5 and set(of5) <= set(there):
        found += _inputs(pipeline)
    if of6 and set(of6) <= set(there):
        found += _captioners(pipeline) + _encoders(pipeline)
    found += _small_targets(pipeline) if compared else []
    return pd.DataFrame(found, columns=["the paper says", "measured here", "verdict"])


def columns_of_claims(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    """The columns for the claims about Table 5, and for those about Tables 6 and 7."""
    every = _of_table1(settings)
    own = {"Table 5": [ablated(settings)], "Tables 6 and 7": ablations.swapped(settings)}
    return dict.fromkeys(own, every) if settings.claims_on == "all" else own


def left_out(settings: Settings) -> list[str]:
    """The claims that a run has no data for, with the missing columns; empty if it has all."""
    there = columns(settings)
    found = []
    if not _of_table1(settings):
        some = "1 and 3 to 7" if settings.claims_on == "all" else "1, 3 and 4"
        found += [f"Tables {some}, because this run has none of the columns of Table 1"]
    elif not _with_places(settings):
        found += ["the rectifier (Table 4), because no expression of this run may name a place"]
    for name, some in columns_of_claims(settings).items():
        lacking = [f"{title(dataset)} {split}" for dataset, split in some
                   if (dataset, split) not in there]  # fmt: skip
        if lacking:
            found.append(f"{name}, because this run does not include {' and '.join(lacking)}")
    return found


Row = tuple[str, str, str]


def _points(d: Difference) -> str:
    return f"{d.value:+.1f} [{d.low:+.1f}, {d.high:+.1f}] points of mIoU"


def _is_little(d: Difference) -> str:
    """The verdict on a claim that two results are nearly the same, whichever is higher."""
    if d.low > -LITTLE and d.high < LITTLE:
        return "held"
    return "not held" if d.low > LITTLE or d.high < -LITTLE else "undecided"


def _of_table1(settings: Settings) -> list[tuple[str, str]]:
    """The run's columns of Table 1, i.e. all except phrase datasets."""
    return [column for column in columns(settings) if not is_phrases(column[0])]


def _with_places(settings: Settings) -> list[tuple[str, str]]:
    """The run's columns of Table 1 whose expressions may contain location words."""
    return [column for column in _of_table1(settings) if has_places(column[0])]


def _over(there: Sequence[tuple[str, str]]) -> str:
    return f"over {len(there)} columns" if len(there) > 1 else "on the only column"


def _pooled(
    pipeline: Pipeline, method: str, encoder: str, there: Sequence[tuple[str, str]] | None = None
) -> pd.DataFrame:
    """The results of a method over some columns, or over all columns of Table 1."""
    there = _of_table1(pipeline.settings) if there is None else there
    parts = [tables.outcome(pipeline, method, encoder, *column) for column in there]
    return pd.concat(parts, ignore_index=True)


def _against_others(pipeline: Pipeline, encoder: str) -> list[Row]:
    name = tables.short(encoder)
    others = tables.methods(pipeline, encoder, extra=False)
    others = [method for method in others if method not in tables.BY_RECIPE.values()]
    pooled = {method: _pooled(pipeline, method, encoder) for method in others}
    tas = pooled.pop("TAS")
    alone = pooled["CLIP-only"]
    ahead = difference(tas, alone, "mIoU")
    text = f"{_points(ahead)}, {_columns_ahead(pipeline, 'CLIP-only', encoder)}"
    found = [(f"TAS beats CLIP-only with {name} (Table 1)", text, ahead.verdict)]
    if len(pooled) > 1:
        gaps = {method: difference(tas, own, "mIoU") for method, own in pooled.items()}
        best = min(gaps, key=lambda method: gaps[method].value)
        text = f"over the best other method, {best}: {_points(gaps[best])}, "
        text += _columns_ahead(pipeline, best, encoder).replace("ahead in", "ahead of it in")
        found.append(
            (f"TAS beats every other method with {name} (Table 1)", text, gaps[best].verdict)
        )
    maps = {m: difference(alone, pooled[m], "mIoU") for m in MAPS if m in pooled}
    if maps:
        best = min(maps, key=lambda method: maps[method].value)
        text = f"CLIP-only minus {best}, the best of these: {_points(maps[best])}"
        found.append(
            (
                f"activation maps perform poorly with {name}, here: worse than CLIP-only (Table 1)",
                text,
                maps[best].verdict,
            )
        )
    return found


def _columns_ahead(pipeline: Pipeline, method: str, encoder: str) -> str:
    """The number of columns of Table 1 in which TAS has the higher mIoU, as text."""
    gaps = [
        tables.outcome(pipeline, "TAS", encoder, *column)["iou"].mean()
        - tables.outcome(pipeline, method, encoder, *column)["iou"].mean()
        for column in _of_table1(pipeline.settings)
    ]
    noun = "column" if len(gaps) == 1 else "columns"
    return f"ahead in {sum(gap > 0 for gap in gaps)} of {len(gaps)} {noun}"


def module_gains(pipeline: Pipeline) -> pd.DataFrame:
    """The gain of each module of Table 4 over all columns of a dataset, by encoder.

    Returns:
        encoder, dataset, step, mIoU gain (points) with its 95 % interval (``CI low``, ``CI
        high``), and sentences.
    """
    found = []
    for encoder in pipeline.settings.encoders:
        for dataset in dict.fromkeys(dataset for dataset, _ in columns(pipeline.settings)):
            there = [c for c in columns(pipeline.settings) if c[0] == dataset]
            parts = [
                pd.concat([tables.outcome(pipeline, name, encoder, *c) for c in there])
                for name in tables.MODULES
            ]
            for name, (before, after) in zip(
                tables.MODULES[1:], itertools.pairwise(parts), strict=True
            ):
                gain = difference(after, before, "mIoU")
                step = "+ " + name.rpartition("+ ")[2]
                key = (tables.short(encoder), title(dataset, pipeline.settings.datasets), step)
                found.append((*key, gain.value, gain.low, gain.high, len(after)))
    names = ["encoder", "dataset", "step", "mIoU gain", "CI low", "CI high", "sentences"]
    return pd.DataFrame(found, columns=names)


def _modules(pipeline: Pipeline) -> list[Row]:
    encoder, every = pipeline.settings.encoders[-1], _of_table1(pipeline.settings)
    modules = {
        "P": ("P", every),
        "N": ("N", every),
        "spatial": ("the rectifier", _with_places(pipeline.settings)),
    }
    found = []
    for before, after in itertools.pairwise(tables.MODULES):
        module, there = modules[after.rpartition("+ ")[2]]
        if there:
            pair = [_pooled(pipeline, name, encoder, there) for name in (after, before)]
            gain = difference(*pair, "mIoU")
            text = f"{_points(gain)} {_over(there)}"
            found.append((f"{module} helps (Table 4)", text, gain.verdict))
    return found


def _weights(pipeline: Pipeline) -> list[Row]:
    settings, there = pipeline.settings, _of_table1(pipeline.settings)

    def at(alpha: float, lam: float | None = None) -> pd.DataFrame:
        """TAS with these weights; without lambda, that of each column's dataset."""
        parts = []
        for dataset, split in there:
            scored = pipeline.scored(dataset, split, settings.encoders[-1])
            own = settings.lambda_of(dataset) if lam is None else lam
            chosen = scored.choose(scored.total(alpha, own), rectify=True)
            parts.append(tables.by_image(scored, chosen))
        return pd.concat(parts, ignore_index=True)

    lambdas = {lam: at(settings.alpha, lam) for lam in ablations.LAMBDAS[1:]}
    values = {lam: evaluate(o["intersection"], o["union"])["mIoU"] for lam, o in lambdas.items()}
    best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    moved = difference(lambdas[best], lambdas[worst], "mIoU")
    text = f"from {worst:g} (worst) to {best:g} (best): {_points(moved)} {_over(there)}; "
    harm = difference(at(0.1), at(0.4), "mIoU")
    return [
        (
            "lambda has little effect from 0.3 to 0.9 (Table 3)",
            f"{text}limit: {LITTLE} points",
            _is_little(moved),
        ),
        (
            "a large alpha is harmful: 0.1 beats 0.4 (Table 3)",
            f"{_points(harm)} {_over(there)}",
            harm.verdict,
        ),
    ]


def _by_inputs(
    pipeline: Pipeline,
    there: Sequence[tuple[str, str]],
    among: Sequence[tuple[str, str]] = ablations.INPUTS,
) -> dict[tuple[str, str], pd.DataFrame]:
    """TAS with other inputs on some columns, as in Table 5.

    Args:
        there: Dataset and split of the columns.
        among: Input to the captioner and to CLIP.

    Returns:
        Both inputs -> one row per sentence.
    """
    encoder, outcomes = pipeline.settings.encoders[-1], {}
    for both in among:
        parts = []
        for dataset, split in there:
            scored = pipeline.scored(dataset, split, encoder, *both)
            chosen = tables.choose("TAS", scored, pipeline.settings, dataset)
            parts.append(tables.by_image(scored, chosen))
        outcomes[both] = pd.concat(parts, ignore_index=True)
    return outcomes


def inputs(pipeline: Pipeline) -> pd.DataFrame:
    """The rows of Table 5 compared with the paper's choice (blur for the captioner, crop for CLIP).

    Returns:
        inputs, mIoU, mIoU gain over the paper's choice (points) with its 95 % interval (``CI
        low``, ``CI high``) and p; NaN for the paper's choice itself.
    """
    outcomes, found = _by_inputs(pipeline, [ablated(pipeline.settings)]), []
    for (caption_input, clip_input), own in outcomes.items():
        gap = (float("nan"),) * 4
        if (caption_input, clip_input) != PAPERS_INPUTS:
            gap = difference(own, outcomes[PAPERS_INPUTS], "mIoU")
        value = evaluate(own["intersection"], own["union"])["mIoU"]
        found.append((f"captioner {caption_input}, CLIP {clip_input}", value, *gap))
    names = ["inputs", "mIoU", "mIoU gain", "CI low", "CI high", "p"]
    return pd.DataFrame(found, columns=names)


def _inputs(pipeline: Pipeline) -> list[Row]:
    there, _ = columns_of_claims(pipeline.settings).values()
    pairs: Sequence[tuple[str, tuple[str, str], tuple[str, str]]] = (
        ("blur beats crop for the captioner", PAPERS_INPUTS, ("crop", "crop")),
        ("crop beats blur for CLIP", PAPERS_INPUTS, ("blur", "blur")),
    )
    among = list(dict.fromkeys(itertools.chain(*(both for _, *both in pairs))))
    outcomes = _by_inputs(pipeline, there, among)
    found = []
    for claim, one, other in pairs:
        gain = difference(outcomes[one], outcomes[other], "mIoU")
        found.append((f"{claim} (Table 5)", f"{_points(gain)} {_over(there)}", gain.verdict))
    return found


def _captioners(pipeline: Pipeline) -> list[Row]:
    found = []
    _, there = columns_of_claims(pipeline.settings).values()
    _, first, *others = ablations.captioners(pipeline)
    if not others:
        return []
    other = others[0]
    for encoder in pipeline.settings.encoders:
        ours, theirs = (_pooled(run, how, encoder, there) for _, how, run in (first, other))
        gap = difference(ours, theirs, "mIoU")
        name = tables.short(encoder)
        text = f"{first[0]} minus {other[0]}: {_points(gap)} {_over(there)}; "
        text += f"limit: {LITTLE} points"
        claim = f"the captioner has little effect with {name} (Table 6)"
        found.append((claim, text, _is_little(gap)))
    return found


def _encoders(pipeline: Pipeline) -> list[Row]:
    _, there = columns_of_claims(pipeline.settings).values()
    alone: dict[str, pd.DataFrame] = {}
    with_tas: dict[str, pd.DataFrame] = {}
    for _, method, encoder in ablations.contrasts(pipeline.settings):
        kept = alone if method == "CLIP-only" else with_tas
        kept[encoder] = _pooled(pipeline, method, encoder, there)
    found = []
    for encoder in alone:
        gain = difference(with_tas[encoder], alone[encoder], "mIoU")
        claim = f"TAS helps {tables.short(encoder)} (Table 7)"
        found.append((claim, f"{_points(gain)} {_over(there)}", gain.verdict))
    clip, *others = alone
    for encoder in others:
        if encoder.startswith("albef:"):
            gap = difference(alone[clip], alone[encoder], "mIoU")
            text = f"{tables.short(clip)} minus {tables.short(encoder)}, both alone: "
            text += f"{_points(gap)} {_over(there)}"
            found.append(("ALBEF performs poorly on masked images (Table 7)", text, gap.verdict))
    return found


def _small_targets(pipeline: Pipeline) -> list[Row]:
    encoder = pipeline.settings.encoders[-1]
    there = _of_table1(pipeline.settings)
    shares = [pipeline.split(*column).sentences["share"] for column in there]
    small = (pd.concat(shares) < SMALL).to_numpy()
    tas = _pooled(pipeline, "TAS", encoder)
    if small.all() or not small.any():
        return []
    gap = difference(tas[~small], tas[small], "mIoU")
    text = f"other targets minus those under {100 * SMALL:g} % of the image: {_points(gap)}"
    return [("small, non-salient targets are hard (section 5)", text, gap.verdict)]
