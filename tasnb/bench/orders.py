"""The same work in two orders: ours and that of the authors' released code.

Ours processes each image and each text once, in batches. The released code proposes and captions
masks once per ref (all expressions of one object), captioning one mask at a time, and runs CLIP
once per sentence: on the crops, twice, and on the sentence with the captions of all masks. Both use
the same models, so the results must be the same.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasnb.datasets.splits import Split
from tasnb.method import language, proposals
from tasnb.method.masked_images import masked_images
from tasnb.method.pipeline import Pipeline
from tasnb.models import captioners, encoders
from tasnb.models.devices import wait
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.results.speed import part
from tasnb.settings import Settings

MASKS, CAPTIONS, CROPS, TEXTS = STAGES = (
    "mask proposals",
    "captions of the masks",
    "crops through CLIP",
    "texts through CLIP",
)
SUMS = {"captions and CLIP": (CAPTIONS, CROPS, TEXTS), "all four": STAGES}
TOLERANCE = 1e-5  # per component of a unit vector; results vary in the last bits with batch size

Place = tuple[str, int]
"""Image key and mask_id."""


@dataclass
class Order:
    """Time and results of one order.

    Attributes:
        seconds, processor: By stage, wall-clock time and CPU time of all cores.
        masks: Run lengths of each refined mask.
        captions: Caption of each refined mask.
        crops: Image embedding of each refined mask.
        texts: Embedding of each text.
        changes: Number of results that differed when they were computed again.
    """

    seconds: Counter[str] = field(default_factory=Counter)
    processor: Counter[str] = field(default_factory=Counter)
    masks: dict[Place, bytes] = field(default_factory=dict)
    captions: dict[Place, str] = field(default_factory=dict)
    crops: dict[Place, npt.NDArray[np.float32]] = field(default_factory=dict)
    texts: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    changes: int = 0

    @contextmanager
    def clock(self, stage: str) -> Iterator[None]:
        """Adds the body's time to a stage."""
        wait()
        began, worked = time.perf_counter(), time.process_time()
        yield
        wait()
        self.seconds[stage] += time.perf_counter() - began
        self.processor[stage] += time.process_time() - worked

    def note(self, known: dict, found: dict) -> None:
        """Keeps new results, and counts those that differ from the ones already known."""
        for key, value in found.items():
            before = known.setdefault(key, value)
            same = before is value or (
                np.allclose(before, value, rtol=0, atol=TOLERANCE)
                if isinstance(value, np.ndarray)
                else before == value
            )
            self.changes += not same


def ours(settings: Settings, split: Split, encoder: str) -> tuple[Order, pd.DataFrame]:
    """Runs every stage from scratch, in the order of ``Pipeline.score``.

    Returns:
        The order, and the sentences with their negative phrases.
    """
    order = Order()
    with tempfile.TemporaryDirectory(prefix="tasnb-bench-") as folder:
        pipeline = Pipeline(settings).variant(store=f"{folder}/images", backend="serial")
        with order.clock(MASKS):
            masks = pipeline.refined(split.images)
        with order.clock(CAPTIONS):
            said = pipeline.captions(split.images)["caption"]
        with order.clock(CROPS):
            rows, vectors = pipeline.mask_embeddings(split.images, encoder)
        sentences = pipeline.score(split, encoder).sentences
        texts = {*sentences["sentence"], *said, *_prompts(sentences["negatives"])}
        anew = pipeline.variant(store=f"{folder}/texts")  # the other store has some of them already
        with order.clock(TEXTS):
            order.texts = anew.text_embeddings(texts, encoder)
    places = [(str(image), int(i)) for image, i in zip(rows["image"], rows["mask_id"], strict=True)]
    order.masks = dict(zip(places, masks["counts"], strict=True))
    order.captions = dict(zip(places, said, strict=True))
    order.crops = dict(zip(places, vectors, strict=True))
    return order, sentences


def theirs(settings: Settings, split: Split, encoder: str, sentences: pd.DataFrame) -> Order:
    """The order of the released code, with the same models.

    Where there is room for interpretation, the cheaper reading is used: an image is blurred and
    cropped once per ref, and the texts of a sentence are encoded in one call.

    Args:
        sentences: From ``ours``.
    """
    from tqdm import tqdm

    order, pipeline = Order(), Pipeline(settings)
    network = load_proposal_network(settings)
    captioner = captioners.load_captioner(settings)
    clip = encoders.load_encoder(encoder, settings)
    looks = settings.blur_kernel, settings.crop_rule
    refs = sentences.groupby("ref_id", sort=False)
    for _, ref in tqdm(refs, desc="the released code's order (refs)", unit=""):
        image = str(ref["image"].iloc[0])
        with order.clock(MASKS):
            pixels = pipeline.pixels(split.images, image)
            masks = proposals.propose(pixels, network, image)
            masks = masks[proposals.refine(masks, settings)]
        places = [(image, int(i)) for i in masks["mask_id"]]
        with order.clock(CAPTIONS):
            pictures = masked_images(
                pixels, proposals.decode(masks), settings.caption_input, *looks
            )
            said = [captioner.caption([picture])[0] for picture in pictures]
        with order.clock(CROPS):
            crops = masked_images(pixels, proposals.decode(masks), settings.clip_input, *looks)
        order.note(order.masks, dict(zip(places, masks["counts"], strict=True)))
        order.note(order.captions, dict(zip(places, said, strict=True)))
        for sentence, negatives in zip(ref["sentence"], ref["negatives"], strict=True):
            with order.clock(CROPS):
                twice = [clip.encode_images(crops) for _ in range(2)]
            texts = [sentence, *said, *_prompts([negatives])]
            with order.clock(TEXTS):
                vectors = clip.encode_texts(texts)
            for found in twice:
                order.note(order.crops, dict(zip(places, found, strict=True)))
            order.note(order.texts, dict(zip(texts, vectors, strict=True)))
    return order


def _prompts(negatives: pd.Series | list[list[str]]) -> list[str]:
    return list(dict.fromkeys(language.PROMPT.format(text) for some in negatives for text in some))


@dataclass(frozen=True)
class Comparison:
    """Both orders on the same sentences."""

    ours: Order
    theirs: Order
    refs: float
    sentences: float

    def table(self) -> pd.DataFrame:
        """Seconds per stage in both orders, their ratio, and the ratio of CPU time."""
        rows = {stage: (stage,) for stage in STAGES} | SUMS
        found = []
        for name, stages in rows.items():
            wall, processor = (
                [sum(clock[stage] for stage in stages) for clock in pair]
                for pair in (
                    (self.ours.seconds, self.theirs.seconds),
                    (self.ours.processor, self.theirs.processor),
                )
            )
            ratios = (wall[1] / wall[0], processor[1] / processor[0])
            found.append((name, *wall, *ratios))
        names = ["stage", "ours", "theirs", "ratio", "CPU ratio"]
        return pd.DataFrame(found, columns=names)

    def differences(self) -> dict[str, float]:
        """Numbers of results that differ, and the largest differences between two vectors."""
        one, other = self.ours, self.theirs
        return {
            "masks that differ": _unlike(one.masks, other.masks),
            "captions that differ": _unlike(one.captions, other.captions),
            "results that changed when repeated": other.changes,
            "largest difference, crops": _furthest(one.crops, other.crops),
            "largest difference, texts": _furthest(one.texts, other.texts),
        }

    @property
    def same(self) -> bool:
        """Whether both orders give the same results."""
        return all(value <= TOLERANCE for value in self.differences().values())


def _unlike(one: dict, other: dict) -> int:
    return sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())


def _furthest(one: dict, other: dict) -> float:
    if one.keys() != other.keys():
        return np.inf
    return max((float(np.abs(one[key] - other[key]).max()) for key in one), default=0.0)


def compare(settings: Settings, split: Split, encoder: str) -> Comparison:
    """Runs both orders, after warming up the models on one image."""
    image = next(iter(split.images))
    first = split.sentences[split.sentences["image"] == image].iloc[:1]
    ours(settings, part(split, first), encoder)
    mine, sentences = ours(settings, split, encoder)
    other = theirs(settings, split, encoder, sentences)
    images = len(split.images)
    refs = split.sentences["ref_id"].nunique() / images
    return Comparison(mine, other, refs, len(split.sentences) / images)
