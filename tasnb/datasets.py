"""Images, expressions and ground truth: RefCOCO and its kin in the REFER layout, and PhraseCut."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.images import image_key
from tasnb.profiles import DATASETS, PROFILES, REFER, Dataset, counterpart
from tasnb.settings import InputError, Settings, unknown


@dataclass(frozen=True)
class Split:
    """One column of the tables.

    Attributes:
        dataset, split: Such as "refscenes" and "testA".
        sentences: A row a sentence: sent_id, sentence, ref_id, image (key), target (its category's
            name), ground_truth (compressed COCO RLE, bytes), truth_area (pixels), share (of the
            image that it covers).
        images: Image key -> path of the file.
    """

    dataset: str
    split: str
    sentences: pd.DataFrame
    images: dict[str, Path]

    def ground_truth(self, row: int) -> npt.NDArray[np.bool_]:
        """The mask (H, W) that the row-th sentence means."""
        truth = self.sentences.iloc[row]
        size = [int(truth["height"]), int(truth["width"])]
        return coco_mask.decode({"size": size, "counts": truth["ground_truth"]}).astype(bool)


def columns(settings: Settings) -> list[tuple[str, str]]:
    """The (dataset, split) pairs of a run, in the order of the paper's tables.

    Raises:
        InputError: A user's own dataset cannot be read, or has none of the splits asked for.
    """
    found = []
    for dataset in settings.datasets:
        there = list(_described(dataset).splits)
        if dataset not in DATASETS and not settings.splits and len(there) > 1:
            there = [split for split in there if split != "train"]
        found += [(dataset, s) for s in there if not settings.splits or s in settings.splits]
    if not found:
        known = dict.fromkeys(s for d in settings.datasets for s in _described(d).splits)
        raise unknown("split", settings.splits[0], known)
    return found


def stand_in(settings: Settings, paper: str, split: str) -> tuple[str, str]:
    """The column that is, or stands for, one of the paper's: of the run, or else of its profile.

    A run on nothing but datasets of one's own has no such column; its first one is taken.
    """
    own = [dataset for dataset in settings.datasets if dataset not in DATASETS]
    if len(own) == len(settings.datasets):
        return columns(settings)[0]
    known = (*settings.datasets, *PROFILES[settings.profile]["datasets"])
    return next(dataset for dataset in known if counterpart(dataset) == paper), split


def ablated(settings: Settings) -> tuple[str, str]:
    """The column of the paper's ablations, RefCOCO val."""
    return stand_in(settings, "RefCOCO", "val")


def load_split(settings: Settings, dataset: str, split: str) -> Split:
    """Reads one split, the first ``settings.limit`` images of it.

    Args:
        dataset: One of ``DATASETS``, or the path of a folder in the REFER layout.
        split: As the tables call it.

    Raises:
        InputError: The dataset or split is unknown, a file is missing or is not what it should, or
            a split is not of the size that it was published with.
    """
    described = _described(dataset)
    if split not in described.splits:
        raise unknown(f"split of {described.title}", split, described.splits)
    folder = settings.data / described.folder
    try:
        return _load_split(settings, dataset, described, split)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{folder} is not in the REFER layout ({error!r}); {_mend(folder)}"
        ) from None


def _described(dataset: str) -> Dataset:
    """What is known of a dataset; of a user's own, what its files of refs say."""
    if dataset in DATASETS:
        return DATASETS[dataset]
    folder = Path(dataset)
    if not folder.is_dir():
        raise unknown("dataset", dataset, DATASETS)
    files = sorted([*folder.glob("refs(*).p"), *folder.glob("refs(*).json")])
    if not files:
        raise InputError(f"{folder} has no refs(...).json or refs(...).p in it")
    splits: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys(file.stem[len("refs(") : -1] for file in files):
        try:
            inside = dict.fromkeys(str(ref["split"]) for ref in _read_refs(folder, name))
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder}/refs({name}) is no list of refs ({error!r})") from None
        for split in inside:
            splits[f"{split}({name})" if split in splits else split] = (name, split)
    images = ("images", "train2014", "../images/train2014", "../images", ".")
    return Dataset("", folder.name, str(folder), images, splits)


def _load_split(settings: Settings, dataset: str, described: Dataset, split: str) -> Split:
    folder = settings.data / described.folder
    which, inside = described.splits[split]
    if which == REFER:
        refs = list(_phrases(_read(folder / f"refer_{inside}.json")))
    else:
        refs = [ref for ref in _read_refs(folder, which) if ref["split"] == inside]
    order = dict.fromkeys(ref["image_id"] for ref in refs)
    counts = (len(refs), sum(len(ref["sentences"]) for ref in refs), len(order))
    _check_size(f"{described.title} {split}", counts, described.sizes.get(split), folder)
    chosen = list(order)[: settings.limit]
    pictures = _image_folder(settings, described)
    if which == REFER:
        images = {i: _picture(pictures / f"{i}.jpg") for i in chosen}
    else:
        instances = _read(folder / "instances.json")
        images = {row["id"]: row for row in instances["images"]}
        names = {row["id"]: row["name"] for row in instances["categories"]}
        annotations = {row["id"]: row for row in instances["annotations"]}
    paths = {i: pictures / images[i]["file_name"] for i in chosen}
    keys = {i: image_key(path) for i, path in paths.items()}
    rows = []
    for ref in refs:
        if ref["image_id"] not in keys:
            continue
        height, width = images[ref["image_id"]]["height"], images[ref["image_id"]]["width"]
        if which == REFER:
            target, truth = ref["target"], _drawn(ref["polygons"], height, width)
        else:
            target = names[ref["category_id"]]
            meant = [annotations[i] for i in ref.get("ann_ids", [ref.get("ann_id")])]
            truth = coco_mask.merge([_to_rle(a, height, width) for a in meant])
        for sentence in ref["sentences"]:
            rows.append(
                {
                    "sent_id": sentence["sent_id"],
                    "sentence": sentence["sent"],
                    "ref_id": ref["ref_id"],
                    "image": keys[ref["image_id"]],
                    "height": height,
                    "width": width,
                    "target": target,
                    "ground_truth": truth["counts"],
                    "truth_area": int(coco_mask.area(truth)),
                    "share": coco_mask.area(truth) / (height * width),
                }
            )
    if not rows:
        raise InputError(f"{described.title} {split} holds no sentences; is data/ complete?")
    frame = pd.DataFrame(rows).sort_values("image", kind="stable", ignore_index=True)
    return Split(dataset, split, frame, {keys[i]: paths[i] for i in sorted(keys, key=keys.get)})


def _check_size(
    column: str,
    found: tuple[int, ...],
    published: tuple[int | None, ...] | None,
    folder: Path,
) -> None:
    """Numbers on another partition cannot be held against the paper's."""
    for what, ours, theirs in zip(
        ("refs", "sentences", "images"), found, published or (), strict=False
    ):
        if theirs is not None and ours != theirs:
            raise InputError(
                f"{column} in {folder} has {ours} {what}, as published it has {theirs}: this is "
                "another partition or a part of it; fetch it anew, or name the folder as a "
                f"dataset of your own, --datasets {folder}"
            )


def _image_folder(settings: Settings, described: Dataset) -> Path:
    root = Path(described.folder if not described.paper else "")
    places = [settings.data / root / place for place in described.images]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise InputError(
            f"{places[0]} is missing, the images of {described.title}; {_mend(places[0])}"
        )
    return found


def _mend(path: Path) -> str:
    """What to do about a file of a dataset that is missing or broken."""
    if "embedded" in path.parts:
        return "restore it with `git checkout -- data`"
    known = {**dict.fromkeys(DATASETS), "train2014": "coco-train2014"}
    known["visual_genome"] = "visual-genome"
    item = next((known[part] or part for part in reversed(path.parts) if part in known), "--list")
    return f"`python -m tasnb fetch {item}`"


def _read_refs(folder: Path, split_by: str) -> list[dict[str, Any]]:
    """``refs(<split_by>)`` as JSON, or as the pickle in which RefCOCO is published."""
    path = folder / f"refs({split_by}).json"
    pickled = path.with_suffix(".p")
    return _read(pickled if pickled.is_file() and not path.is_file() else path)


class _Plain(pickle.Unpickler):
    """Reads containers, strings and numbers; what would load code is refused.

    A pickle can call any function while it is read, and files of refs come from anywhere.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it would load {module}.{name}")


def read_pickle(path: Path) -> Any:
    """A pickle of plain containers, strings and numbers, of Python 3 or 2.

    Raises:
        InputError: There is anything else in it, or it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Plain(file, encoding="utf-8", errors="replace").load()
    except Exception as error:  # a damaged pickle may raise any
        raise InputError(
            f"{path} is no pickle of plain data ({str(error) or type(error).__name__}); it was not "
            "run, fetch it again from a source that you trust"
        ) from None


def _phrases(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """PhraseCut's tasks as refs of one sentence each."""
    for task in tasks:
        yield {
            "ref_id": task["task_id"],
            "image_id": task["image_id"],
            "target": task["phrase_structure"]["name"],
            "polygons": [polygon for instance in task["Polygons"] for polygon in instance],
            "sentences": [{"sent_id": task["task_id"], "sent": task["phrase"]}],
        }


def _picture(path: Path) -> dict[str, Any]:
    """What ``instances.json`` says of an image where there is none, read off its header."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return {"file_name": path.name, "width": image.width, "height": image.height}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def _drawn(polygons: list[Any], height: int, width: int) -> dict[str, Any]:
    """All polygons of a phrase as one mask, as PhraseCut's authors fill them: corners cut to whole
    pixels, outlines drawn."""
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        draw.polygon([(int(x), int(y)) for x, y in polygon], fill=1, outline=1)
    return coco_mask.encode(np.asfortranarray(canvas, dtype=np.uint8))


def _to_rle(annotation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """COCO's three ways to write a mask (polygons, counts, compressed) as one compressed RLE."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return {"size": segmentation["size"], "counts": segmentation["counts"].encode()}


def _read(path: Path) -> Any:
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {_mend(path)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error}); {_mend(path)}") from None


@lru_cache(maxsize=16)
def _parsed(path: Path, _changed: int) -> Any:
    """A file of refs or instances, read once until it changes."""
    return read_pickle(path) if path.suffix == ".p" else json.loads(path.read_text())
