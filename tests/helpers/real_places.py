"""Public models with random weights in the places where ``fetch`` puts the published ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import real_models as write
import torch

from tasnb.settings import ROOT


def in_cache(home: Path, repo: str) -> Path:
    """The folder of a repository's files in the hub's cache below a home folder."""
    folder = home / "hub" / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots").mkdir(exist_ok=True)
    return folder / "snapshots" / ("0" * 40)


def of_hub(repo: str, writer: Callable[[Path], str]) -> Callable[[Path], None]:
    """Puts what a writer writes into the hub's cache."""
    return lambda home: writer(in_cache(home, repo)) and None


def of_file(name: str, writer: Callable[[Path], str]) -> Callable[[Path], None]:
    """Puts what a writer writes into the data folder's ``checkpoints``, by the published name."""

    def put(home: Path) -> None:
        folder = home / "data" / "checkpoints"
        writer(folder)
        next(folder.glob("*.pth")).rename(folder / name)

    return put


def _git(home: Path) -> None:
    """On the hub, it is only there in torch's own format."""
    from safetensors.torch import load_file

    folder = in_cache(home, "microsoft/git-base-coco")
    write.write_git(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _albef(home: Path) -> None:
    of_file("ALBEF.pth", write.write_albef)(home)
    bert = in_cache(home, "bert-base-uncased")
    bert.mkdir()
    for name in ("config.json", "tokenizer_config.json", "vocab.txt"):
        (bert / name).write_text("{}")  # the vocabulary beside the weights is read instead


SIGLIP2 = "ViT-SO400M-16-SigLIP2-384"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

PLACES: dict[str, Callable[[Path], None]] = {
    "sam:vit_b": of_file("sam_vit_b_01ec64.pth", write.write_sam("vit_b")),
    "sam:vit_h": of_file("sam_vit_h_4b8939.pth", write.write_sam("vit_h")),
    "freesolo:FreeSOLO_R101_30k_pl.pth": of_file("FreeSOLO_R101_30k_pl.pth", write.write_freesolo),
    "albef:ALBEF.pth": _albef,
    "git:microsoft/git-base-coco": _git,
    "blip2:Salesforce/blip2-opt-2.7b": of_hub("Salesforce/blip2-opt-2.7b", write.write_blip2),
    "blip2-itc:Salesforce/blip2-itm-vit-g": of_hub(
        "Salesforce/blip2-itm-vit-g", write.write_blip2_itc
    ),
    "open_clip:RN50/openai": of_hub(
        "timm/resnet50_clip.openai", write.write_clip_of_hub("RN50-quickgelu")
    ),
    "open_clip:ViT-B-32/openai": of_hub(
        "timm/vit_base_patch32_clip_224.openai", write.write_clip_of_hub("ViT-B-32-quickgelu")
    ),
    "hf:facebook/sam2.1-hiera-tiny": of_hub("facebook/sam2.1-hiera-tiny", write.write_sam2("tiny")),
    "hf:facebook/sam2.1-hiera-large": of_hub(
        "facebook/sam2.1-hiera-large", write.write_sam2("large")
    ),
    "hf:OpenGVLab/InternVL3-1B-hf": of_hub("OpenGVLab/InternVL3-1B-hf", write.write_internvl),
    f"open_clip:{SIGLIP2}/webli": of_hub(
        f"timm/{SIGLIP2}", write.write_clip_of_hub(SIGLIP2, *_TOKENIZER)
    ),
}
"""Model, as in the settings -> writes it below a home folder, whose ``data`` is the data folder."""

PROGRAM = """
import sys, tomllib
from types import SimpleNamespace
from tasnb.cli.arguments import main
from tasnb.fetch import sources
def of_any_size(text):
    table = tomllib.loads(text)
    for file in (file for item in table["items"] for file in item.get("files", ())):
        file.pop("sha256", None)
        file["about"] = file.pop("bytes", 0) or file.get("about", 0)
    return table
sources.tomllib = SimpleNamespace(loads=of_any_size)
sys.exit(main(sys.argv[1:]))
"""
"""tasnb without the published sizes and digests of files, which random weights do not have."""


def tasnb_below(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of tasnb, offline, with the models below a home folder."""
    own = {"HF_HOME": str(home), "XDG_CACHE_HOME": str(home), "TORCH_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *command, "--data", str(home / "data")],
        env={**os.environ, **own, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
