"""Seconds per image and memory by stage, without stored results (section 4.5, last paragraph)."""

from __future__ import annotations

import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tasnb.baselines import scoring
from tasnb.datasets.splits import Split, ablated
from tasnb.method.pipeline import Pipeline
from tasnb.models import proposal_networks
from tasnb.models.devices import forget, wait
from tasnb.results import ablations, tables
from tasnb.settings import InputError, Settings

STAGES = {
    "mask proposals": ("CLIP-only", "Global-Local", "TAS"),
    "CLIP embeddings of the crops": ("CLIP-only", "TAS"),
    "global and local features": ("Global-Local",),
    "captions of the masks": ("TAS",),
    "caption of the image": ("TAS",),
    "parsing, noun phrases": ("TAS",),
    "CLIP embeddings of the texts, scores": ("CLIP-only", "Global-Local", "TAS"),
}
"""Stage of processing one image and one expression -> methods that need it."""

MODELS = {
    "mask proposals": ("proposal_network",),
    "CLIP embeddings of the crops": ("proposal_network",),
    "global and local features": ("proposal_network",),
    "captions of the masks": ("proposal_network", "captioner"),
    "caption of the image": ("captioner",),
    "parsing, noun phrases": ("captioner",),
    "CLIP embeddings of the texts, scores": ("proposal_network", "captioner"),
}
"""Stage -> settings on which its time depends, among those that the variants change."""

ROUNDS = 3
COLUMNS = ["seconds per image", "fastest", "slowest", "peak memory (GB)"]


@dataclass
class Cost:
    """The cost of one stage: seconds, and peak memory in GB."""

    seconds: float = 0.0
    peak_gb: float = 0.0


def measure(
    settings: Settings, encoder: str, count: int, rounds: int = ROUNDS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Times every stage on some images with one expression each, and TAS with other models.

    All variants are timed in turn for several rounds, each time with an empty store; the models are
    loaded and run on one additional image before the measurement starts. A stage shared by several
    variants has one time, the median of all its timings, so that the tables are consistent.

    Args:
        count: Number of images, drawn from the column of the ablations with ``settings.seed``.
        rounds: Number of times that everything is timed.

    Returns:
        ``stages``: one row per stage: stage, seconds per image (median of its timings),
        ``fastest`` and ``slowest``, and peak memory (GB) of the process, or of the GPU if there is
        one.
        ``variants``: one row per variant of TAS, with the same columns, or NaN and the reason why
        it cannot run.
    """
    changed: dict[str, Settings] = {"TAS": settings}
    lacking: dict[str, str] = {}
    for name, change in cheaper(settings).items():
        changed[name] = Pipeline(settings).variant(**change).settings
    timings: dict[tuple[str, ...], list[float]] = {}
    peaks: dict[str, dict[str, float]] = {name: {} for name in changed}
    for _ in range(max(1, rounds)):
        for name, own in changed.items():
            wanted = [s for s in STAGES if name == "TAS" or "TAS" in STAGES[s]]
            try:
                costs = {} if name in lacking else _once(own, encoder, count, wanted)
            except InputError as error:
                if name == "TAS":
                    raise
                lacking[name], costs = str(error), {}
            for stage, cost in costs.items():
                timings.setdefault(_key(stage, own), []).append(cost.seconds)
                peaks[name][stage] = max(cost.peak_gb, peaks[name].get(stage, 0))
    stages = pd.DataFrame(
        [
            (stage, *_spread([timings[_key(stage, settings)]]), peaks["TAS"][stage])
            for stage in STAGES
        ],
        columns=["stage", *COLUMNS],
    )
    found = []
    for name, own in changed.items():
        parts = [] if name in lacking else [s for s in STAGES if "TAS" in STAGES[s]]
        times = [timings[_key(stage, own)] for stage in parts]
        peak = max((peaks[name][stage] for stage in parts), default=np.nan)
        found.append((name, *_spread(times), peak, lacking.get(name, "")))
    return stages, pd.DataFrame(found, columns=["variant", *COLUMNS, "cannot run here"])


def cheaper(settings: Settings) -> dict[str, dict[str, str]]:
    """The variants of TAS proposed at the end of section 4.5, and those with the other models."""
    network = proposal_networks.title(settings.other_network)
    captioner = ablations.captioner(settings.other_captioner)
    kind, _, name = settings.captioner.partition(":")
    found = {
        "TAS with FastSAM": {"proposal_network": "fastsam:FastSAM-x"},
        f"TAS with {network}": {"proposal_network": settings.other_network},
        f"TAS with {captioner}": {"captioner": settings.other_captioner},
    }
    if kind == "blip2":
        found["TAS with BLIP-2 (8-bit)"] = {"captioner": f"blip2-8bit:{name}"}
    return {
        called: change
        for called, change in found.items()
        if any(getattr(settings, field) != value for field, value in change.items())
    }


def _key(stage: str, settings: Settings) -> tuple[str, ...]:
    """The key of a stage's timings: variants with the same key share them."""
    return stage, *(getattr(settings, name) for name in MODELS[stage])


def _spread(timings: list[list[float]]) -> tuple[float, float, float]:
    """Median, fastest and slowest time of each stage, summed over the stages; NaN for none."""
    if not timings:
        return (np.nan,) * 3
    return tuple(sum(float(of(times)) for times in timings) for of in (np.median, min, max))


def _once(settings: Settings, encoder: str, count: int, wanted: Sequence[str]) -> dict[str, Cost]:
    """Times the stages once; the seconds are per image."""
    forget()  # models of earlier calls must not count in the measured memory
    with tempfile.TemporaryDirectory(prefix="tasnb-speed-") as folder:
        pipeline = Pipeline(settings).variant(store=folder, limit=0)
        split = pipeline.split(*ablated(settings))
        once = split.sentences.drop_duplicates("image")
        picked = np.random.default_rng(settings.seed).permutation(len(once))[: count + 1]
        rows = once.iloc[picked]
        _run(pipeline, part(split, rows.iloc[:1]), encoder, wanted)
        timed = part(split, rows.iloc[1:])
        costs = _run(pipeline, timed, encoder, wanted)
    images = max(1, len(timed.images))
    return {name: Cost(cost.seconds / images, cost.peak_gb) for name, cost in costs.items()}


def part(split: Split, rows: pd.DataFrame) -> Split:
    """The part of a split with the given sentences and their images."""
    images = {image: split.images[image] for image in rows["image"]}
    return replace(split, sentences=rows.reset_index(drop=True), images=images)


def _run(pipeline: Pipeline, split: Split, encoder: str, wanted: Sequence[str]) -> dict[str, Cost]:
    """Runs the stages in order; later ones only read what earlier ones have stored."""
    sentences = split.sentences["sentence"]

    def words() -> None:
        pipeline.expressions(sentences)
        pipeline.noun_phrases(pipeline.image_captions(split.images))

    work: dict[str, Callable[[], object]] = {
        "mask proposals": lambda: pipeline.proposals(split.images),
        "CLIP embeddings of the crops": lambda: pipeline.mask_views(split.images, encoder),
        "global and local features": lambda: scoring.features(
            pipeline, "Global-Local", split, encoder
        ),
        "captions of the masks": lambda: pipeline.captions(split.images),
        "caption of the image": lambda: pipeline.image_captions(split.images),
        "parsing, noun phrases": words,
        "CLIP embeddings of the texts, scores": lambda: pipeline.score(split, encoder),
    }
    costs = {}
    for name in wanted:
        with clock() as cost:
            work[name]()
        costs[name] = cost
    return costs


@contextmanager
def clock() -> Iterator[Cost]:
    """Measures the time and the peak memory of the body."""
    import torch

    cost, done = Cost(), threading.Event()
    gpu = torch.cuda.is_available()
    wait()
    if gpu:
        torch.cuda.reset_peak_memory_stats()

    def watch() -> None:
        while True:
            cost.peak_gb = max(cost.peak_gb, _resident_gb())
            if done.wait(0.02):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    try:
        yield cost
        wait()
    finally:
        cost.seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        if gpu and torch.cuda.max_memory_allocated():  # otherwise the stage did not use the GPU
            cost.peak_gb = torch.cuda.max_memory_allocated() / 1e9


def _resident_gb() -> float:
    """The resident memory of this process in GB."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1e6


def machine() -> str:
    """The machine: processor, number of usable cores, and the GPU if there is one."""
    import torch

    with open("/proc/cpuinfo") as found:
        named = [line.partition(":")[2].strip() for line in found if line.startswith("model name")]
    parts = [named[0] if named else platform.machine(), f"{len(os.sched_getaffinity(0))} cores"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def by_method(stages: pd.DataFrame) -> pd.DataFrame:
    """Seconds per image and peak memory of CLIP-only, Global-Local and TAS, here and in the paper.

    Args:
        stages: From ``measure``.
    """
    known = tables.paper_numbers()
    found = []
    for method in ("CLIP-only", "Global-Local", "TAS"):
        mine = stages[[method in STAGES[name] for name in stages["stage"]]]
        key = ("speed", method, "", "", "")
        theirs = [known.get((*key, name), np.nan) for name in ("seconds", "GB")]
        seconds = [mine[name].sum() for name in COLUMNS[:3]]
        found.append((method, *seconds, theirs[0], mine[COLUMNS[3]].max(), theirs[1]))
    names = ["method", *COLUMNS[:3], "seconds (paper)", COLUMNS[3], "memory (GB, paper)"]
    return pd.DataFrame(found, columns=names)


def images_to_time(settings: Settings, asked: int) -> int:
    """The number of images to time: as given (0: the profile's), but at most all except one."""
    there = Pipeline(settings).variant(limit=0).split(*ablated(settings)).images
    return max(1, min(asked or settings.timed_images, len(there) - 1))


def about(count: int, rounds: int) -> str:
    """The note under the tables of notebook 7."""
    images = "1 image" if count == 1 else f"{count} images"
    times = "1 round" if rounds <= 1 else f"{rounds} rounds"
    return (
        f"{images} with one expression each, timed in {times} (median, fastest and slowest), on "
        f"{machine()}."
    )
