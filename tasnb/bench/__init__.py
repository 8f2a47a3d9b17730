"""How much time the order of work, the store and the arithmetic save: ``python -m tasnb bench``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tasnb.bench import clocks, orders
from tasnb.datasets.splits import Split, ablated, load_split
from tasnb.method import metrics
from tasnb.method.scores import ScoreTable
from tasnb.models.devices import is_out_of_memory
from tasnb.results import ablations
from tasnb.results.shown import to_markdown
from tasnb.results.speed import part
from tasnb.settings import InputError, Settings, make_settings
from tasnb.store.files import atomic_write

REFCOCO_VAL = {"sentences": 10_834, "images": 1_500, "masks": 15}
"""Size of the synthetic score table; the paper's SAM leaves about 15 masks per image."""

ALPHAS = (0, 0.05, 0.1, 0.2, 0.4, 0.8)
LAMBDAS = (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.1)
"""The grid of notebook 6."""

CHEAP = {"points_per_side": 4, "num_beams": 1, "max_new_tokens": 4, "batch_size": 4}
"""Settings for measuring memory only: small batches, which a few images fill."""

TIMES = 10  # factor between the two numbers of images whose memory is compared
LARGEST = 6  # steps of a cold run listed by name, besides the forward passes


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        part: The comparison that it belongs to.
        measurement: What is measured.
        value, reference: Two measurements in ``unit``; ``reference`` is NaN if there is only one.
        ratio: Of the two; higher is better, except for memory.
        cpu_ratio: The ratio of CPU time, which other processes affect less.
        target: The desired ``ratio``, or the desired ``value`` if there is no ratio.
    """

    part: str
    measurement: str
    value: float
    unit: str
    reference: float = np.nan
    ratio: float = np.nan
    cpu_ratio: float = np.nan
    target: str = ""


def bench(settings: Settings, split: Split) -> Iterator[Row]:
    """Measures everything and yields each row as soon as it is known."""
    encoder = settings.encoders[-1]
    yield from arithmetic()
    yield from order_of_work(settings, split, encoder)
    yield from cold_and_stored(settings, split, encoder)
    yield from memory(settings, split, encoder)


def drawn(settings: Settings, count: int) -> Split:
    """Images of the ablation split, drawn with ``settings.seed``, with all of their sentences.

    Raises:
        InputError: ``count`` is 0 or more than the split has.
    """
    split = load_split(settings.model_copy(update={"limit": None}), *ablated(settings))
    if not 1 <= count <= len(split.images):
        raise InputError(f"--images {count}: should be from 1 to {len(split.images)}")
    picked = np.random.default_rng(settings.seed).permutation(sorted(split.images))[:count]
    return part(split, split.sentences[split.sentences["image"].isin(picked)])


def order_of_work(
    settings: Settings, split: Split, encoder: str, per_image: bool = False
) -> Iterator[Row]:
    """Our order compared with that of the released code, on the same models and sentences.

    Args:
        per_image: Divide seconds by the number of images.
    """
    found, name = orders.compare(settings, split, encoder), "order of work"
    count = len(split.images) if per_image else 1
    name += ", per image" if per_image else ""
    allowed = f"{found.refs:.2g} (refs per image)"
    targets = {orders.MASKS: allowed, "captions and CLIP": "at least 5"}
    for stage, mine, theirs, ratio, cpu_ratio in found.table().itertuples(index=False):
        yield Row(
            name, stage, mine / count, "s", theirs / count, ratio, cpu_ratio, targets.get(stage, "")
        )
    limit = f"at most {orders.TOLERANCE:g}"
    for what, value in found.differences().items():
        yield Row("same results", what, value, "", target=limit if "largest" in what else "0")


def arithmetic() -> Iterator[Row]:
    """Metrics and the grid of notebook 6 on synthetic scores of RefCOCO val's size."""
    scored = synthetic(**REFCOCO_VAL)
    chosen = scored.choose(scored.total(0.1, 0.7), True)
    outcome = scored.outcome(chosen).assign(image=scored.sentences["image"])
    work: dict[str, Callable[[], object]] = {
        "mask selection and metrics": lambda: _metrics(scored),
        "confidence interval of the mIoU (bootstrap)": lambda: metrics.interval(outcome, "mIoU"),
        "alpha x lambda grid": lambda: ablations.grid(scored, ALPHAS, LAMBDAS),
    }
    for what, call in work.items():
        yield Row("size of RefCOCO val", what, _least(call), "s", target="under 2")


def _metrics(scored: ScoreTable) -> dict[str, float]:
    found = scored.outcome(scored.choose(scored.total(0.1, 0.7), True))
    return metrics.evaluate(found["intersection"], found["union"])


def _least(call: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of several calls: the one with the least interference."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)


def synthetic(sentences: int, images: int, masks: int, seed: int = 0) -> ScoreTable:
    """Random scores for every sentence and every mask of its image.

    Args:
        sentences, images: Their numbers; every image has at least one sentence.
        masks: Number per image.
    """
    rng = np.random.default_rng(seed)
    of_image = np.sort(np.r_[np.arange(images), rng.integers(0, images, sentences - images)])
    truth = rng.integers(2_000, 60_000, sentences)
    sentence, mask = np.divmod(np.arange(sentences * masks), masks)
    area = rng.integers(2_000, 60_000, (images, masks))[of_image].ravel()
    share = rng.random(len(sentence))
    region = rng.random(len(sentence)) < 0.5
    named = rng.random(sentences) < 0.3  # sentences that name a region at all
    pairs = {
        "sentence": sentence,
        "mask_id": mask,
        **{name: rng.uniform(-1, 1, len(sentence)) for name in "VPN"},
        "in_region": region | ~named[sentence],
        "area": area,
        "intersection": (share * np.minimum(area, truth[sentence])).astype(np.int64),
    }
    names = np.array([f"image{i:06d}" for i in range(images)], object)
    rows = pd.DataFrame({"image": names[of_image], "truth_area": truth})
    return ScoreTable(rows, pd.DataFrame(pairs))


def cold_and_stored(settings: Settings, split: Split, encoder: str) -> Iterator[Row]:
    """A run with everything stored, one with nothing stored, and what the latter consists of."""
    run = clocks.cold_run(settings, split, encoder)
    yield Row(
        "store", "scoring, stored or from scratch", run.again, "s", run.total, run.total / run.again
    )
    name = f"cold run, {run.images} images"
    yield Row(name, "interpreter and imports", run.start, "s")
    yield Row(name, "loading and warming up the models", run.load, "s")
    yield Row(name, "scoring with loaded models", run.total, "s")
    yield Row(name, "forward passes, share of scoring", 100 * run.forward / run.total, "%")
    rest = dict(sorted(run.seconds.items(), key=lambda item: -item[1]))
    forward = {key: value for key, value in rest.items() if key.startswith(clocks.FORWARD)}
    others = {key: value for key, value in rest.items() if key not in forward}
    for what in [*forward, *list(others)[:LARGEST]]:
        yield Row(name, what, 100 * rest[what] / run.total, "%")
    left = sum(list(others.values())[LARGEST:])
    yield Row(name, f"{max(0, len(others) - LARGEST)} other steps", 100 * left / run.total, "%")


def memory(settings: Settings, split: Split, encoder: str) -> Iterator[Row]:
    """The peak memory of a process on some images, and on ten times as many."""
    count = max(1, len(split.images) // 2)
    cheap = settings.model_copy(update={**CHEAP, "shard_size": count})
    with tempfile.TemporaryDirectory(prefix="tasnb-bench-") as folder:
        many = clocks.copies(split, TIMES * count, Path(folder))
        keys = list(many.images)[:count]
        few = part(many, many.sentences[many.sentences["image"].isin(keys)])
        one, ten = (clocks.cold_run(cheap, some, encoder) for some in (few, many))
    images = f"{TIMES * count} and {count} images"
    for what, most in (("peak", "peak_mb"), ("peak after loading the models", "scores_mb")):
        less, more = getattr(one, most), getattr(ten, most)
        yield Row("memory", f"{what}, {images}", more, "MB", less, more / less, target="about 1")


HEAD = ("part", "measurement", "value", "unit", "reference", "ratio", "cpu_ratio", "target")
NUMBERS = ("value", "reference", "ratio", "cpu_ratio")
NOTE = """\
`reference` is the measurement that `value` is compared with: the released code's order, a run with
nothing stored, or fewer images. `ratio` is the ratio of the two, and `cpu_ratio` the same ratio in
CPU time, which other programs on the machine affect less. Seconds depend on the machine; compare
only values in the same row."""
WIDTHS = (20, 50, 9, 4, 9, 7, 9, 20)


def report(profile: str, count: int | None, out: str | None) -> bool:
    """Measures, prints one line per row, and writes ``bench.csv`` and ``bench.md``.

    Args:
        profile: The profile whose models and data are used; ``lite`` with random weights, for which
            only the two orders of work are compared.
        count: Number of images; None: 4, or 2 for ``lite``.
        out: Name of the file, with .csv, .md or no suffix; ``tables/bench`` in the profile's
            folder if None.

    Returns:
        Whether both orders of work gave the same results.

    Raises:
        InputError: There is no such profile, too few images, or the file cannot be written.
    """
    from tasnb.store.files import check_writable

    settings = make_settings(profile)
    path = Path(out).expanduser() if out else settings.out / "tables" / "bench"
    if path.suffix not in ("", ".csv", ".md"):
        raise InputError(
            f"--out {out}: the file name should end in .csv or .md; both files are written"
        )
    check_writable(path.parent)
    found, note = [], NOTE
    with ExitStack() as stack:
        if profile == "lite":
            from tasnb.bench import lite

            settings, split = stack.enter_context(lite.prepared(2 if count is None else count))
            rows, note = _at_real_size(settings, split), f"{NOTE}\n\n{lite.NOTE}"
        else:
            split = drawn(settings, 4 if count is None else count)
            rows = bench(settings, split)
        print(line(HEAD), flush=True)
        for row in rows:
            found.append(row)
            print(line(cells(row)), flush=True)
    with atomic_write(path.with_suffix(".csv")) as file:
        pd.DataFrame(found).to_csv(file, index=False, float_format="%.6g")
    with atomic_write(path.with_suffix(".md")) as file:
        shown = pd.DataFrame(map(cells, found), columns=list(HEAD))
        file.write_text(f"{to_markdown(shown)}\n{note}\n", encoding="utf-8")
    print(f"table: {path.with_suffix('.csv')}, {path.with_suffix('.md')}")
    same = all(row.value <= orders.TOLERANCE for row in found if row.part == "same results")
    print("both orders of work give the same results" if same else "RESULTS DIFFER")
    return same


def _at_real_size(settings: Settings, split: Split) -> Iterator[Row]:
    """``order_of_work`` per image, which may take more memory than there is.

    Raises:
        InputError: Memory ran out.
    """
    try:
        yield from order_of_work(settings, split, settings.encoders[-1], per_image=True)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            "bench ran out of memory; close other programs, or use --profile embedded"
        ) from None


def cells(row: Row) -> list[str]:
    """A row's fields as printed."""
    return [
        ("" if np.isnan(x) else f"{x:.3g}" if x < 100 else f"{x:.0f}")
        if isinstance(x := getattr(row, name), float | int)
        else x
        for name in HEAD
    ]


def line(fields: list[str] | tuple[str, ...]) -> str:
    """Cells in columns, with numbers aligned to the right."""
    padded = [
        f"{text:>{width}}" if name in NUMBERS else f"{text:<{width}}"
        for name, text, width in zip(HEAD, fields, WIDTHS, strict=True)
    ]
    return " ".join(padded).rstrip()
