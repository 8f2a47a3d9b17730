"""Answers of any number of masks in the explorer: as Python chooses them, drawn, saved and told."""

from __future__ import annotations

import copy
import csv
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from explorer_page import OnlyStore
from PIL import Image
from pycocotools import mask as coco_mask
from views import first_views, rows_of

import tasnb
from tasnb.explorer.content import View, Views
from tasnb.explorer.page import page
from tasnb.method.answers import answers, mask_ids
from tasnb.segmentation.answer import NOTHING, apart
from tasnb.settings import make_settings, short

EVERY = {"answers": "any", "several_share": 0.0, "least_evidence": -10.0}
NONE = {"answers": "any", "least_evidence": 10.0}


@pytest.fixture(scope="module")
def any_views(shared_store: Path) -> Views:
    return first_views(shared_store, answers="any")


@pytest.fixture(scope="module")
def any_view(any_views: Views) -> View:
    return any_views.view(rows_of(any_views, 0))


def begun(view: View, **weights: object) -> View:
    """The view with other weights to begin with."""
    view = copy.deepcopy(view)
    view["weights"] |= weights
    return view


def decoded(masks: list[View]) -> np.ndarray:
    return np.array([coco_mask.decode(mask["rle"]) for mask in masks]).astype(bool)


def opened(browser: Browser, view: View, folder: Path, width: int = 1400) -> Browser:
    file = folder / "any.html"
    file.write_text(page(view), encoding="utf-8")
    browser.open(file, width)
    return browser


def legend(browser: Browser) -> str:
    return browser.text(".legend .chosen")


def test_evidence_is_that_of_segment(any_view: View, any_views: Views) -> None:
    settings, expression = any_views.settings, any_view["expressions"][0]
    image = next(iter(any_views.split.images.values()))
    for name in settings.encoders:
        own = {"store": str(settings.store), "encoders": [name], "answers": "any"}
        frame = tasnb.segment(image, expression["text"], **own).frame
        shown = expression["scores"]["E"][f"{short(name)} crop blur"]
        np.testing.assert_allclose(shown, frame["E"], rtol=0, atol=1e-6)
    assert any_view["weights"]["answers"] == "any"
    assert any_view["temperature"] == settings.temperature


def test_a_brief_view_has_what_is_needed_to_combine_masks(
    any_view: View, any_views: Views, views: Views
) -> None:
    brief = any_views.view(rows_of(any_views, 0), src="images/1.jpg", brief=True)
    assert brief["masks"] == any_view["masks"]
    truths = [[one["truth"] for one in each["expressions"]] for each in (brief, any_view)]
    assert truths[0] == truths[1] and all("rle" in truth for truth in truths[0])
    plain = views.view(rows_of(views, 0), src="images/1.jpg", brief=True)
    assert all(
        "E" not in one["scores"] and "rle" not in one["truth"] for one in plain["expressions"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["published", "extended"])
def test_the_answer_is_that_of_python(browser: Browser, shared_store: Path, recipe: str) -> None:
    """For all expressions of a picture, both encoders, and thresholds that split the answers."""
    browser.open("about:blank")
    views = first_views(shared_store, recipe=recipe, answers="any")
    rows = rows_of(views, 0)
    view, seen = views.view(rows), set()
    for name, table in views.tables.items():
        choice = {**view["choice"], "encoder": short(name)}
        total = table.total(views.settings.alpha, views.settings.lam)
        first = table.pairs["E"][table.choose(total, True)[rows]]
        middle = first.median() - 1e-4  # between the values, which are rounded in the view
        for share, least, rectify in ((0.0, -10, True), (0.4, middle, True),
                                      (0.4, middle, False), (1.0, -10, True)):  # fmt: skip
            weights = {**view["weights"], "P": True, "N": True, "rectifier": rectify}
            weights |= {"several_share": share, "least_evidence": least}
            changes = {"several_share": share, "least_evidence": least}
            own = make_settings(**{**views.settings.model_dump(), **changes})
            found = answers(table, total, own, rectify)
            score = table.placed(total) if rectify else total
            wanted = mask_ids(table, found, score)
            for row in rows:
                expression = view["expressions"][row]
                scores = browser.call("scoresOf", expression, choice)
                ranked = browser.call("ranked", scores, expression["inside"], weights)
                likely = browser.call("likelihoods", ranked, view["temperature"])
                evidence = browser.call("evidenceOf", expression, choice)
                answer = browser.call("answered", ranked, likely, evidence, weights)
                assert [view["masks"][k]["id"] for k in answer] == list(wanted[row])
                seen.add(min(len(answer), 2))
    assert seen == {0, 1, 2}  # none, one and several, or this says little


@pytest.mark.slow
def test_overlaps_of_several_masks(browser: Browser) -> None:
    browser.open("about:blank")
    random = np.random.default_rng(3)
    masks = random.random((4, 23, 31)) < np.array([0.0, 0.05, 0.5, 1.0])[:, None, None]
    rles = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    rles = [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in rles]
    for those in ([], [0], [1], [1, 2], [0, 1, 2], [2, 3]):
        for truth in range(4):
            whole = masks[those].any(0)
            union = (whole | masks[truth]).sum()
            wanted = (whole & masks[truth]).sum() / union if union else 0
            found = browser.call("iouOf", [rles[k] for k in those], rles[truth])
            assert found == pytest.approx(wanted)
    for pair in ((0.31, 0.8), (0.7996, 0.8), (0.8, 0.8)):
        assert browser.call("toldApart", *pair) == list(apart(*pair))


@pytest.mark.slow
@pytest.mark.parametrize(
    "weights",
    [
        {"several_share": 0.0, "least_evidence": -10},
        {"several_share": 0.3, "least_evidence": -10},
        {"several_share": 0.3, "least_evidence": -10, "rectifier": False},
        {"several_share": 0.0, "least_evidence": -10, "rectifier": False},
        {"least_evidence": 10},
        {"least_evidence": 10, "rectifier": False},
        {"answers": "one", "least_evidence": 10},
    ],
)
def test_the_code_gives_the_answer(
    browser: Browser, any_view: View, any_views: Views, weights: dict
) -> None:
    browser.open("about:blank")
    image = str(next(iter(any_views.split.images.values())).path)
    shown = {**any_view, "code": {**any_view["code"], "image": repr(image)}}
    weights = {**any_view["weights"], "P": True, "N": True, "rectifier": True, **weights}
    expression, choice = any_view["expressions"][0], any_view["choice"]
    code = browser.call("codeOf", shown, expression, choice, weights)
    found = eval(code, {"tasnb": OnlyStore(any_views.settings.store)})
    chosen = found.chosen if weights["rectifier"] else found.sort_values("S", ascending=False)
    ranked = browser.call("ranked", browser.call("scoresOf", expression, choice),
                          expression["inside"], weights)  # fmt: skip
    likely = browser.call("likelihoods", ranked, any_view["temperature"])
    evidence = browser.call("evidenceOf", expression, choice)
    answer = browser.call("answered", ranked, likely, evidence, weights)
    assert chosen["mask_id"].tolist() == [any_view["masks"][k]["id"] for k in answer]
    assert ("answers" in code) == (weights["answers"] == "any")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_from_one_to_several_to_none(
    browser: Browser, any_view: View, tmp_path: Path, width: int
) -> None:
    view = begun(any_view, answers="one", several_share=0.0, least_evidence=0.0)
    opened(browser, view, tmp_path, width)
    assert not browser.find(".slider:nth-of-type(3)").is_displayed()
    assert len(browser.all(".masks .chosen")) == len(browser.all("tbody .chosen")) == 1
    browser.named("several masks or none", ".switches label").click()
    assert browser.find(".slider:nth-of-type(3)").is_displayed() and browser.fits()
    kept = view["expressions"][0]["inside"]
    kept = np.array(kept) if any(kept) else np.ones(len(kept), bool)
    assert kept.sum() > 1
    assert len(browser.all(".masks .chosen")) == len(browser.all("tbody .chosen")) == kept.sum()
    assert len(browser.all(".numbers .chosen")) == kept.sum()
    truth = coco_mask.decode(view["expressions"][0]["truth"]["rle"]).astype(bool)
    whole = decoded(view["masks"])[kept].any(0)
    iou = (whole & truth).sum() / (whole | truth).sum()
    assert legend(browser).endswith(f" together, IoU {iou:.2f}")
    ids = {str(mask["id"]) for mask, yes in zip(view["masks"], kept, strict=True) if yes}
    told = legend(browser).partition("masks ")[2].partition(" together")[0]
    assert set(told.replace(" and ", ", ").split(", ")) == ids
    assert f"masks {told} are chosen" in browser.find(".picture").get_attribute("aria-label")

    view = begun(any_view, **NONE)
    opened(browser, view, tmp_path, width)
    assert not browser.all(".masks .chosen") and not browser.all("tbody .chosen")
    best = browser.find("tbody tr").get_attribute("data-mask")
    encoder = view["choice"]["encoder"]
    evidence = view["expressions"][0]["scores"]["E"][f"{encoder} crop blur"][int(best)]
    said = f"{apart(evidence, 10.0)[0]}, below 10.00".replace("-", "−")
    assert legend(browser).startswith("TAS: nothing in the picture fits: the evidence for the best")
    assert legend(browser).endswith(said)
    assert ", the best" in browser.text("figcaption b")
    assert "grayscale" in browser.find(".picture > image").value_of_css_property("filter")
    browser.set(".slider:nth-of-type(4) input", 0)  # any evidence is enough
    assert browser.all(".masks .chosen") and browser.fits()
    assert browser.find(".picture > image").value_of_css_property("filter") == "none"
    browser.named("several masks or none", ".switches label").click()
    assert len(browser.all(".masks .chosen")) == 1
    browser.named("Reset").click()
    assert not browser.all(".masks .chosen") and not browser.errors()


@pytest.mark.slow
def test_without_evidence_there_is_one_mask(browser: Browser, views: Views, tmp_path: Path) -> None:
    """As on the pages of a report whose answers are of one mask."""
    opened(browser, begun(views.view(rows_of(views, 0)), **NONE), tmp_path)
    assert len(browser.all(".masks .chosen")) == 1
    switch = browser.named("several masks or none", ".switches label")
    assert not switch.find_element("css selector", "input").is_enabled()
    assert "lacks the evidence" in switch.get_attribute("title")


@pytest.mark.slow
@pytest.mark.parametrize("weights", [EVERY, NONE])
def test_downloads(
    browser: Browser, any_view: View, any_views: Views, tmp_path: Path, weights: dict
) -> None:
    view, is_none = begun(any_view, **weights), weights is NONE
    opened(browser, view, tmp_path)
    expression = view["expressions"][0]
    kept = np.array(expression["inside"]) | (not any(expression["inside"]))
    chosen = decoded(view["masks"])[kept & (not is_none)]
    wanted = chosen.any(0)
    name = "-".join("".join(c if c.isalnum() else " " for c in expression["text"]).split())
    browser.named("Mask (PNG)").click()
    mask = np.asarray(Image.open(browser.downloaded(f"{name}-mask.png")).convert("RGB"))
    np.testing.assert_array_equal(mask, np.repeat(wanted[..., None] * 255, 3, 2))
    browser.named("Overlay (PNG)").click()
    overlay = np.asarray(Image.open(browser.downloaded(f"{name}-overlay.png")).convert("RGB"))
    pixels = any_views.pipeline.pixels(any_views.split.images, next(iter(any_views.split.images)))
    difference = np.abs(overlay.astype(int) - pixels).mean(2)
    if is_none:
        assert overlay.mean() < 0.75 * pixels.mean()
        upper = overlay[: len(overlay) // 2].astype(int)
        assert np.ptp(upper, axis=2).max() <= 2  # grey
        assert overlay[-overlay.shape[0] // 14 :].max() > 200  # the label
        assert NOTHING == "nothing here fits the expression"
    else:
        assert difference[~wanted].mean() < 12 < 20 < difference[wanted].mean()
        for one in chosen:  # each has a white line
            edge = one & ~(np.roll(one, 2, 0) & np.roll(one, -2, 0) & np.roll(one, 2, 1)
                           & np.roll(one, -2, 1))  # fmt: skip
            assert (overlay[edge].min(1) > 150).mean() > 0.15
    browser.named("Table (CSV)").click()
    with browser.downloaded(f"{name}.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["chosen"] for row in table].count("true") == len(chosen)
    evidence = expression["scores"]["E"][f"{view['choice']['encoder']} crop blur"]
    ids = [mask["id"] for mask in view["masks"]]
    for row in table:
        assert float(row["E"]) == evidence[ids.index(int(row["mask_id"]))]
    assert not browser.errors()
