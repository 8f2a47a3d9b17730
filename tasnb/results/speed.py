"""Seconds an image and memory, by stage (last paragraph of section 4.5); nothing stored counts."""

from __future__ import annotations

import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tasnb.baselines import scoring
from tasnb.datasets.splits import Split, ablated
from tasnb.method.pipeline import Pipeline
from tasnb.models.devices import forget, wait
from tasnb.results import tables
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


@dataclass
class Cost:
    """Of one stage."""

    seconds: float = 0.0
    peak_gb: float = 0.0


def measure(settings: Settings, encoder: str, count: int) -> pd.DataFrame:
    """Runs every stage on some images with one expression each, in an empty store.

    Models are loaded, and tried on one image more, before the clock starts.

    Args:
        count: Images, drawn from the column of the ablations with ``settings.seed``.

    Returns:
        A row a stage: stage, seconds an image, peak memory (GB, of the process; of the GPU where
        there is one).
    """
    forget()  # no model of an earlier call in the memory that is measured
    with tempfile.TemporaryDirectory(prefix="tasnb-speed-") as folder:
        pipeline = Pipeline(settings).variant(store=folder, limit=0)
        split = pipeline.split(*ablated(settings))
        once = split.sentences.drop_duplicates("image")
        picked = np.random.default_rng(settings.seed).permutation(len(once))[: count + 1]
        rows = once.iloc[picked]
        _run(pipeline, part(split, rows.iloc[:1]), encoder)
        timed = part(split, rows.iloc[1:])
        costs = _run(pipeline, timed, encoder)
    images = max(1, len(timed.images))
    found = [(name, cost.seconds / images, cost.peak_gb) for name, cost in costs.items()]
    return pd.DataFrame(found, columns=["stage", "seconds an image", "peak memory (GB)"])


def part(split: Split, rows: pd.DataFrame) -> Split:
    """Some sentences of a split and their images."""
    images = {image: split.images[image] for image in rows["image"]}
    return replace(split, sentences=rows.reset_index(drop=True), images=images)


def _run(pipeline: Pipeline, split: Split, encoder: str) -> dict[str, Cost]:
    """Every stage in order; what a stage has stored, the next ones only read."""
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
    for name, stage in work.items():
        with clock() as cost:
            stage()
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


def variants(settings: Settings, encoder: str, count: int, stages: pd.DataFrame) -> pd.DataFrame:
    """TAS with cheaper parts, as the end of section 4.5 proposes, where they can run.

    Args:
        count: Images, as in ``measure``.
        stages: From ``measure``: what TAS costs as it is.

    Returns:
        A row a variant: seconds an image and peak memory, or NaN and what is lacking.
    """
    name = settings.captioner.partition(":")[2]
    changes = {
        "TAS on FastSAM": {"proposal_network": "fastsam:FastSAM-x"},
        "TAS on FreeSOLO": {"proposal_network": settings.other_network},
        "TAS, BLIP-2 in 8 bits": {"captioner": f"blip2-8bit:{name}"},
        "TAS, GIT": {"captioner": settings.other_captioner},
    }
    found = [_of_tas("TAS", stages)]
    for called, change in changes.items():
        changed = Pipeline(settings).variant(**change).settings
        try:
            found.append(_of_tas(called, measure(changed, encoder, count)))
        except InputError as error:
            found.append((called, np.nan, np.nan, str(error)))
    names = ["variant", "seconds an image", "peak memory (GB)", "cannot run here"]
    return pd.DataFrame(found, columns=names)


def _of_tas(called: str, stages: pd.DataFrame) -> tuple[str, float, float, str]:
    row = by_method(stages).set_index("method").loc["TAS"]
    return called, row["seconds an image"], row["peak memory (GB)"], ""


def by_method(stages: pd.DataFrame) -> pd.DataFrame:
    """Seconds an image and peak memory of CLIP-only, Global-Local and TAS, beside the paper's.

    Args:
        stages: From ``measure``.
    """
    known = tables.paper_numbers()
    found = []
    for method in ("CLIP-only", "Global-Local", "TAS"):
        mine = stages[[method in STAGES[name] for name in stages["stage"]]]
        key = ("speed", method, "", "", "")
        found.append(
            (
                method,
                mine["seconds an image"].sum(),
                known.get((*key, "seconds"), np.nan),
                mine["peak memory (GB)"].max(),
                known.get((*key, "GB"), np.nan),
            )
        )
    names = ["method", "seconds an image", "the paper's seconds", "peak memory (GB)"]
    names.append("the paper's memory (GB)")
    return pd.DataFrame(found, columns=names)
