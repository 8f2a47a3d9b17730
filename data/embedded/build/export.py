"""Converts finished trainings to the workbook's embedded checkpoints, each with a card.

    python export.py --train runs/train --out data/embedded/checkpoints [--only sam,clip-rn]

Weights are stored as safetensors in half precision, which does not affect the scores.
``measure.py`` adds measurements to the cards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from train_captioner import MODELS
from train_itc import PAIRS

NAMES = ("sam", "clip-rn", "clip-vit", "blip2", "freesolo", "git", "blip2-itc", "albef")
CONTRAST = "--batch 192 --rate 1.5e-3 --margin 0.15 --unvaried --seed 3"
SCRIPTS = {
    "sam": "train_sam.py --dense 0 --start sam --batch 64 --rate 1.5e-3 --seed 3",
    "clip-rn": "train_clip.py --tower rn --start clip-rn --freeze --margin 0.15 --unvaried",
    "clip-vit": "train_clip.py --tower vit --start clip-vit --freeze --margin 0.2 --unvaried",
    "blip2": "train_captioner.py --model blip2 --start blip2 --batch 192 --wholes 0.45 --seed 3",
    "freesolo": "train_freesolo.py",
    "git": "train_captioner.py --model git --start git --batch 160 --seed 3",
    "blip2-itc": f"train_itc.py --model blip2-itc --images-from blip2 {CONTRAST}",
    "albef": f"train_itc.py --model albef --images-from clip-vit {CONTRAST}",
}

ON_GPU = ("sam", "blip2", "git", "blip2-itc", "albef")
"""Checkpoints whose last schedule ran on a GPU."""

SCENES = {"freesolo": 5000, "clip-rn": 24000, "clip-vit": 24000, **dict.fromkeys(ON_GPU, 38000)}

EARLIER = {"sam": 140.0, "clip-rn": 96.0, "clip-vit": 123.8, "blip2": 112.0, "git": 55.0}
"""Minutes on a CPU of earlier schedules, from whose weights the last one started."""

NOTES = {
    "sam": "Three schedules: 60 minutes with AdamW, of which the first 9 without prompts, then 80 "
    "with Muon, during which the masks were compared with the share of each cell that an object "
    "covers, instead of a label sampled from the cell; at last 7 minutes of a GPU, with six times "
    "as many scenes as the second. All three masks are trained to be the object, since merged "
    "objects among them would absorb the good masks in the refinement.",
    "clip-rn": "Three schedules. The first two, on 6,000 and 9,000 scenes with 173 kinds of "
    "objects, trained both towers; in the third, the text tower stayed as it was, and crops were "
    "drawn from 24,000 scenes while training. Every crop is also compared with the plain captions "
    "of all nouns; without this, accuracy stayed at 75 %.",
    "clip-vit": "Five schedules. The text tower is the ResNet's and stayed as it was. In the "
    "fourth, of 60 minutes with Muon, crops varied in margin, light and sharpness: 96 % of "
    "natural crops were named, but also 86 % of masked ones. The fifth, of 7 minutes, saw them as "
    "they are and never tightly, which lowered the masked ones by 7 points and no other.",
    "blip2": "Five schedules. The fourth started from the third, with the vision tower of the "
    "CLIP-ViT at 144 instead of 84 pixels, so that it can tell the objects of a whole scene. Half "
    "of its crops were padded with black bars, as the method pads what it shows a captioner. The "
    "fifth ran on a GPU, with more whole scenes.",
    "freesolo": "The network is FreeSOLO's, but its training is not: it learnt from the objects of "
    "the scenes, whereas the real one learns from masks found in images without labels.",
    "git": "Four schedules; the first started from the vision tower of the CLIP-ViT, and the last "
    "ran on a GPU.",
    "blip2-itc": "Started from the image side of the captioner (from the CLIP-ViT alone it had "
    "learnt little after 300 steps), with only the image-text contrast among BLIP-2's losses. Half "
    "of the captions of crops are in other templates and followed by other words, so that the text "
    "tower learns to ignore these. Crops are never tight, as for the CLIP-ViT.",
    "albef": "Started from the vision tower of the CLIP-ViT. Half of the captions of crops are in "
    "other templates and followed by other words, so that the text tower learns to ignore these. "
    "Crops are never tight, as for the CLIP-ViT.",
}


def half(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in half precision, each in its own contiguous memory."""
    return {
        k: (v.half() if v.is_floating_point() else v)
        .contiguous()
        .clone(memory_format=torch.contiguous_format)
        for k, v in weights.items()
    }


def read_state(folder: Path) -> dict[str, Any]:
    """The state of a training, which may have run on a device that is not here."""
    return torch.load(folder / "state.pt", weights_only=True, map_location="cpu")


def write_weights(name: str, state: dict[str, Any], train: Path, out: Path) -> None:
    """Writes the files from which a checkpoint is loaded.

    Args:
        state: The training's, as from ``read_state``.
        train: Its folder, which also holds the configuration of a CLIP.
    """
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
    weights = state["model"]
    finished = train.parent / "text"  # by train_text.py, after which it stays frozen
    if (finished / "state.pt").is_file():
        text = read_state(finished)["model"]
        own = {k: v for k, v in weights.items() if k.startswith("visual.") or k == "logit_scale"}
        weights = text | own
    save_file(half(weights), out / "open_clip_model.safetensors")
    for path in train.glob("*.json"):
        shutil.copy(path, out / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="folder of finished trainings")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(NAMES))
    args = parser.parse_args()
    for name in args.only.split(","):
        train, out = args.train / name, args.out / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        state = read_state(train)
        write_weights(name, state, train, out)
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.iterdir())
        }
        weights = [load_file(path) for path in out.glob("*.safetensors")]
        on_gpu = name in ON_GPU
        card = {
            "name": name,
            "script": f"data/embedded/build/{SCRIPTS[name]}",
            "seed": int(SCRIPTS[name].partition("--seed ")[2] or 0),
            "training_scenes": f"{SCENES[name]}, seeds from 1000000 on (pool.py)",
            "steps": state["step"],
            "minutes": round(EARLIER.get(name, 0.0) + (0 if on_gpu else state["spent"]), 1),
            "minutes on a GPU": round(state["spent"], 1) if on_gpu else 0.0,
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
