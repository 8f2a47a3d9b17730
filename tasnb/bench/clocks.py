"""Profiles a cold run in a separate process: where the time goes, and the peak memory.

Every function of interest is wrapped for the duration of the run. A clock that starts inside
another one pauses the outer one, so that all clocks add up to the total.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasnb.datasets.images import image_key, load_image
from tasnb.datasets.splits import Split
from tasnb.models.devices import entry_points, forget_peak, peak_mb, wait
from tasnb.settings import Settings

OTHER = "everything else"
FORWARD = "forward: "
"""Prefix of the names of the clocks of the models' forward passes."""


class Clocks:
    """Seconds by name; at any time only the innermost clock runs."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Counts the body's time as ``name``, except for parts with a clock of their own."""
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def _turn(self) -> None:
        wait()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def wrapped(self, owner: Any, attribute: str, name: str) -> Iterator[None]:
        """Clocks a function, method or generator of ``owner`` while the body runs."""
        there = attribute in vars(owner)
        before = getattr(owner, attribute)
        setattr(owner, attribute, self._clocked(before, name))
        try:
            yield
        finally:
            if there:
                setattr(owner, attribute, before)
            else:
                delattr(owner, attribute)

    def _clocked(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self.on(name):
                found = function(*arguments, **options)
            return self._steps(found, name) if isinstance(found, Iterator) else found

        return call

    def _steps(self, steps: Iterator[Any], name: str) -> Iterator[Any]:
        """A generator whose steps are clocked, but not what its consumer does between them."""
        end = object()
        while True:
            with self.on(name):
                step = next(steps, end)
            if step is end:
                return
            yield step


@dataclass(frozen=True)
class ColdRun:
    """The measurements of ``cold_run``.

    Attributes:
        images: Number of images.
        start: Seconds from launching the new process until this package was imported.
        load: Seconds for loading all models and running them on one image.
        seconds: Seconds of ``Pipeline.score`` with nothing stored, by clock.
        again: Seconds of ``Pipeline.score`` with everything stored.
        peak_mb: Peak memory of the process.
        scores_mb: Peak memory after the models were loaded; loading may take more.
    """

    images: int
    start: float
    load: float
    seconds: dict[str, float]
    again: float
    peak_mb: float
    scores_mb: float

    @property
    def total(self) -> float:
        """Seconds of the first ``Pipeline.score``."""
        return sum(self.seconds.values())

    @property
    def forward(self) -> float:
        """Seconds of ``total`` spent in forward passes."""
        return sum(s for name, s in self.seconds.items() if name.startswith(FORWARD))


def cold_run(settings: Settings, split: Split, encoder: str) -> ColdRun:
    """Scores a split from scratch and then from the store, both in one new process."""
    fresh = multiprocessing.get_context("spawn")  # a fork would inherit the parent's memory
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(_cold_run, settings, split, encoder, time.time()).result()


def _cold_run(settings: Settings, split: Split, encoder: str, launched: float) -> ColdRun:
    start = time.time() - launched  # the only clock that both processes share
    from tasnb.method.pipeline import Pipeline
    from tasnb.results.speed import part

    with tempfile.TemporaryDirectory(prefix="tasnb-bench-") as folder:
        began = time.perf_counter()
        settings = settings.model_copy(update={"backend": "serial"})
        tried = settings.model_copy(update={"store": Path(folder, "tried")})
        first = split.sentences.iloc[:1]
        Pipeline(tried).score(part(split, first), encoder)
        load = time.perf_counter() - began

        stored = settings.model_copy(update={"store": Path(folder, "store")})
        highest = peak_mb()
        forget_peak()
        clocks, pipeline = Clocks(), Pipeline(stored)
        with watched(clocks, pipeline, encoder), clocks.on(OTHER):
            pipeline.score(split, encoder)
        began = time.perf_counter()
        Pipeline(stored).score(split, encoder)
        again = time.perf_counter() - began
    later, seconds = peak_mb(), dict(clocks.seconds)
    return ColdRun(len(split.images), start, load, seconds, again, max(highest, later), later)


@contextmanager
def watched(clocks: Clocks, pipeline: Any, encoder: str) -> Iterator[None]:
    """Clocks all steps of a cold run while the body runs."""
    from tasnb.method import language, proposals, stages
    from tasnb.models import captioners, devices, encoders, parsers
    from tasnb.models.proposal_networks import load_proposal_network
    from tasnb.store import shards

    settings = pipeline.settings
    network = load_proposal_network(settings)
    captioner = captioners.load_captioner(settings)
    clip = encoders.load_encoder(encoder, settings)
    parser = parsers.load_parser(settings.spacy_model)
    generator = getattr(network, "generator", None)
    places = [
        *_forwards(network, "proposals"),
        *_forwards(captioner, "captioner"),
        *_forwards(clip, "encoder"),
        (parser, "pipe", f"{FORWARD}parser"),
        (network, "propose", "proposals: binarisation, NMS"),
        (getattr(generator, "predictor", None), "set_image", "proposals: resizing the image"),
        (generator, "_process_batch", "proposals: thresholds, boxes, run lengths"),
        (generator, "_as_large_as_image", "proposals: resizing the masks"),
        (proposals, "propose", "mask table: run lengths, centres"),
        (proposals, "refine", "refinement"),
        (proposals, "decode", "decoding run lengths"),
        (devices.Ahead, "__call__", "waiting for images"),  # read and blurred in another thread
        (stages, "masked_image", "masking and cropping"),
        (stages, "model_digest", "digests of the weights"),
        (captioner, "caption", "captioner: preprocessing, decoding"),
        (clip, "encode_images", "encoder: preprocessing"),
        (clip, "encode_texts", "encoder: tokenising"),
        (shards.Stage, "_write", "store: writing parquet and digests"),
        (shards.Stage, "read", "store: reading"),
        (shards.Stage, "missing", "store: look-up"),
        (pipeline, "unscored", "pairs: overlaps, regions"),
        (language, "read_expressions", "language: rules on the parse"),
        (language, "noun_phrases", "language: rules on the parse"),
        (language, "negative_phrases", "language: WordNet"),
    ]
    with ExitStack() as stack:
        for owner, attribute, name in places:
            if hasattr(owner, attribute):
                stack.enter_context(clocks.wrapped(owner, attribute, name))
        yield


def _forwards(loaded: Any, kind: str) -> list[tuple[Any, str, str]]:
    """The entry points of a model's forward passes: owner, attribute, name of the clock."""
    model = getattr(loaded, "model", None)
    inside = {id(part): name for name, part in getattr(model, "named_children", list)()}
    return [
        (owner, call, f"{FORWARD}{kind}, {inside.get(id(owner), call)}")
        for owner, call in entry_points(loaded)
    ]


def copies(split: Split, count: int, folder: Path) -> Split:
    """A split of ``count`` different images: copies of a split's, each round a little darker.

    Args:
        folder: Where the images are written.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    originals, images, frames = list(split.images), {}, []
    for number in range(count):
        original = originals[number % len(originals)]
        pixels = load_image(split.images[original]) * 0.985 ** (number // len(originals))
        path = folder / f"{number:06d}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        images[image_key(path)] = path
        rows = split.sentences[split.sentences["image"] == original]
        frames.append(rows.assign(image=image_key(path)))
    return Split(split.dataset, split.split, pd.concat(frames, ignore_index=True), images)
