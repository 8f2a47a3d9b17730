"""Where the time of a cold run goes, and how much memory it takes at most; in a process of its own.

Every function of interest is wrapped for the while. A clock that starts inside another one stops
the outer, so that the clocks add up to the whole.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasnb.datasets.images import image_key, load_image
from tasnb.datasets.splits import Split
from tasnb.models.devices import wait
from tasnb.settings import Settings

OTHER = "all else"
FORWARD = "forward: "
"""How the clocks of the models' forward passes are called first."""


class Clocks:
    """Seconds by name, of the innermost clock that runs."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """The body's time counts as ``name``, but for what is clocked within it."""
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
        """A function, method or generator of ``owner`` is clocked as long as the body runs."""
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
        """A generator whose steps are clocked, not what its reader does between them."""
        end = object()
        while True:
            with self.on(name):
                step = next(steps, end)
            if step is end:
                return
            yield step


@dataclass(frozen=True)
class ColdRun:
    """Of ``cold_run``.

    Attributes:
        images: How many.
        start: Seconds until this package was imported in the new process.
        load: Seconds until all models were loaded, and tried on one image.
        seconds: Of ``Pipeline.score`` with nothing stored, by clock.
        again: Seconds of the same with everything stored.
        peak_mb: The most memory that the process ever held.
        scores_mb: The most that it held after the models were loaded; loading may take more.
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
        """The part of ``total`` that models compute in."""
        return sum(s for name, s in self.seconds.items() if name.startswith(FORWARD))


def cold_run(settings: Settings, split: Split, encoder: str) -> ColdRun:
    """Scores a split with nothing stored and then again, both in a fresh process."""
    fresh = multiprocessing.get_context("spawn")  # a fork would have the parent's memory
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(_cold_run, settings, split, encoder, time.time()).result()


def _cold_run(settings: Settings, split: Split, encoder: str, launched: float) -> ColdRun:
    start = time.time() - launched  # no other clock is the same in both processes
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


def peak_mb() -> float:
    """The most memory that this process ever held, or since ``forget_peak``.

    Not ``ru_maxrss``, which on Linux starts at the size of the process that started this one.
    """
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1e3


def forget_peak() -> None:
    """From here on ``peak_mb`` is of what follows."""
    with suppress(OSError):  # a kernel without it, or one that does not allow it
        Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def watched(clocks: Clocks, pipeline: Any, encoder: str) -> Iterator[None]:
    """All that a cold run goes through is clocked while the body runs."""
    from tasnb.method import language, proposals, stages
    from tasnb.models import captioners, encoders, parsers
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
        (network, "propose", "proposals: binary masks, overlaps of boxes"),
        (getattr(generator, "predictor", None), "set_image", "proposals: image resized"),
        (generator, "_process_batch", "proposals: thresholds, boxes, run lengths"),
        (getattr(network, "model", None), "postprocess_masks", "proposals: masks resized"),
        (proposals, "propose", "mask table: run lengths, centres"),
        (proposals, "refine", "refinement"),
        (proposals, "decode", "run lengths decoded"),
        (stages, "blur_background", "blur and crops"),
        (stages, "masked_image", "blur and crops"),
        (stages, "load_image", "image files read"),
        (stages, "model_digest", "digests of the weights"),
        (captioner, "caption", "captioner: preprocessing, words"),
        (clip, "encode_images", "encoder: preprocessing"),
        (clip, "encode_texts", "encoder: tokens"),
        (shards.Stage, "_write", "store: parquet and digests written"),
        (shards.Stage, "read", "store: read"),
        (shards.Stage, "missing", "store: looked up"),
        (pipeline, "unscored", "pairs: overlaps, regions"),
        (language, "read_expressions", "words: rules over the parse"),
        (language, "noun_phrases", "words: rules over the parse"),
        (language, "negative_phrases", "words: WordNet"),
    ]
    with ExitStack() as stack:
        for owner, attribute, name in places:
            if hasattr(owner, attribute):
                stack.enter_context(clocks.wrapped(owner, attribute, name))
        yield


def _forwards(loaded: Any, kind: str) -> list[tuple[Any, str, str]]:
    """Where the computing of a model begins: owner, attribute, clock."""
    model = getattr(loaded, "model", None)
    wanted = {
        "proposals": ("image_encoder", "prompt_encoder", "mask_decoder"),
        "encoder": ("vision_model", "qformer"),
    }
    parts = [p for p in wanted.get(kind, ()) if hasattr(model, p)]
    if parts:
        return [(getattr(model, p), "forward", f"{FORWARD}{kind}, {p}") for p in parts]
    own = ("generate", "get_image_embeddings", "encode_images", "encode_texts", "masks")
    own += ("encode_image", "encode_text", "forward")
    return [(model, call, f"{FORWARD}{kind}, {call}") for call in own]


def copies(split: Split, count: int, folder: Path) -> Split:
    """A split of so many images, all different: those of another, each time a little darker.

    Args:
        folder: Where the images go.
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
