"""Turns finished trainings into the checkpoints that the workbook carries, each with its card.

    python export.py --train runs/train --out data/embedded/checkpoints [--only sam,clip-rn]

Weights are stored in half precision, which no score notices, as safetensors. ``measure.py`` adds
what was measured to the cards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from train_captioner import MODELS
from train_itc import PAIRS

NAMES = ("sam", "clip-rn", "clip-vit", "blip2", "freesolo", "git", "blip2-itc", "albef")
SCRIPTS = {
    "sam": "train_sam.py",
    "clip-rn": "train_clip.py --tower rn, then train_text.py",
    "clip-vit": "train_clip.py --tower vit --text-from clip-rn, then train_text.py",
    "blip2": "train_captioner.py --model blip2 --vision-from clip-vit",
    "freesolo": "train_freesolo.py",
    "git": "train_captioner.py --model git --vision-from clip-vit",
    "blip2-itc": "train_itc.py --model blip2-itc --images-from blip2",
    "albef": "train_itc.py --model albef --images-from clip-vit",
}


SCENES = {**dict.fromkeys(NAMES, 6000), "freesolo": 5000}
EARLIER = {"sam": 57.0, "clip-rn": 58.0, "clip-vit": 49.8, "blip2": 41.0, "git": 40.0}
"""Minutes of schedules before the last one, whose weights it went on from."""

NOTES = {
    "sam": "Two schedules. The first 1,900 steps saw 9,000 more crowded scenes, of up to eight "
    "objects, 1,111 of them without the affinity head; from step 4,000 on the two masks that are "
    "not the best are held to the object too, since merged objects among them swallowed the good "
    "masks in the refinement.",
    "clip-rn": "Two schedules, the first on 9,000 more crowded scenes. In the second every crop is "
    "also held against the plain captions of all nouns: without that the accuracy stood at 75 %.",
    "clip-vit": "Three schedules, the first on 9,000 more crowded scenes. The text tower is the "
    "ResNet's and stayed as it was while the image tower learnt. From scratch, without it, a ViT "
    "of this size learnt next to nothing in half an hour.",
    "blip2": "Three schedules, the first on 9,000 more crowded scenes; the second began with the"
    " vision tower of the CLIP-ViT anew.",
    "freesolo": "The network is FreeSOLO's, its training is not: it learnt from the objects of the "
    "scenes, where the real one finds masks in pictures without labels.",
    "git": "Three schedules; the first began with the vision tower of the CLIP-ViT.",
    "blip2-itc": "Began with the image side of the captioner (from the CLIP-ViT alone it had learnt"
    " little after 300 steps); of BLIP-2's losses only image-text contrast. Half of the captions of"
    " crops stand in other frames and have tails of words, so that the text tower overlooks them.",
    "albef": "Began with the vision tower of the CLIP-ViT. Half of the captions of crops stand in "
    "other frames and have tails of words, so that the text tower overlooks them.",
}


def half(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in half precision, each with contiguous memory of its own."""
    return {
        k: (v.half() if v.is_floating_point() else v)
        .contiguous()
        .clone(memory_format=torch.contiguous_format)
        for k, v in weights.items()
    }


def text_tower(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All but the image tower: what ``train_text.py`` made and both CLIPs share."""
    return {k: v for k, v in weights.items() if not k.startswith("visual.")}


def write_weights(name: str, train: Path, out: Path) -> None:
    """Writes the files that the loading class of a checkpoint reads."""
    state = torch.load(train / "state.pt", weights_only=True)
    if name in MODELS | PAIRS:
        trained = (MODELS | PAIRS)[name]()
        trained.model.load_state_dict(state["model"])
        trained.model.half()
        trained.save(out)
        return
    if name == "freesolo":
        from train_freesolo import CONFIG

        weights = {k: v for k, v in state["model"].items() if "num_batches" not in k}
        save_file(half(weights), out / "model.safetensors")
        (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
        return
    if name == "sam":
        from train_sam import CONFIG

        average = {k.removeprefix("module."): v for k, v in state["average"].items()}
        average.pop("n_averaged")
        save_file(half(average), out / "model.safetensors")
        (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
        return
    text = torch.load(train.parent / "text" / "state.pt", weights_only=True)["model"]
    own = {k: v for k, v in state["model"].items() if k.startswith("visual.") or k == "logit_scale"}
    save_file(half({**text_tower(text), **own}), out / "open_clip_model.safetensors")
    for path in train.glob("*.json"):
        shutil.copy(path, out / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(NAMES))
    args = parser.parse_args()
    for name in args.only.split(","):
        train, out = args.train / name, args.out / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        write_weights(name, train, out)
        state = torch.load(train / "state.pt", weights_only=True)
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.iterdir())
        }
        weights = [load_file(path) for path in out.glob("*.safetensors")]
        card = {
            "name": name,
            "script": f"data/embedded/build/{SCRIPTS[name]}",
            "seed": 0,
            "training_scenes": f"{SCENES[name]}, seeds from 1000000 on (pool.py)",
            "steps": state["step"],
            "minutes": round(EARLIER.get(name, 0.0) + state["spent"], 1),
            "parameters": sum(t.numel() for part in weights for t in part.values()),
            "measured": {},
            "aim": "",
            "notes": NOTES[name],
            "files": files,
        }
        (out / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
        print(f"{name}: {card['parameters'] / 1e6:.2f} M parameters, {size:.1f} MB")


if __name__ == "__main__":
    main()
