"""The known datasets, profiles and recipes.

A profile selects models and data: the embedded ones, the paper's, newer public models, or small
ones. A recipe selects a reading of the method: the paper's text, or the authors' released code
where it differs; or what goes beyond the paper.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Dataset(NamedTuple):
    """Where a dataset is in the data folder, and what it should contain.

    Attributes:
        paper: The paper's dataset that it is, or that it is the counterpart of.
        title: Its name in the tables.
        folder: Contains ``instances.json`` and ``refs(...)``, or PhraseCut's file.
        images: Folders that may contain the images; the first that exists is used.
        splits: Name of a split in the tables -> (name of the refs, name of the split in them).
        sizes: Split -> published numbers of refs, sentences and images; None where unknown.
    """

    paper: str
    title: str
    folder: str
    images: tuple[str, ...]
    splits: dict[str, tuple[str, str]]
    sizes: dict[str, tuple[int | None, int | None, int | None]] = {}  # noqa: RUF012


REFER = "refer"
"""Used as the name of the refs for PhraseCut's own file, ``refer_<split>.json``."""
AREFCOCO = "arefcoco"
"""The same for ``arefcoco.json``, whose targets are refs of RefCOCO and RefCOCOg."""
MASKS = "masks"
"""The same for ``<split>.json`` with the masks as pictures, as for RefCOCOm."""


def mask_folder(folder: Path) -> Path:
    """Where a dataset's masks are pictures: ``masks/`` in its folder, or as in CRIS's layout.

    There, ``anns/<name>/`` contains the annotations and ``masks/<name>/`` the masks.
    """
    beside = folder.parent.parent / MASKS / folder.name
    return beside if folder.parent.name == "anns" and beside.is_dir() else folder / MASKS


def is_dataset(folder: Path) -> bool:
    """Whether a folder has one of the layouts in which a user's own dataset may be."""
    files = (folder / "instances.json", folder / f"{AREFCOCO}.json")
    return any(file.is_file() for file in files) or mask_folder(folder).is_dir()


_UNC = {split: ("unc", split) for split in ("val", "testA", "testB")}
_COCO = ("images/train2014", "train2014", "coco/train2014", "images/mscoco/images/train2014")
_GENOME = ("images/visual_genome", "phrasecut/images", "visual_genome", "VG_100K")
_OURS = ("embedded/images",)

DATASETS: dict[str, Dataset] = {
    "refcoco": Dataset(
        *("RefCOCO", "RefCOCO", "refcoco", _COCO, _UNC),
        {
            "val": (3811, 10834, 1500),
            "testA": (1975, 5657, 750),
            "testB": (1810, 5095, 750),
        },
    ),
    "refcoco+": Dataset(
        *("RefCOCO+", "RefCOCO+", "refcoco+", _COCO, _UNC),
        {
            "val": (3805, 10758, 1500),
            "testA": (1975, 5726, 750),
            "testB": (1798, 4889, 750),
        },
    ),
    "refcocog": Dataset(
        *("RefCOCOg", "RefCOCOg", "refcocog", _COCO),
        # Google published no test split; papers report its val as test(G).
        {"val(U)": ("umd", "val"), "test(U)": ("umd", "test"), "test(G)": ("google", "val")},
        {
            "val(U)": (2573, 4896, 1300),
            "test(U)": (5023, 9602, 2600),
            "test(G)": (5000, None, 4650),
        },
    ),
    "phrasecut": Dataset(
        *("PhraseCut", "PhraseCut", "phrasecut", _GENOME),
        {"test": (REFER, "test")},
        {"test": (14354, 14354, 2545)},
    ),
    "refscenes": Dataset("RefCOCO", "RefScenes", "embedded/refscenes", _OURS, _UNC),
    "refscenes+": Dataset("RefCOCO+", "RefScenes+", "embedded/refscenes+", _OURS, _UNC),
    "refscenesg": Dataset(
        *("RefCOCOg", "RefScenesg", "embedded/refscenesg", _OURS),
        {"val(U)": ("umd", "val"), "test(U)": ("umd", "test"), "test(G)": ("google", "test")},
    ),
    "phrasescenes": Dataset(
        *("PhraseCut", "PhraseScenes", "embedded/phrasescenes", _OURS),
        {"test": ("phrasecut", "test")},
    ),
}
"""Datasets by name, with their splits in the order of the columns of Tables 1 and 2."""

_PHOTOGRAPHS = {
    "datasets": ("refcoco", "refcoco+", "refcocog", "phrasecut"),
    "areas_of": None,  # 2,000 and 800 pixels whatever the image's size
    "sample": "random",  # of the images, if their number is limited
}

PROFILES: dict[str, dict[str, Any]] = {
    # The small SAM is less confident than the real one: with the paper's thresholds (0.7 and 0.7)
    # its best mask covers the target in 60 of 100 cases instead of 82 (on development scenes).
    "embedded": {
        "datasets": ("refscenes", "refscenes+", "refscenesg", "phrasescenes"),
        "pred_iou_thresh": 0.4,
        "stability_score_thresh": 0.4,
        "claims_on": "all",  # with so few images, more claims are decided
        "backend": "processes",  # since torch's own threads do not help networks as small as these
    },
    # What the paper used (section 4.2), on its datasets.
    "paper": {
        **_PHOTOGRAPHS,
        "proposal_network": "sam:vit_h",
        "captioner": "blip2:Salesforce/blip2-opt-2.7b",
        "both_recipes": True,  # it is unknown which one produced the printed numbers
        "timed_images": 500,  # section 4.5
        "precision": "half",
        "batch_size": 16,  # with 5 beams each, so that captioning stays under 12 GB
        "encoders": ("open_clip:RN50/openai", "open_clip:ViT-B-32/openai"),
        "spacy_model": "en_core_web_trf",
        "other_network": "freesolo:FreeSOLO_R101_30k_pl.pth",
        "other_captioner": "git:microsoft/git-base-coco",
        "other_encoders": ("blip2-itc:Salesforce/blip2-itm-vit-g", "albef:ALBEF.pth"),
    },
    # Small public models for a laptop and one's own photographs: a download of 1.7 GB. SAM 2.1 tiny
    # takes 0.6 to 0.7 times the CPU time of SAM ViT-B and half its memory. But the paper
    # uses SAM; no comparison of their masks on a grid of points is known to us, and on such grids
    # SAM 2 was found to miss objects that SAM proposes (Tang and Li 2024, arXiv 2407.21596).
    # MobileCLIP2 would save little, since CLIP takes a tenth of the time, and SmolVLM 256M needs
    # four times GIT's operations.
    "lite": {
        **_PHOTOGRAPHS,
        "proposal_network": "sam:vit_b",
        "captioner": "git:microsoft/git-base-coco",
        "num_beams": 1,  # GIT encodes an image once per beam, which takes most of its time
        "encoders": ("open_clip:ViT-B-32/openai",),
        "other_network": "felzenszwalb",
        "other_captioner": "git:microsoft/git-base-coco",
        "other_encoders": ("open_clip:ViT-B-32/openai",),
    },
    # Public models of 2024 and 2025, for a GPU: a download of 9.3 GB. The captioner has 1.9 GB,
    # no need of further packages, and a published answer to check it against.
    "modern": {
        **_PHOTOGRAPHS,
        "proposal_network": "hf:facebook/sam2.1-hiera-large",
        "captioner": "hf:OpenGVLab/InternVL3-1B-hf",
        "num_beams": 1,  # chat models are made for greedy decoding or sampling
        "precision": "half",
        "batch_size": 16,
        "encoders": ("open_clip:ViT-SO400M-16-SigLIP2-384/webli",),
        "spacy_model": "en_core_web_trf",
        "other_network": "hf:facebook/sam2.1-hiera-tiny",
        "other_captioner": "git:microsoft/git-base-coco",
        "other_encoders": ("open_clip:ViT-B-32/openai",),
    },
}
"""Profile -> the defaults of `Settings` that it changes."""

RECIPES: dict[str, dict[str, Any]] = {
    # The paper's text; where it gives no details, the authors' code.
    "published": {},
    # The authors' code wherever it differs; each difference is a setting of its own.
    "released": {
        "areas_of": None,  # 2,000 and 800 pixels whatever the image's size
        "subset_overlap": 0.4,
        "crop_rule": "released",
        "negative_rule": "released",
        "rectifier_rule": "released",
        "lam_g": 0.7,
    },
    # Beyond the paper, without training: each choice is a setting of its own. The weights are round
    # numbers, fixed on development scenes and, for places, on RefCOCO's validation expressions.
    "extended": {
        "rectifier_rule": "places",
        "places_weight": 0.3,
        "relation_weight": 0.2,
        "size_prior": 0.1,
        "clip_input": "both",
        "noun_share": 0.5,
        "lam": 0.3,
        "lam_g": 0.3,
    },
}
"""Recipe -> the settings that it changes; it takes precedence over the profile."""


def title(dataset: str, among: Iterable[str] = ()) -> str:
    """The name of a dataset in tables: "RefScenes+", or the folder of a user's own dataset.

    Args:
        among: Datasets from which it must be distinguished; if two folders have the same name,
            their parents are included, as in "v1/pets" and "v2/pets".
    """
    if dataset in DATASETS:
        return DATASETS[dataset].title
    others = [other for other in among if other != dataset]
    taken = {n.casefold() for d in others if d in DATASETS for n in (d, DATASETS[d].title)}
    parts = Path(dataset).parts
    for count in range(1, len(parts)):
        name = "/".join(parts[-count:])
        same = {"/".join(Path(d).parts[-count:]).casefold() for d in others if d not in DATASETS}
        if name.casefold() not in taken | same:
            return name
    return dataset


def stem(dataset: str, among: Iterable[str] = ()) -> str:
    """The name of a dataset in file names: "refscenes+", or ``title`` for a user's own."""
    return dataset if dataset in DATASETS else file_part(title(dataset, among).replace("/", "-"))


def file_part(text: str) -> str:
    """A text for use in a file name: unchanged if it is safe, else shortened, with a digest."""
    if re.fullmatch(r"[\w(+][\w.()+ -]*", text) and len(text.encode()) <= 80:
        return text
    slug = re.sub(r"[^\w.()+ -]+", "-", text).lstrip(". -")[:20]
    return f"{slug}-{short_digest(text)}".lstrip("-")


def short_digest(*texts: str) -> str:
    """Six hex digits that identify texts."""
    joined = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:6]


def counterpart(dataset: str) -> str:
    """The paper's dataset that a dataset is or is the counterpart of; "" for a user's own."""
    return DATASETS[dataset].paper if dataset in DATASETS else ""


def is_long(dataset: str) -> bool:
    """Whether a dataset is RefCOCOg or its counterpart, whose expressions are long."""
    return counterpart(dataset) == "RefCOCOg"


def has_places(dataset: str) -> bool:
    """Whether expressions may contain location words; those of RefCOCO+ must not."""
    return counterpart(dataset) != "RefCOCO+"


def is_phrases(dataset: str) -> bool:
    """Whether a dataset is PhraseCut or its counterpart (Table 2 instead of Table 1)."""
    return counterpart(dataset) == "PhraseCut"
