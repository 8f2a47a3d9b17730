"""The profile lite without its downloads: real architectures at real size with random weights.

Seconds do not depend on the values of weights, but random ones find no objects and never end a
sentence. SAM therefore does all of its work and its masks are replaced by boxes, and captions have
a fixed length, that of a usual caption.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from pycocotools import mask as coco_mask

from tasnb.datasets.images import image_key, load_image
from tasnb.datasets.splits import Split
from tasnb.models.parsers import load_wordnet
from tasnb.models.proposal_networks import PROPOSAL_NETWORKS, Proposed, SamProposals
from tasnb.models.run_lengths import run_lengths
from tasnb.models.sam import PUBLIC_SAM
from tasnb.settings import InputError, Settings, make_settings

HEIGHT, WIDTH = 480, 640  # of the photographs
MASKS = 5  # boxes per photograph; the paper's SAM leaves about 15 masks
TOKENS = 12  # of a caption; GIT's captions of photographs have 10 or so

MEMORY, DISK = 5.0, 2.0
"""GB that must be free: SAM needs 3.6 GB on a CPU, and the files of all weights take 1.7 GB."""

NOTE = f"""\
Profile lite: real architectures at real size with random weights. Seconds are per image. The images
are from the embedded benchmark, enlarged to {WIDTH} x {HEIGHT} pixels, with {MASKS} boxes each in
place of SAM's masks and captions of {TOKENS} tokens."""


class SamThenBoxes(SamProposals):
    """SAM, all of whose masks are enlarged and encoded, but then replaced by a few boxes."""

    def propose(self, image: npt.NDArray[np.uint8], key: str) -> Proposed:
        super().propose(image, key)
        height, width = image.shape[:2]
        boxes = np.zeros((MASKS, height, width), bool)
        for row, box in enumerate(boxes):  # side by side, each a little higher than the one before
            left, right = row * width // MASKS, (row + 1) * width // MASKS - 4
            box[height // 4 - 10 * row : -height // 4, left:right] = True
        return run_lengths(boxes), np.ones(MASKS), np.ones(MASKS)


KIND = "sam-then-boxes"
PROPOSAL_NETWORKS[KIND] = SamThenBoxes


@contextmanager
def prepared(count: int) -> Iterator[tuple[Settings, Split]]:
    """Settings of the profile with random weights, and photographs with their sentences.

    Args:
        count: Number of photographs; at least 1.

    Raises:
        InputError: There is too little memory or disk space, or there are fewer photographs.
    """
    from tqdm import tqdm

    _check_room()
    with tempfile.TemporaryDirectory(prefix="tasnb-bench-") as place:
        folder = Path(place)
        split = photographs(count, folder / "images")
        writers: dict[str, Callable[[Path], str]] = {
            "proposal_network": write_sam, "captioner": write_git, "encoder": write_clip,
        }  # fmt: skip
        names = {
            what: write(folder / what)
            for what, write in tqdm(writers.items(), desc="random weights (models)", unit="")
        }
        names["encoders"] = (names.pop("encoder"),)
        everything = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
        yield make_settings("lite", max_new_tokens=TOKENS, **names, **everything), split


def _check_room() -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free < DISK:
        raise InputError(
            f"bench --profile lite needs {DISK:.0f} GB of disk in {tempfile.gettempdir()}, where "
            f"{free:.1f} GB are free; set TMPDIR to another folder"
        )
    free = free_memory_gb()
    if free < MEMORY:
        raise InputError(
            f"bench --profile lite needs {MEMORY:.0f} GB of free memory, and {free:.1f} GB are "
            "free; close other programs, or use --profile embedded"
        )


def free_memory_gb() -> float:
    """GB of memory that programs can get without swapping; infinite where it is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return np.inf
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) / 1e6 if found else np.inf


def photographs(count: int, folder: Path) -> Split:
    """Images of the embedded benchmark in the size of photographs, with all of their sentences.

    Args:
        folder: Where the images are written.
    """
    from tasnb.bench import drawn

    split = drawn(make_settings("embedded"), count)
    folder.mkdir(parents=True)
    images, frames = {}, []
    for number, (original, file) in enumerate(split.images.items()):
        path = folder / f"{number:06d}.png"
        Image.fromarray(load_image(file)).resize((WIDTH, HEIGHT)).save(path)
        images[image_key(path)] = path
        rows = split.sentences[split.sentences["image"] == original]
        truths = run_lengths(map(_enlarged, map(split.ground_truth, rows.index)))
        frames.append(
            rows.assign(
                image=image_key(path),
                height=HEIGHT,
                width=WIDTH,
                ground_truth=[truth["counts"] for truth in truths],
                truth_area=coco_mask.area(truths).astype(int),
            )
        )
    return Split(split.dataset, split.split, pd.concat(frames, ignore_index=True), images)


def _enlarged(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(Image.fromarray(mask).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST))


def write_sam(folder: Path) -> str:
    """Writes SAM ViT-B, and returns its name for the settings."""
    import torch
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    folder.mkdir()
    torch.save(sam_model_registry["vit_b"]().state_dict(), folder / PUBLIC_SAM["vit_b"])
    return f"{KIND}:vit_b/{folder / PUBLIC_SAM['vit_b']}"


def write_clip(folder: Path) -> str:
    """Writes CLIP ViT-B/32, and returns its name for the settings."""
    import open_clip
    import torch

    torch.manual_seed(0)
    folder.mkdir()
    model = open_clip.create_model("ViT-B-32-quickgelu")
    torch.save(model.state_dict(), folder / "clip.pt")
    return f"open_clip:ViT-B-32-quickgelu/{folder / 'clip.pt'}"


def write_git(folder: Path) -> str:
    """Writes GIT base with a tokenizer of its size, and returns its name for the settings."""
    import torch
    from transformers import (
        BertTokenizer,
        CLIPImageProcessor,
        GitConfig,
        GitForCausalLM,
        GitProcessor,
    )
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = GitConfig()
    GitForCausalLM(config).save_pretrained(folder)
    vocabulary = _vocabulary(config)
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    size = {"height": 224, "width": 224}
    GitProcessor(CLIPImageProcessor(size=size, crop_size=size), tokenizer).save_pretrained(folder)
    return f"git:{folder}"


def _vocabulary(config: Any) -> list[str]:
    """Short nouns, with BERT's special tokens in their places."""
    wordnet = load_wordnet(make_settings("embedded").data / "wordnet" / "wordnet.zip")
    nouns = sorted({n for n in wordnet.all_lemma_names("n") if n.isalpha() and n.islower()})
    words = sorted(nouns, key=len)[: config.vocab_size]
    places = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    return [places.get(place, word) for place, word in enumerate(words)]
