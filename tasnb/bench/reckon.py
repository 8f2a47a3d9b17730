"""Time and memory of a profile on common machines, reckoned from the shapes of its networks.

``python -m tasnb bench --reckon`` prints them. Nothing is measured: the seconds of a pass are its
operations over the rate of the machine, or the bytes of its weights over the bandwidth if that
takes longer. Reading pictures, blurring, run-length encoding and storing are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tasnb.baselines.scoring import METHODS
from tasnb.bench import shapes
from tasnb.bench.passes import Cost
from tasnb.profiles import DATASETS, title
from tasnb.settings import InputError, Settings, make_settings, short


class Machine(NamedTuple):
    """A machine by its data sheet.

    Attributes:
        single, half: Operations per second in 32 bits and, with sums in 32 bits, in 16 bits.
        bandwidth: Bytes per second from memory.
        memory: In GB; of the GPU, if there is one.
        gpu: Whether it is a GPU.
    """

    single: float
    half: float
    bandwidth: float
    memory: float
    gpu: bool = True


MACHINES = {
    "RTX 3090": Machine(35.6e12, 71e12, 936e9, 24),
    "RTX 4090": Machine(82.6e12, 165e12, 1008e9, 24),
    "A100": Machine(19.5e12, 312e12, 1555e9, 40),
    "T4": Machine(8.1e12, 65e12, 320e9, 16),
    "laptop CPU": Machine(0.38e12, 0.38e12, 40e9, 16, gpu=False),  # 4 cores with AVX2 at 3 GHz
}
GPU, CPU = MACHINES["A100"], MACHINES["laptop CPU"]  # for memory, which is alike on all GPUs
SHARE = 0.35
"""Assumed share of these rates. SAM ViT-H took 0.45 s for one point on an RTX 3090 (README of
FastSAM), which is 0.37 of its rate in 32 bits. An A100 does better: 0.36 s for an image of a batch
(segment-anything-fast), where 0.91 s are reckoned."""

MASKS = 15  # per image, as the paper's SAM leaves after the refinement
OTHER_MASKS = 30  # of the other proposal network, unrefined
PHRASES = 4  # negatives and subjects per image that are embedded besides
ROUNDS = 3  # of notebook 07
FEW = 100  # images per split of a first run

PROPOSALS, WHOLE = "mask proposals", "caption of the image"
CLIP_ONLY = (PROPOSALS, "CLIP embeddings of the crops", "CLIP embeddings of the texts")
COLUMNS = (("refcoco", "val"), ("refcoco+", "testA"))
"""Two columns that together use every model."""


class Stage(NamedTuple):
    """A step on one image with all its expressions.

    Attributes:
        name: As in notebook 07, for the steps of TAS.
        model: Its model.
        cost: Of one item, on a GPU and on a CPU; None if the model's sizes are not known.
        items: Number of items per image.
    """

    name: str
    model: str
    cost: tuple[Cost, Cost] | None
    items: float

    def seconds(self, machine: Machine) -> float:
        """Per image; NaN if unknown."""
        return self.items * seconds(self.cost[not machine.gpu], machine) if self.cost else NAN

    def memory(self, machine: Machine) -> float:
        """In GB; NaN if unknown."""
        return self.cost[not machine.gpu].memory / 1e9 if self.cost else NAN


NAN = float("nan")


def seconds(cost: Cost, machine: Machine) -> float:
    """Of one item on a machine."""
    total = 0.0
    for one, share in cost.passes:
        rate = machine.half if one.half else machine.single
        total += share * max(one.flop / rate, one.read / machine.bandwidth) / SHARE
    return total


def _both(of: Callable[[bool], Cost | None]) -> tuple[Cost, Cost] | None:
    """The costs on a GPU and on a CPU."""
    gpu, cpu = of(True), of(False)
    return (gpu, cpu) if gpu and cpu else None


class Models:
    """The costs of a profile's models, per item."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def network(self, name: str) -> tuple[Cost, Cost] | None:
        return _both(lambda gpu: shapes.proposals(name, self.settings.points_per_side**2))

    def captioner(self, name: str) -> tuple[Cost, Cost] | None:
        batch, beams = self.settings.batch_size, self.settings.num_beams
        half = self.settings.precision == "half"
        return _both(lambda gpu: shapes.captions(name, batch, beams, half and gpu))

    def crops(self, name: str) -> tuple[Cost, Cost] | None:
        return _both(lambda gpu: shapes.crops(name, self.settings.batch_size))

    def texts(self, name: str) -> tuple[Cost, Cost] | None:
        return _both(lambda gpu: shapes.texts(name))

    def parser(self) -> tuple[Cost, Cost] | None:
        return _both(lambda gpu: shapes.parsing(self.settings.spacy_model))


def stages(settings: Settings, expressions: float) -> list[Stage]:
    """The steps of TAS with the last encoder.

    Args:
        expressions: Number per image.
    """
    known, encoder = Models(settings), settings.encoders[-1]
    network, captioner, parser = (
        settings.proposal_network,
        settings.captioner,
        settings.spacy_model,
    )
    written = expressions + MASKS + PHRASES  # the captions are compared with the expressions
    found = [
        Stage(PROPOSALS, network, known.network(network), 1),
        Stage("captions of the masks", captioner, known.captioner(captioner), MASKS),
        Stage(WHOLE, captioner, known.captioner(captioner), 1),
        Stage("CLIP embeddings of the crops", encoder, known.crops(encoder), MASKS),
        Stage("CLIP embeddings of the texts", encoder, known.texts(encoder), written),
        Stage("parsing, noun phrases", parser, known.parser(), expressions + 1),
    ]
    return [stage for stage in found if stage.model != parser or stage.cost]


def everything(settings: Settings, dataset: str, split: str) -> list[Stage]:
    """All that a full run does on one column: every method, by both recipes if it has both.

    The recipes have different masks and crops, so that only the proposals and the captions of whole
    images are shared. The items are per image, with those of the paper's ablations.
    """
    known, recipes = Models(settings), 1 + settings.both_recipes
    _, expressions, images = size(dataset, split)
    sentences = expressions / images
    found = [
        stage if stage.name in (PROPOSALS, WHOLE) else stage._replace(items=recipes * stage.items)
        for stage in stages(settings, sentences)
    ]
    for encoder in settings.encoders:
        items: float = MASKS if encoder != settings.encoders[-1] else 0  # TAS and CLIP-only
        others = 0
        if shapes.has_maps(encoder):
            items += MASKS + 1  # Global-Local
            items += len(METHODS)  # activation maps of the whole image
            items += 2 * sentences  # Grad-CAM goes back through the tower for every sentence
            others = OTHER_MASKS + 1
        found.append(Stage("all methods", encoder, known.crops(encoder), recipes * items))
        found.append(Stage("all methods", encoder, known.crops(encoder), others))
    other = settings.other_network
    found.append(Stage("other proposals", other, known.network(other), 1))
    if (dataset, split) == ("refcoco", "val"):  # another input to the captioner
        said = known.captioner(settings.captioner)
        found.append(Stage("Table 5", settings.captioner, said, recipes * MASKS))
    if (dataset, split) in (("refcoco+", "testA"), ("refcocog", "val(U)")):
        other = settings.other_captioner
        if other != settings.captioner:
            found.append(Stage("Table 6", other, known.captioner(other), recipes * MASKS + 1))
        for name in settings.other_encoders:
            found.append(Stage("Table 7", name, known.crops(name), recipes * MASKS))
    return found


def size(dataset: str, split: str) -> tuple[int, int, int]:
    """Published numbers of refs, sentences (or else twice the refs) and images."""
    refs, sentences, images = DATASETS[dataset].sizes[split]
    assert refs and images
    return refs, sentences or 2 * refs, images


def hours(settings: Settings, machine: Machine, dataset: str, limit: int | None = None) -> float:
    """Of a full run on all splits of a dataset; NaN if the sizes of a model are not known."""
    total = 0.0
    for split in DATASETS[dataset].splits:
        images = size(dataset, split)[2]
        each = sum(stage.seconds(machine) for stage in everything(settings, dataset, split))
        total += each * min(limit or images, images)
    return total / 3600


# --- As tables ------------------------------------------------------------------------------------


def report(profile: str) -> str:
    """The tables of ``bench --reckon``, in Markdown.

    Raises:
        InputError: There is no such profile, or it is not on photographs.
    """
    settings = make_settings(profile)
    if not all(DATASETS[dataset].sizes for dataset in settings.datasets):
        raise InputError(
            "--reckon is for public models: add --profile lite, --profile paper or --profile modern"
        )
    beams = f"{settings.num_beams} beams" if settings.num_beams > 1 else "1 beam"
    lines = [
        f"Profile {profile}, RECKONED from the shapes of the networks; nothing was measured.",
        "",
        *_table("seconds per image, TAS", _seconds(settings), "GB on a GPU", "GB on a CPU"),
        "",
        *_table("hours of a full run", _hours(settings)),
        "",
        f"{_memory(settings)} Assumed: {SHARE:g} of the operations and bytes per second in the "
        f"data sheets; {MASKS} masks per image; captions of {shapes.WORDS} tokens, {beams}; "
        f"batches of {settings.batch_size}. The laptop has 4 cores with AVX2 at 3 GHz. Left out: "
        "reading, blurring and encoding masks, and storing. With these, the paper's models took "
        "1.88 s for CLIP-only and 3.63 s for TAS on an RTX 3090 (section 4.5).",
    ]
    if unknown := _unknown(settings):
        lines.append(f"Not reckoned, since their sizes are not known here: {', '.join(unknown)}.")
    return "\n".join(lines)


def _table(heading: str, rows: Iterator[list[str]], *more: str) -> list[str]:
    head = [heading, *more, *MACHINES]
    table = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(row) + " |" for row in table]


def _typical(settings: Settings) -> list[Stage]:
    """TAS on RefCOCO val, whose images have seven expressions each."""
    _, expressions, images = size("refcoco", "val")
    return stages(settings, expressions / images)


def _seconds(settings: Settings) -> Iterator[list[str]]:
    found = _typical(settings)
    parts = [(f"{stage.name} ({short(stage.model)})", [stage]) for stage in found]
    parts += [("CLIP-only", [s for s in found if s.name in CLIP_ONLY]), ("TAS", found)]
    for name, some in parts:
        memory = (_most(stage.memory(machine) for stage in some) for machine in (GPU, CPU))
        each = (sum(stage.seconds(machine) for stage in some) for machine in MACHINES.values())
        yield [name, *map(_two, memory), *map(_two, each)]


def _hours(settings: Settings) -> Iterator[list[str]]:
    machines, datasets = MACHINES.values(), settings.datasets
    for dataset in datasets:
        yield [title(dataset), *(_two(hours(settings, one, dataset)) for one in machines)]
    count, found = settings.timed_images, _typical(settings)
    timed = [count * ROUNDS * sum(s.seconds(one) for s in found) / 3600 for one in machines]
    yield [f"notebook 07, which times {count} images", *map(_two, timed)]
    for name, limit in (("all", None), (f"all, `--limit {FEW}`", FEW)):
        sums = (sum(hours(settings, one, d, limit) for d in datasets) for one in machines)
        yield [name, *(_two(one + also) for one, also in zip(sums, timed, strict=True))]


def _memory(settings: Settings) -> str:
    """The model that needs most memory, since one is in memory at a time if they are large."""
    found = [s for d, x in COLUMNS for s in everything(settings, d, x) if s.cost]
    said = []
    for name, machine in (("GPU", GPU), ("CPU", CPU)):
        largest = max(found, key=lambda stage: stage.memory(machine))
        said.append(f"{largest.memory(machine):.1f} GB on a {name} ({short(largest.model)})")
    return f"The most memory that a model needs: {', '.join(said)}."


def _unknown(settings: Settings) -> list[str]:
    found = [stage for column in COLUMNS for stage in everything(settings, *column)]
    return list(dict.fromkeys(stage.model for stage in found if not stage.cost))


def _most(values: Iterable[float]) -> float:
    """The largest value; NaN if any is."""
    found = list(values)
    return max(found) if all(value == value for value in found) else NAN


def _two(value: float) -> str:
    """Two significant digits; "?" if unknown."""
    if value != value:
        return "?"
    text = f"{value:.2g}"
    return f"{float(text):.0f}" if value >= 10 else "under 0.01" if value < 0.01 else text
