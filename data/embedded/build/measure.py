"""Evaluates the checkpoints on development scenes and writes the results to their cards.

    python benchmark.py --pictures ... --out runs/development/embedded --development
    python measure.py --development runs/development/embedded [--only clip-rn,...]

CLIP and other encoders see crops made with the ground-truth masks, so that they and not the
proposals are evaluated. Captioners see SAM's refined masks as well, as in the method. A caption
names an object if it contains one of the object's names, synonyms included, as a word.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from crops import natural_crop
from pycocotools import mask as coco_mask
from texts import article
from tqdm import tqdm

from tasnb.datasets.images import load_image
from tasnb.method.language import says
from tasnb.method.masked_images import masked_images
from tasnb.method.proposals import decode, intersections, propose, refine, to_rles
from tasnb.method.scores import similarity
from tasnb.models.captioners import Captioner, load_captioner
from tasnb.models.encoders import load_encoder
from tasnb.models.proposal_networks import ProposalNetwork, load_proposal_network
from tasnb.settings import Settings, make_settings

LEAST_SHARE = 0.01  # minimum share of the image that an object must cover
LARGE_SHARE = 0.02  # of those that a caption of the whole image should mention
KERNEL = 75  # of the blur, as in the paper
OVER_HALF = "captions of SAM's masks with IoU from 0.5, blur, that name the object (%)"
AIMS = {
    "sam": ("mean IoU of the best refined proposal", 0.80),
    "clip-rn": ("noun of natural crops, seen pictures (%)", 95.0),
    "clip-vit": ("noun of natural crops, seen pictures (%)", 93.0),
    "blip2": (OVER_HALF, 75.0),
    "freesolo": ("mean IoU of the best refined proposal", 0.60),
    "git": (OVER_HALF, 70.0),
    "blip2-itc": ("noun of natural crops, seen pictures (%)", 85.0),
    "albef": ("noun of natural crops, seen pictures (%)", 85.0),
}
"""Target for each checkpoint; its card states by how much it is missed."""


@dataclass(frozen=True)
class Thing:
    """An object of a development scene.

    Attributes:
        look: Its attributes, as in the annotations.
        mask: Its visible part, bool (H, W).
    """

    look: dict
    mask: npt.NDArray[np.bool_]

    @property
    def share(self) -> float:
        return float(self.mask.mean())

    @property
    def names(self) -> tuple[str, ...]:
        """All names that people would accept, or might."""
        return (*self.look["names"], *self.look["maybe"])

    def named_by(self, caption: str) -> bool:
        return any(says(caption, name) for name in self.names)


@dataclass(frozen=True)
class Scene:
    """A development scene: its image, (H, W, 3) uint8, and all its objects."""

    image: npt.NDArray[np.uint8]
    things: tuple[Thing, ...]


def development(folder: Path, limit: int) -> Iterator[Scene]:
    """The first scenes of both development sets."""
    for dataset in ("refscenes", "refscenesg"):
        instances = json.loads((folder / dataset / "instances.json").read_text())
        annotations = pd.DataFrame(instances["annotations"]).groupby("image_id")
        for row in tqdm(instances["images"][:limit], desc=dataset, mininterval=5):
            mine = annotations.get_group(row["id"])
            masks = [coco_mask.decode(rle).astype(bool) for rle in mine["segmentation"]]
            yield Scene(
                load_image(folder / "images" / row["file_name"]),
                tuple(map(Thing, mine["attributes"], masks)),
            )


def best_masks(
    scene: Scene, network: ProposalNetwork, settings: Settings
) -> tuple[list[tuple[npt.NDArray[np.bool_], float]], int, int]:
    """The best refined proposal for each object with its IoU, and the numbers of masks.

    Returns:
        (mask, IoU) for each object, proposals, and refined proposals. The mask is empty and the IoU
        0 if there are none.
    """
    proposals = propose(scene.image, network)
    kept = proposals[refine(proposals, settings)]
    if not len(kept):
        nothing = np.zeros(scene.image.shape[:2], bool)
        return [(nothing, 0.0)] * len(scene.things), len(proposals), 0
    truths = coco_mask.encode(
        np.asfortranarray(np.stack([t.mask for t in scene.things], -1).astype(np.uint8))
    )
    shared = intersections(to_rles(kept), truths)
    union = kept["area"].to_numpy()[:, None] + coco_mask.area(truths) - shared
    iou, masks = shared / union, decode(kept)
    best = iou.argmax(0)
    found = [(masks[row], float(iou[row, column])) for column, row in enumerate(best)]
    return found, len(proposals), len(kept)


def percent(hits: Sequence[bool] | npt.NDArray[np.bool_]) -> float:
    """The percentage of hits, rounded; NaN without any."""
    return round(100 * float(np.mean(hits)), 1) if len(hits) else float("nan")


def by_novelty(label: str, hits: Sequence[bool], things: Sequence[Thing]) -> dict[str, float]:
    """Percentages of hits for objects whose pictures were seen in training, and the others."""
    unseen = np.array([thing.look["unseen"] for thing in things])
    hits = np.array(hits)
    return {
        f"{label}, seen pictures (%)": percent(hits[~unseen]),
        f"{label}, unseen pictures (%)": percent(hits[unseen]),
    }


def measure_encoder(name: str, scenes: list[Scene], settings: Settings) -> dict[str, float]:
    kind = "open_clip" if name.startswith("clip-") else name
    encoder = load_encoder(f"{kind}:embedded/{name}", settings)
    pairs = [(s.image, t) for s in scenes for t in s.things if t.share >= LEAST_SHARE]
    things = [thing for _, thing in pairs]
    nouns = sorted({thing.look["noun"] for thing in things})
    texts = encoder.encode_texts([f"a photo of {article(noun)}" for noun in nouns])
    crops = {
        "natural crops": [natural_crop(image, thing.mask) for image, thing in pairs],
        "masked crops": [
            masked_images(image, thing.mask[None], "crop", KERNEL)[0] for image, thing in pairs
        ],
    }
    result: dict[str, float] = {"nouns": len(nouns), "crops": len(things)}
    for label, images in crops.items():
        guess = similarity(encoder.encode_images(images), texts).argmax(0)
        hits = [nouns[g] in thing.names for g, thing in zip(guess, things, strict=True)]
        result |= by_novelty(f"noun of {label}", hits, things)
    return result


def measure_captioner(name: str, scenes: list[Scene], settings: Settings) -> dict[str, float]:
    settings = settings.model_copy(update={"captioner": f"{name}:embedded/{name}"})
    captioner, network = load_captioner(settings), load_proposal_network(settings)
    true, things, covered = [], [], []
    for scene in scenes:
        best, *_ = best_masks(scene, network, settings)
        large = [k for k, thing in enumerate(scene.things) if thing.share >= LEAST_SHARE]
        things += [scene.things[k] for k in large]
        true += [(scene.image, scene.things[k].mask) for k in large]
        covered += [(scene.things[k], scene.image, best[k][0]) for k in large if best[k][1] >= 0.5]
    result: dict[str, float] = {"objects": len(things), "covered by SAM": len(covered)}
    for form in ("blur", "crop"):
        said = captioner.caption(
            [masked_images(image, mask[None], form, KERNEL)[0] for _, image, mask in covered]
        )
        hits = [thing.named_by(text) for text, (thing, *_) in zip(said, covered, strict=True)]
        result[OVER_HALF.replace("blur", form)] = percent(hits)
    for form in ("blur", "crop"):
        said = captioner.caption(
            [masked_images(image, mask[None], form, KERNEL)[0] for image, mask in true]
        )
        hits = [thing.named_by(text) for text, thing in zip(said, things, strict=True)]
        result |= by_novelty(f"names the noun of {form} crops with true masks", hits, things)
    return result | measure_whole(captioner, scenes)


def measure_whole(captioner: Captioner, scenes: list[Scene]) -> dict[str, float]:
    """How many objects the captions of whole scenes name, and how many of the names are right."""
    said = captioner.caption([scene.image for scene in scenes])
    named, right = [], []
    for text, scene in zip(said, scenes, strict=True):
        named += [thing.named_by(text) for thing in scene.things if thing.share >= LARGE_SHARE]
        for phrase in re.split(", | and ", text):
            right.append(any(thing.named_by(phrase) for thing in scene.things))
    return {
        "objects over 2 % of the scene that its caption names (%)": percent(named),
        "names in captions of scenes that are right (%)": percent(right),
        "names per caption of a scene": round(len(right) / len(scenes), 2),
    }


def measure_network(name: str, scenes: list[Scene], settings: Settings) -> dict[str, float]:
    settings = settings.model_copy(update={"proposal_network": f"{name}:embedded/{name}"})
    network = load_proposal_network(settings)
    best, counts = [], []
    for scene in tqdm(scenes, desc=name, mininterval=5):
        found, *numbers = best_masks(scene, network, settings)
        counts.append(numbers)
        pairs = zip(found, scene.things, strict=True)
        best += [iou for (_, iou), thing in pairs if thing.share >= LEAST_SHARE]
    raw, refined = np.mean(counts, 0)
    return {
        "mean IoU of the best refined proposal": round(float(np.mean(best)), 3),
        "targets covered with IoU over 0.5 (%)": percent(np.array(best) > 0.5),
        "targets covered with IoU over 0.8 (%)": percent(np.array(best) > 0.8),
        "masks per image": round(float(raw), 1),
        "refined masks per image": round(float(refined), 1),
        "objects": len(best),
    }


def against_aim(name: str, result: dict[str, float]) -> str:
    """The text about the target on a card."""
    what, aim = AIMS[name]
    missing = round(aim - result[what], 3)
    verdict = f"missed by {missing:g}" if missing > 0 else "reached"
    return f"{what}: {aim:g}; {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--development", type=Path, required=True)
    parser.add_argument("--only", default=",".join(AIMS))
    parser.add_argument("--limit", type=int, default=126, help="images per dataset")
    parser.add_argument("--print", action="store_true", help="do not write to the cards")
    args = parser.parse_args()
    settings = make_settings()
    scenes = list(development(args.development, args.limit))
    for name in args.only.split(","):
        if name in ("sam", "freesolo"):
            result = measure_network(name, scenes, settings)
        elif name in ("blip2", "git"):
            result = measure_captioner(name, scenes, settings)
        else:
            result = measure_encoder(name, scenes, settings)
        print(name, json.dumps(result, indent=1))
        if args.print:
            continue
        path = settings.data / "embedded" / "checkpoints" / name / "card.json"
        card = json.loads(path.read_text())
        card["measured"] = result
        card["aim"] = against_aim(name, result)
        path.write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
