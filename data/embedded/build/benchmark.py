"""Writes RefScenes: images, annotations and expressions in the REFER layout.

    python benchmark.py --pictures ~/fluent-emoji-3d/assets --out data/embedded
    python benchmark.py --pictures ... --out runs/dev --development

The second command makes the same splits from other seeds, and adds phrases without a target to
phrasescenes. The difficulty of the benchmark was tuned on these only, and the evaluation splits are
generated once. The seeds of training scenes start far above both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from expressions import STYLES, Writer, targets
from pictures import VOCABULARY
from pycocotools import mask as coco_mask
from scenes import Composer, Object, Scene
from tqdm import tqdm

DEVELOPMENT_SEEDS = 500_000  # added to every seed of a development set
REFS, SENTENCES = 3, 3  # largest number of refs per image, and of sentences per ref
ABSENT = 2  # phrases without a target per development scene


@dataclass(frozen=True)
class Part:
    """A set of images: its first seed, the share of people, and the objects to refer to."""

    first_seed: int
    images: int
    people: float | None
    wanted: Callable[[Object], bool]


def anything(thing: Object) -> bool:
    return True


def is_person(thing: Object) -> bool:
    return thing.look.kind == "person"


def is_no_person(thing: Object) -> bool:
    return thing.look.kind != "person"


PARTS = {
    "val": Part(10_000, 80, None, anything),
    "testA": Part(20_000, 80, 1.0, is_person),
    "testB": Part(30_000, 80, 0.0, is_no_person),
    "gval": Part(40_000, 84, None, anything),
    "gtest": Part(50_000, 84, None, anything),
    "phrase": Part(60_000, 80, None, anything),
}
# dataset, split_by, split, parts. As in the real datasets, RefCOCO and RefCOCO+ share images and
# splits, and Google's partition of RefCOCOg divides objects, not images.
COLUMNS = [
    ("refscenes", "unc", "val", ("val",)),
    ("refscenes", "unc", "testA", ("testA",)),
    ("refscenes", "unc", "testB", ("testB",)),
    ("refscenes+", "unc", "val", ("val",)),
    ("refscenes+", "unc", "testA", ("testA",)),
    ("refscenes+", "unc", "testB", ("testB",)),
    ("refscenesg", "umd", "val", ("gval",)),
    ("refscenesg", "umd", "test", ("gtest",)),
    ("refscenesg", "google", "test", ("gval", "gtest")),
    ("phrasescenes", "phrasecut", "test", ("phrase",)),
]


class Benchmark:
    """Generates images, annotations and refs, and writes them."""

    def __init__(self, pictures: Path, out: Path, offset: int) -> None:
        self.out, self.offset = out, offset
        self.pictures = pictures
        self.images: dict[str, list[tuple[int, Scene]]] = {}
        self.annotation_ids: dict[tuple[int, int], int] = {}

    def render(self) -> None:
        """Composes and writes the images of all parts; image ids start at 1."""
        folder = self.out / "images"
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in PARTS.items():
            composer = Composer(self.pictures, unseen=True, people=part.people)
            kept: list[tuple[int, Scene]] = []
            seed = part.first_seed + self.offset
            with tqdm(total=part.images, desc=name) as bar:
                while len(kept) < part.images:
                    scene = composer.scene(seed)
                    seed += 1
                    if self._rich(scene, name):
                        image_id = 1 + sum(map(len, self.images.values())) + len(kept)
                        bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
                        path = folder / f"{image_id:06d}.jpg"
                        cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])
                        kept.append((image_id, scene))
                        bar.update()
            self.images[name] = kept

    def _rich(self, scene: Scene, name: str) -> bool:
        """Whether at least two objects can be referred to in every dataset that uses the part."""
        styles = {c[0] for c in COLUMNS if name in c[3]}
        return all(len(list(self._refs(scene, name, style))) >= 2 for style in styles)

    def _refs(self, scene: Scene, name: str, dataset: str, skip: int = 0):
        """(target objects, sentences) of up to REFS refs in a scene."""
        style = STYLES[dataset]
        rng = np.random.default_rng([scene.seed, *dataset.encode(), skip])
        writer = Writer(scene, style, rng)
        made, used = 0, set()
        for target in list(targets(scene, PARTS[name].wanted))[skip:]:
            if made == REFS:
                return
            if style.several:
                for text, meant in writer.phrases(target, 2).items():
                    if text not in used and min(scene.objects[i].share for i in meant) >= 0.01:
                        used.add(text)
                        yield meant, [text]
                        made += bool(meant)
                continue
            sentences = writer.sentences(target, SENTENCES)
            if len(sentences) >= 2:
                made += 1
                yield [target], sentences

    def write(self) -> None:
        """Writes every dataset's ``instances.json`` and ``refs(...).json``."""
        category = {noun: i for i, noun in enumerate(VOCABULARY["nouns"], start=1)}
        for dataset in dict.fromkeys(column[0] for column in COLUMNS):
            folder = self.out / dataset
            folder.mkdir(parents=True, exist_ok=True)
            parts = dict.fromkeys(p for c in COLUMNS if c[0] == dataset for p in c[3])
            images, annotations, ids = [], [], {}
            for image_id, scene in (pair for part in parts for pair in self.images[part]):
                height, width = scene.image.shape[:2]
                images.append(
                    {
                        "id": image_id,
                        "file_name": f"{image_id:06d}.jpg",
                        "width": width,
                        "height": height,
                        "seed": scene.seed,
                    }
                )
                for number, thing in enumerate(scene.objects):
                    ids[image_id, number] = len(annotations) + 1
                    annotations.append(_annotation(thing, len(annotations) + 1, image_id, category))
            instances = {
                "info": {"description": f"RefScenes: {dataset}", "license": "MIT"},
                "images": images,
                "annotations": annotations,
                "categories": [{"id": i, "name": noun} for noun, i in category.items()],
            }
            _write_json(folder / "instances.json", instances)
            refs: dict[str, list[dict]] = {}
            for name, split_by, split, members in COLUMNS:
                if name == dataset:
                    self._write_refs(dataset, split, split_by, members, ids, category, refs)
            for split_by, rows in refs.items():
                _write_json(folder / f"refs({split_by}).json", rows)

    def _write_refs(self, dataset, split, split_by, members, ids, category, refs) -> None:
        rows = refs.setdefault(split_by, [])
        sent_id = sum(len(row["sentences"]) for row in rows)
        google = split_by == "google"
        for part in members:
            pairs = (
                self.images[part][: len(self.images[part]) // 2 + 1]
                if google
                else self.images[part]
            )
            for image_id, scene in pairs:
                for meant, sentences in self._refs(scene, part, dataset, skip=1 if google else 0):
                    row = {
                        "ref_id": len(rows) + 1,
                        "ann_id": ids[image_id, meant[0]],
                        "category_id": category[scene.objects[meant[0]].look.noun],
                        "image_id": image_id,
                        "split": split,
                        "sent_ids": list(range(sent_id, sent_id + len(sentences))),
                        "sentences": [
                            {
                                "raw": text,
                                "sent": text,
                                "sent_id": sent_id + k,
                                "tokens": text.split(),
                            }
                            for k, text in enumerate(sentences)
                        ],
                    }
                    if STYLES[dataset].several:
                        row["ann_ids"] = [ids[image_id, i] for i in meant]
                    sent_id += len(sentences)
                    rows.append(row)
            if STYLES[dataset].several and self.offset:
                rows += self._absent(dataset, split, part, len(rows), sent_id)

    def _absent(self, dataset: str, split: str, part: str, refs: int, sent_id: int) -> list[dict]:
        """Refs in gRefCOCO's layout whose phrases are true of nothing in their image."""
        scenes = self.images[part]
        writers = []
        for _, scene in scenes:
            rng = np.random.default_rng([scene.seed, *b"absent"])
            writers.append(Writer(scene, STYLES[dataset], rng))
        rows: list[dict] = []
        for number, (image_id, _) in enumerate(scenes):
            strangers = [w for k, w in enumerate(writers) if k != number]
            for text in writers[number].absent(strangers, ABSENT):
                key = sent_id + len(rows)
                sentence = {"raw": text, "sent": text, "sent_id": key, "tokens": text.split()}
                rows.append(
                    {
                        "ref_id": refs + len(rows) + 1,
                        "ann_id": [-1],
                        "category_id": [-1],
                        "no_target": True,
                        "image_id": image_id,
                        "split": split,
                        "sent_ids": [key],
                        "sentences": [sentence],
                    }
                )
        return rows


def _annotation(thing: Object, number: int, image_id: int, category: dict[str, int]) -> dict:
    rle = coco_mask.encode(np.asfortranarray(thing.mask.astype(np.uint8)))
    attributes = asdict(thing.look)
    for name in ("size", "paints"):
        del attributes[name]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category[thing.look.noun],
        "bbox": [int(v) for v in coco_mask.toBbox(rle)],
        "area": thing.area,
        "iscrowd": 0,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
        "attributes": {
            **attributes,
            "colour": thing.colour,
            "layer": thing.layer,
            "visible": round(thing.area / thing.whole_area, 3),
        },
    }


def _write_json(path: Path, content: object) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    temporary.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True, help="the emoji package's assets/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--development", action="store_true", help="make development scenes, for tuning"
    )
    args = parser.parse_args()
    benchmark = Benchmark(args.pictures, args.out, DEVELOPMENT_SEEDS if args.development else 0)
    benchmark.render()
    benchmark.write()


if __name__ == "__main__":
    main()
