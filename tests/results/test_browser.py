"""Pages of sentences: outlines cover their masks, pages hold every sentence and find the images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasnb import Pipeline
from tasnb.results import browser
from tasnb.settings import make_settings


def filled(path: str, height: int, width: int, scale: int = 8) -> np.ndarray:
    """The pixels inside an SVG path, as a browser fills it by the even-odd rule."""
    lines = [
        np.array([[float(v) for v in point.split()] for point in part.split("L")])
        for part in re.findall(r"M([^Z]+)Z", path)
    ]
    canvas = np.zeros((height * scale, width * scale), np.uint8)
    cv2.fillPoly(canvas, [np.rint(line * scale).astype(np.int32) for line in lines], 1)
    return canvas[scale // 2 :: scale, scale // 2 :: scale].astype(bool)


def test_outlines_cover_their_masks() -> None:
    y, x = np.mgrid[:60, :80]
    disc = (x - 30) ** 2 + (y - 25) ** 2 < 400
    ring = disc & ((x - 30) ** 2 + (y - 25) ** 2 >= 120)
    two = disc | ((x > 60) & (y > 40))
    for mask in (disc, ring, two):
        found = filled(browser.outline(mask), 60, 80)
        assert (found & mask).sum() / (found | mask).sum() > 0.93
    assert not filled(browser.outline(ring), 60, 80)[25, 30]  # the hole stays open
    assert browser.outline(np.zeros((5, 5), bool)) == ""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(
        make_settings(
            datasets=["refscenes"],
            splits=["val"],
            limit=2,
            encoders=["open_clip:embedded/clip-vit"],
            out=str(tmp_path_factory.mktemp("run")),
        )
    )


def content_of(page: Path) -> dict:
    text = page.read_text()
    script = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)
    return json.loads(script[1])


def test_a_page_holds_every_sentence_and_finds_its_picture(pipeline: Pipeline) -> None:
    (page,) = browser.save(pipeline)
    assert page == pipeline.settings.out / "results" / "refscenes-val-clip-vit.html"
    content = content_of(page)
    split = pipeline.split("refscenes", "val")
    assert [row["sentence"] for row in content["rows"]] == split.sentences["sentence"].tolist()
    assert content["title"] == "RefScenes val, clip-vit"
    for row in content["rows"]:
        image = content["images"][row["image"]]
        assert (page.parent / image["file"]).resolve() == split.images[row["image"]].resolve()
        assert str(row["truth"]) in content["truths"]
        assert all(mask == -1 or str(mask) in image["masks"] for mask in row["masks"])
        assert 0 <= row["tas"] <= row["best"] + 0.01
    covered = filled(content["truths"][str(content["rows"][0]["truth"])], 240, 320)
    truth = split.ground_truth(0)
    covered = covered[: truth.shape[0], : truth.shape[1]]
    assert (covered & truth).sum() / (covered | truth).sum() > 0.9


def test_no_text_ends_the_script(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser.shown, "provenance", lambda _: "</script><b>")
    (page,) = browser.save(pipeline)
    assert content_of(page)["about"] == "</script><b>"
