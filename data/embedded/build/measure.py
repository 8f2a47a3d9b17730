"""Evaluates the checkpoints on development scenes and writes the results to their cards.

    python benchmark.py --pictures ... --out runs/development/embedded --development
    python measure.py --development runs/development/embedded [--only clip-rn,...]

Crops are made with the ground-truth masks, so that the models and not the proposals are evaluated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from crops import natural_crop
from pycocotools import mask as coco_mask
from texts import article
from tqdm import tqdm

from tasnb.datasets.images import load_image
from tasnb.method.masked_images import masked_images
from tasnb.method.proposals import intersections, propose, refine, to_rles
from tasnb.method.scores import similarity
from tasnb.models.captioners import load_captioner
from tasnb.models.encoders import load_encoder
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.settings import make_settings

LEAST_SHARE = 0.01  # minimum share of the image that an object must cover
AIMS = {
    "sam": ("mean IoU of the best refined proposal", 0.80),
    "clip-rn": ("noun of natural crops, seen pictures (%)", 95.0),
    "clip-vit": ("noun of natural crops, seen pictures (%)", 95.0),
    "blip2": ("names the noun of blur crops, seen pictures (%)", 85.0),
    "freesolo": ("mean IoU of the best refined proposal", 0.60),
    "git": ("names the noun of blur crops, seen pictures (%)", 80.0),
    "blip2-itc": ("noun of natural crops, seen pictures (%)", 85.0),
    "albef": ("noun of natural crops, seen pictures (%)", 85.0),
}
"""Target for each checkpoint; its card states by how much it is missed."""


def objects(folder: Path, limit: int) -> list[dict]:
    """All sufficiently large objects of the development scenes, with their crops."""
    found = []
    for dataset in ("refscenes", "refscenesg"):
        instances = json.loads((folder / dataset / "instances.json").read_text())
        for row in tqdm(instances["images"][:limit], desc=dataset):
            image = load_image(folder / "images" / row["file_name"])
            mine = [a for a in instances["annotations"] if a["image_id"] == row["id"]]
            for annotation in mine:
                mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
                if mask.mean() < LEAST_SHARE:
                    continue
                crop = masked_images(image, mask[None], "crop", 75)[0]
                blur = masked_images(image, mask[None], "blur", 75)[0]
                natural = natural_crop(image, mask)
                found.append(
                    {**annotation["attributes"], "natural": natural, "crop": crop, "blur": blur}
                )
    return found


def share(hits: list[bool], things: list[dict], unseen: bool) -> float:
    """Percentage of hits among objects whose pictures were unseen (or seen) in training."""
    chosen = [hit for hit, thing in zip(hits, things, strict=True) if thing["unseen"] == unseen]
    return round(100 * float(np.mean(chosen)), 1)


def measure_encoder(name: str, things: list[dict], settings) -> dict[str, float]:
    kind = "open_clip" if name.startswith("clip-") else name
    encoder = load_encoder(f"{kind}:embedded/{name}", settings)
    nouns = sorted({thing["noun"] for thing in things})
    texts = encoder.encode_texts([f"a photo of {article(noun)}" for noun in nouns])
    result: dict[str, float] = {"nouns": len(nouns), "crops": len(things)}
    for form in ("natural", "crop"):
        guess = similarity(encoder.encode_images([t[form] for t in things]), texts).argmax(0)
        hits = [nouns[g] in (*t["names"], *t["maybe"]) for g, t in zip(guess, things, strict=True)]
        label = {"natural": "natural crops", "crop": "masked crops"}[form]
        result[f"noun of {label}, seen pictures (%)"] = share(hits, things, False)
        result[f"noun of {label}, unseen pictures (%)"] = share(hits, things, True)
    return result


def measure_captioner(name: str, things: list[dict], settings) -> dict[str, float]:
    captioner = load_captioner(settings.model_copy(update={"captioner": f"{name}:embedded/{name}"}))
    result: dict[str, float] = {"crops": len(things)}
    for form in ("blur", "crop", "natural"):
        said = captioner.caption([t[form] for t in things])
        hits = [
            any(name in text for name in (*t["names"], *t["maybe"]))
            for text, t in zip(said, things, strict=True)
        ]
        result[f"names the noun of {form} crops, seen pictures (%)"] = share(hits, things, False)
        result[f"names the noun of {form} crops, unseen pictures (%)"] = share(hits, things, True)
    return result


def measure_network(name: str, folder: Path, limit: int, settings) -> dict[str, float]:
    network = load_proposal_network(
        settings.model_copy(update={"proposal_network": f"{name}:embedded/{name}"})
    )
    instances = json.loads((folder / "refscenes" / "instances.json").read_text())
    best, count, raw = [], [], []
    for row in tqdm(instances["images"][:limit], desc=name):
        masks = propose(load_image(folder / "images" / row["file_name"]), network)
        raw.append(len(masks))
        masks = masks[refine(masks, settings)]
        count.append(len(masks))
        for a in instances["annotations"]:
            if (
                a["image_id"] == row["id"]
                and a["area"] >= LEAST_SHARE * row["width"] * row["height"]
            ):
                truth = [{"size": a["segmentation"]["size"], "counts": a["segmentation"]["counts"]}]
                shared = intersections(to_rles(masks), truth)[:, 0]
                union = masks["area"].to_numpy() + a["area"] - shared
                best.append(float((shared / union).max()) if len(masks) else 0.0)
    return {
        "mean IoU of the best refined proposal": round(float(np.mean(best)), 3),
        "targets covered with IoU over 0.5 (%)": round(
            100 * float(np.mean(np.array(best) > 0.5)), 1
        ),
        "masks per image": round(float(np.mean(raw)), 1),
        "refined masks per image": round(float(np.mean(count)), 1),
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
    args = parser.parse_args()
    settings = make_settings()
    names = args.only.split(",")
    networks = {"sam", "freesolo"}
    things = objects(args.development, args.limit) if set(names) - networks else []
    for name in names:
        if name in networks:
            result = measure_network(name, args.development, args.limit, settings)
        elif name in ("blip2", "git"):
            result = measure_captioner(name, things, settings)
        else:
            result = measure_encoder(name, things, settings)
        path = settings.data / "embedded" / "checkpoints" / name / "card.json"
        card = json.loads(path.read_text())
        card["measured"] = result
        card["aim"] = against_aim(name, result)
        path.write_text(json.dumps(card, indent=1) + "\n")
        print(name, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
