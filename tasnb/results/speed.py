"""Seconds per image and memory, by stage (last paragraph of section 4.5); nothing stored counts."""

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
    "crops through CLIP": ("CLIP-only", "TAS"),
    "global and local features": ("Global-Local",),
    "captions of the masks": ("TAS",),
    "caption of the image": ("TAS",),
    "words: parse, phrases": ("TAS",),
    "texts through CLIP, scores": ("CLIP-only", "Global-Local", "TAS"),
}
"""What is done for an image and one expression, and which methods need it."""


MODELS = {
    "mask proposals": ("proposal_network",),
    "crops through CLIP": ("proposal_network",),
    "global and local features": ("proposal_network",),
    "captions of the masks": ("proposal_network", "captioner"),
    "caption of the image": ("captioner",),
    "words: parse, phrases": ("captioner",),
    "texts through CLIP, scores": ("proposal_network", "captioner"),
}
"""Which of the models that variants exchange a stage's time depends on."""

ROUNDS = 3
COLUMNS = ["seconds per image", "fastest", "slowest", "peak memory (GB)"]


@dataclass
class Cost:
    """Of one stage."""

    seconds: float = 0.0
    peak_gb: float = 0.0


def measure(
    settings: Settings, encoder: str, count: int, rounds: int = ROUNDS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Times every stage on some images with one expression each, and TAS with cheaper parts.

    What is compared is run in turn, several rounds of it, each time in an empty store with models
    that are loaded and tried on one image more before the clock starts. A stage that two variants
    share is one stage: its seconds are the median of all its timings, so that no table contradicts
    another.

    Args:
        count: Images, drawn from the column of the ablations with ``settings.seed``.
        rounds: How often everything is timed.

    Returns:
        ``stages``: a row per stage of the methods as they are: stage, seconds per image (median of
        its timings), ``fastest`` and ``slowest``, peak memory (GB, of the process; of the GPU where
        there is one).
        ``variants``: a row per variant of TAS: the same, or NaN and what is lacking.
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
    """The variants of TAS that the end of section 4.5 proposes, and those with our other parts."""
    network = proposal_networks.title(settings.other_network)
    captioner = ablations.captioner(settings.other_captioner)
    kind, _, name = settings.captioner.partition(":")
    found = {
        "TAS on FastSAM": {"proposal_network": "fastsam:FastSAM-x"},
        f"TAS on {network}": {"proposal_network": settings.other_network},
        f"TAS, {captioner}": {"captioner": settings.other_captioner},
    }
    if kind == "blip2":
        found["TAS, BLIP-2 in 8 bits"] = {"captioner": f"blip2-8bit:{name}"}
    return {
        called: change
        for called, change in found.items()
        if any(getattr(settings, field) != value for field, value in change.items())
    }


def _key(stage: str, settings: Settings) -> tuple[str, ...]:
    """What the time of a stage depends on: variants with the same key share its timings."""
    return stage, *(getattr(settings, name) for name in MODELS[stage])


def _spread(timings: list[list[float]]) -> tuple[float, float, float]:
    """Median, fastest and slowest of each stage, added up over the stages; NaN for none."""
    if not timings:
        return (np.nan,) * 3
    return tuple(sum(float(of(times)) for times in timings) for of in (np.median, min, max))


def _once(settings: Settings, encoder: str, count: int, wanted: Sequence[str]) -> dict[str, Cost]:
    """One timing of some stages; the seconds are per image."""
    forget()  # no model of an earlier call in the memory that is measured
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
    """Some sentences of a split and their images."""
    images = {image: split.images[image] for image in rows["image"]}
    return replace(split, sentences=rows.reset_index(drop=True), images=images)


def _run(pipeline: Pipeline, split: Split, encoder: str, wanted: Sequence[str]) -> dict[str, Cost]:
    """Stages in order; what a stage has stored, the next ones only read."""
    sentences = split.sentences["sentence"]

    def words() -> None:
        pipeline.expressions(sentences)
        pipeline.noun_phrases(pipeline.image_captions(split.images))

    work: dict[str, Callable[[], object]] = {
        "mask proposals": lambda: pipeline.proposals(split.images),
        "crops through CLIP": lambda: pipeline.mask_embeddings(split.images, encoder),
        "global and local features": lambda: scoring.features(
            pipeline, "Global-Local", split, encoder
        ),
        "captions of the masks": lambda: pipeline.captions(split.images),
        "caption of the image": lambda: pipeline.image_captions(split.images),
        "words: parse, phrases": words,
        "texts through CLIP, scores": lambda: pipeline.score(split, encoder),
    }
    costs = {}
    for name in wanted:
        with clock() as cost:
            work[name]()
        costs[name] = cost
    return costs


@contextmanager
def clock() -> Iterator[Cost]:
    """Times the body and watches the memory meanwhile."""
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
        if gpu and torch.cuda.max_memory_allocated():  # else this stage ran beside it
            cost.peak_gb = torch.cuda.max_memory_allocated() / 1e9


def _resident_gb() -> float:
    """Memory that this process holds now."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1e6


def machine() -> str:
    """What is timed: the processor, its cores that may be used, and the GPU if there is one."""
    import torch

    with open("/proc/cpuinfo") as found:
        named = [line.partition(":")[2].strip() for line in found if line.startswith("model name")]
    parts = [named[0] if named else platform.machine(), f"{len(os.sched_getaffinity(0))} cores"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def by_method(stages: pd.DataFrame) -> pd.DataFrame:
    """Seconds per image and peak memory of CLIP-only, Global-Local and TAS, and the paper's.

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
    names = ["method", *COLUMNS[:3], "the paper's seconds", COLUMNS[3], "the paper's memory (GB)"]
    return pd.DataFrame(found, columns=names)


def images_to_time(settings: Settings, asked: int) -> int:
    """How many images are timed: as many as asked for (0: the profile's), and all but one."""
    there = Pipeline(settings).variant(limit=0).split(*ablated(settings)).images
    return max(1, min(asked or settings.timed_images, len(there) - 1))


def about(count: int, rounds: int) -> str:
    """What is written under the tables of notebook 7."""
    times = "once" if rounds <= 1 else f"{rounds} times, medians"
    return (
        f"{count} images with one expression each, timed {times} (fastest and slowest beside "
        f"them), on {machine()}."
    )
