"""PhraseCut's layout: one file of phrases with their polygons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from tasnb.datasets.expressions import check_expression
from tasnb.datasets.layout import Picture
from tasnb.datasets.reading import read
from tasnb.datasets.segmentations import Rle, polygon_corners


class PhraseCut:
    """``refer_<split>.json``: refs of one sentence each, with their own polygons."""

    def __init__(self, folder: Path, split: str) -> None:
        self._file = folder / f"refer_{split}.json"
        self.refs = [self._ref(task) for task in read(self._file)]

    def _ref(self, task: Mapping[str, Any]) -> dict[str, Any]:
        owner = f"{self._file}: the phrase of task {task['task_id']}"
        return {
            "ref_id": task["task_id"],
            "image_id": task["image_id"],
            "target": task["phrase_structure"]["name"],
            "instances": len(task["Polygons"]),
            "polygons": [polygon for instance in task["Polygons"] for polygon in instance],
            "sentences": [
                {"sent_id": task["task_id"], "sent": check_expression(task["phrase"], owner)}
            ],
        }

    def picture(self, image_id: int) -> Picture:
        return Picture(f"{image_id}.jpg")

    def target(self, ref: Mapping[str, Any]) -> str:
        return str(ref["target"])

    def count(self, ref: Mapping[str, Any]) -> int:
        return int(ref["instances"])

    def names(self, ref: Mapping[str, Any]) -> tuple[str, ...]:
        return (self.target(ref),)

    def things(self, image_id: int) -> list[tuple[str, ...]]:
        return []  # nothing is annotated but the targets of the phrases

    def truth(self, ref: Mapping[str, Any], height: int, width: int) -> Rle:
        """All polygons of a phrase as one mask, drawn as PhraseCut's authors do.

        Coordinates are truncated to integers and outlines are drawn. A polygon of two points is a
        line; a polygon of one point is ignored.
        """
        from PIL import Image, ImageDraw

        owner = f"{self._file}: task {ref['ref_id']}"
        canvas = Image.new("1", (width, height))
        draw = ImageDraw.Draw(canvas)
        for polygon in ref["polygons"]:
            corners = polygon_corners(polygon, height, width, owner, pairs=True)
            if len(corners) > 1:
                whole = [(int(x), int(y)) for x, y in corners.tolist()]
                draw.polygon(whole, fill=1, outline=1)
        return coco_mask.encode(np.asfortranarray(canvas, dtype=np.uint8))
