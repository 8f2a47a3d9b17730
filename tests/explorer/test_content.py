"""The explorer's data: its scores are those of ``segment``, its outlines those of the masks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from outlines import agreement, inside_of
from pycocotools import mask as coco_mask
from views import first_views, rows_of

import tasnb
from tasnb.explorer import content
from tasnb.explorer.content import View, Views
from tasnb.settings import short

NOTHING = {"pred_iou_thresh": 1.0, "stability_score_thresh": 1.0}  # reached by no proposal


def decoded(mask: View) -> np.ndarray:
    return coco_mask.decode(mask["rle"]).astype(bool)


@pytest.mark.parametrize("at", [0, -1])
def test_scores_are_those_of_segment(view: View, views: Views, at: int) -> None:
    settings, expression = views.settings, view["expressions"][at]
    image = next(iter(views.split.images.values()))
    for name in settings.encoders:
        own = {"store": str(settings.store), "encoders": [name]}
        found = tasnb.segment(image, expression["text"], **own)
        frame = found.frame
        assert [mask["id"] for mask in view["masks"]] == frame["mask_id"].tolist()
        for score, form in (("V", "crop"), ("P", "blur"), ("N", "crop")):
            shown = expression["scores"][score][f"{short(name)} {form}"]
            np.testing.assert_allclose(shown, frame[score], rtol=0, atol=1e-6)
        kept = expression["inside"] if any(expression["inside"]) else [True] * len(frame)
        assert kept == frame["kept"].tolist()
        assert view["captions"]["blur"] == frame["caption"].tolist()
        centers = [mask["center"] for mask in view["masks"]]
        np.testing.assert_allclose(centers, frame[["center_x", "center_y"]], atol=0.01)
        chosen = view["masks"][frame["chosen"].to_numpy().argmax()]
        np.testing.assert_array_equal(decoded(chosen), found.mask)


def test_masks_and_ground_truth_are_drawn_where_they_are(view: View, views: Views) -> None:
    width, height = view["picture"]["size"]
    for mask in view["masks"]:
        whole = decoded(mask)
        drawn = inside_of(mask["outline"], height, width)
        assert agreement(drawn, whole) > 0.85, mask["id"]
        rows, columns = np.nonzero(whole)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert mask["box"] == box and mask["area"] == pytest.approx(whole.mean(), abs=1e-5)
    for row, expression in enumerate(view["expressions"]):
        truth = views.split.ground_truth(row)
        assert agreement(inside_of(expression["truth"]["outline"], height, width), truth) > 0.9
        iou = [agreement(decoded(mask), truth) for mask in view["masks"]]
        np.testing.assert_allclose(expression["truth"]["iou"], iou, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_outlines_have_holes_and_parts(scale: float) -> None:
    y, x = np.mgrid[:120, :160]
    far = (x - 60) ** 2 + (y - 50) ** 2
    ring = (far < 1600) & (far >= 480)
    two = ring | ((x > 120) & (y > 80))
    size = round(120 * scale), round(160 * scale)
    for mask in (ring, two, x >= 0):
        drawn = inside_of(content.outline(mask, scale), *size)
        wanted = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_AREA) > 0
        assert agreement(drawn, wanted) > 0.9
    hole = inside_of(content.outline(ring, scale), *size)
    assert not hole[round(50 * scale), round(60 * scale)]
    assert content.outline(np.zeros((5, 5), bool)) == ""
    single = np.zeros((5, 5), bool)
    single[2, 3] = True
    assert inside_of(content.outline(single), 5, 5)[2, 3]


def test_what_was_read_from_the_expressions(view: View, views: Views) -> None:
    for row, expression in enumerate(view["expressions"]):
        read = views.sentences.iloc[row]
        negative = [phrase["text"] for phrase in expression["phrases"] if phrase["negative"]]
        assert [text.lower() for text in negative] == [text.lower() for text in read["negatives"]]
        assert all(phrase["why"] for phrase in expression["phrases"])
        assert expression["subject"] == read["subject"]
        assert expression["orientation"] == read["orientation"]


def test_a_picture_without_masks(tmp_path: Path) -> None:
    views = first_views(tmp_path, **NOTHING, limit=1, num_beams=1, max_new_tokens=6)
    view = views.view(rows_of(views, 0))
    assert view["masks"] == [] and view["captions"] == {"blur": []}
    expression = view["expressions"][0]
    assert expression["inside"] == expression["truth"]["iou"] == []
    assert {
        tuple(values) for kind in expression["scores"].values() for values in kind.values()
    } == {()}
    assert json.loads(json.dumps(view, allow_nan=False)) == view


def test_it_begins_with_the_settings_weights(shared_store: Path) -> None:
    views = first_views(shared_store, alpha=0.4, lam=0.2)
    view = views.view([0])
    one = {"answers": "one", "several_share": 0.5, "least_evidence": 0.8}
    assert view["weights"] == {"alpha": 0.4, "lam": 0.2, **one}
    assert view["defaults"]["alpha"] == 0.1 and view["defaults"]["lam"] == 0.7


def test_a_brief_view_is_the_same_with_less(view: View, views: Views) -> None:
    brief = views.view(rows_of(views, 0), src="images/1.jpg", brief=True)
    assert brief["picture"] == {"src": "images/1.jpg", "size": view["picture"]["size"]}
    for mine, theirs in zip(brief["masks"], view["masks"], strict=True):
        assert mine == {name: value for name, value in theirs.items() if name != "rle"}
    for mine, theirs in zip(brief["expressions"], view["expressions"], strict=True):
        truth = {name: value for name, value in theirs["truth"].items() if name != "rle"}
        assert mine["truth"] == truth
        for kind, by_input in theirs["scores"].items():
            for name, values in by_input.items():
                np.testing.assert_allclose(mine["scores"][kind][name], values, atol=1e-5)


def test_the_format_is_documented(view: View) -> None:
    described = set(re.findall(r"``(\w+)``", content.__doc__))
    assert set(view) <= described
    for part in (view["masks"][0], view["expressions"][0], view["expressions"][0]["phrases"][0]):
        assert set(part) <= described
    assert view["format"] == content.FORMAT
