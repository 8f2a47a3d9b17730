"""Images, expressions and ground truth, read from the REFER layout."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_mask

from tasnb.settings import InputError, Settings, unknown

# (dataset, split as the tables call it) -> (file of refs, split inside it)
REFS: dict[str, dict[str, tuple[str, str]]] = {
    "refscenes": {s: ("unc", s) for s in ("val", "testA", "testB")},
    "refscenes+": {s: ("unc", s) for s in ("val", "testA", "testB")},
    "refscenesg": {
        "val(U)": ("umd", "val"),
        "test(U)": ("umd", "test"),
        "test(G)": ("google", "test"),
    },
    "phrasescenes": {"test": ("phrasecut", "test")},
}


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


def load_split(settings: Settings, dataset: str, split: str) -> Split:
    """Reads one split, the first ``settings.limit`` images of it.

    Raises:
        InputError: The dataset or split is unknown, or a file is missing or is not what it should.
    """
    if dataset not in REFS:
        raise unknown("dataset", dataset, REFS)
    if split not in REFS[dataset]:
        raise unknown(f"split of {dataset}", split, REFS[dataset])
    try:
        return _load_split(settings, dataset, split)
    except (KeyError, TypeError, AttributeError) as error:
        folder = settings.data / "embedded" / dataset
        raise InputError(
            f"{folder} is not in the REFER layout ({error!r}); restore it with "
            "`git checkout -- data`"
        ) from None


def _load_split(settings: Settings, dataset: str, split: str) -> Split:
    split_by, inside = REFS[dataset][split]
    root = settings.data / "embedded"
    instances = _read_json(root / dataset / "instances.json")
    images = {row["id"]: row for row in instances["images"]}
    names = {row["id"]: row["name"] for row in instances["categories"]}
    annotations = {row["id"]: row for row in instances["annotations"]}
    refs = [ref for ref in _read_refs(root / dataset, split_by) if ref["split"] == inside]
    order = dict.fromkeys(ref["image_id"] for ref in refs)
    chosen = list(order)[: settings.limit]
    paths = {i: root / "images" / images[i]["file_name"] for i in chosen}
    keys = {i: image_key(path) for i, path in paths.items()}
    rows = []
    for ref in refs:
        if ref["image_id"] not in keys:
            continue
        image = images[ref["image_id"]]
        meant = [annotations[i] for i in ref.get("ann_ids", [ref["ann_id"]])]
        truth = coco_mask.merge([_to_rle(a, image["height"], image["width"]) for a in meant])
        for sentence in ref["sentences"]:
            rows.append(
                {
                    "sent_id": sentence["sent_id"],
                    "sentence": sentence["sent"],
                    "ref_id": ref["ref_id"],
                    "image": keys[ref["image_id"]],
                    "height": image["height"],
                    "width": image["width"],
                    "target": names[ref["category_id"]],
                    "ground_truth": truth["counts"],
                    "truth_area": int(coco_mask.area(truth)),
                    "share": coco_mask.area(truth) / (image["height"] * image["width"]),
                }
            )
    if not rows:
        raise InputError(f"{dataset} {split} holds no sentences; is data/ complete?")
    frame = pd.DataFrame(rows).sort_values("image", kind="stable", ignore_index=True)
    return Split(dataset, split, frame, {keys[i]: paths[i] for i in sorted(keys, key=keys.get)})


def _read_refs(folder: Path, split_by: str) -> list[dict[str, Any]]:
    """``refs(<split_by>)`` as JSON, or as the pickle in which RefCOCO is published."""
    path = folder / f"refs({split_by}).json"
    pickled = path.with_suffix(".p")
    return read_pickle(pickled) if pickled.is_file() and not path.is_file() else _read_json(path)


class _Plain(pickle.Unpickler):
    """Reads containers, strings and numbers; what would load code is refused.

    A pickle can call any function while it is read, and files of refs come from anywhere.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it would load {module}.{name}")


@lru_cache(maxsize=16)
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


def _to_rle(annotation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """COCO's three ways to write a mask (polygons, counts, compressed) as one compressed RLE."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return {"size": segmentation["size"], "counts": segmentation["counts"].encode()}


@lru_cache(maxsize=16)
def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing; restore it with `git checkout -- data`") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error}); restore it from the repository") from None


@lru_cache(maxsize=100_000)
def image_key(path: Path) -> str:
    """The name by which stored results know an image: its stem and a digest of its bytes.

    The stem keeps keys in the dataset's order, the digest makes a changed image a new one.
    """
    try:
        return f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def load_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """An image file of any usual kind as RGB.

    Grey, palette, CMYK, 16-bit and transparent images are converted (transparent parts on white),
    and a camera's rotation note (EXIF) is obeyed.

    Returns:
        uint8 (H, W, 3).

    Raises:
        InputError: The file is missing, empty, truncated or no image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no image file at {path}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    try:
        with Image.open(path) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that Pillow can read") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path} has too many pixels; scale it down first") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on broken files
        raise InputError(f"{path} is truncated or damaged: {error}") from None


def to_rgb(image: Any) -> npt.NDArray[np.uint8]:
    """A Pillow image of any mode as RGB uint8 (H, W, 3)."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel: Pillow's own conversion clips
        values = np.asarray(image, dtype=np.float64)
        wide = image.mode.startswith("I;16") or values.max() > 255
        top = 65535.0 if wide else 255.0
        grey = np.clip(values / top * 255, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return np.array(image.convert("RGB"))
