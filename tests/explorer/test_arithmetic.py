"""explorer.js counts as Python does: the ranking, the median, masks and the call of Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from explorer_page import OnlyStore
from pycocotools import mask as coco_mask
from views import first_views, rows_of

import tasnb
from tasnb.explorer.content import View, Views
from tasnb.settings import short

pytestmark = pytest.mark.slow
WEIGHTS = [(0.1, 0.7, True), (0.0, 0.0, False), (1.0, 0.2, True), (0.35, 2.0, False)]


@pytest.fixture(autouse=True)
def _on_a_page(browser: Browser) -> None:
    browser.open("about:blank")


def test_the_ranking_is_that_of_python(browser: Browser, view: View, views: Views) -> None:
    """The choice of ``ScoreTable`` for all expressions, with either encoder."""
    rows = rows_of(views, 0)
    for name, table in views.tables.items():
        choice = {"encoder": short(name), "clip_input": "crop", "caption_input": "blur"}
        scores = [browser.call("scoresOf", view["expressions"][row], choice) for row in rows]
        for alpha, lam, rectify in WEIGHTS:
            total = table.total(alpha, lam)
            best = table.outcome(table.choose(total, rectify))["mask_id"]
            weights = {"P": True, "N": True, "rectifier": rectify, "alpha": alpha, "lam": lam}
            for row in rows:
                inside = view["expressions"][row]["inside"]
                found = browser.call("ranked", scores[row], inside, weights)
                wanted = total[(table.pairs["sentence"] == row).to_numpy()]
                np.testing.assert_allclose(found["S"], wanted, rtol=0, atol=1e-6)
                assert view["masks"][found["order"][0]]["id"] == best[row]


def test_places_are_added_as_in_python(browser: Browser, shared_store: Path) -> None:
    """The recipe ``extended``: S and the choice, and the code that repeats them."""
    views = first_views(shared_store, recipe="extended", coherence=0.1)
    rows = rows_of(views, 0)
    view = views.view(rows)
    for name, table in views.tables.items():
        choice = {**view["choice"], "encoder": short(name)}
        for alpha, lam, rectify in WEIGHTS:
            total = table.total(alpha, lam)
            best = table.outcome(table.choose(total, rectify))["mask_id"]
            weights = {"P": True, "N": True, "rectifier": rectify, "alpha": alpha, "lam": lam}
            for row in rows:
                expression = view["expressions"][row]
                scores = browser.call("scoresOf", expression, choice)
                found = browser.call("ranked", scores, expression["inside"], weights)
                wanted = table.placed(total) if rectify else total
                wanted = wanted[(table.pairs["sentence"] == row).to_numpy()]
                np.testing.assert_allclose(found["S"], wanted, rtol=0, atol=1e-6)
                assert view["masks"][found["order"][0]]["id"] == best[row]
    image = str(next(iter(views.split.images.values())).path)
    shown = {**view, "code": {**view["code"], "image": repr(image)}}
    table = views.tables[views.settings.encoders[-1]]
    for rectify in (True, False):
        weights = {**view["weights"], "P": True, "N": True, "rectifier": rectify, "alpha": 0.4}
        code = browser.call("codeOf", shown, view["expressions"][0], view["choice"], weights)
        found = eval(code, {"tasnb": OnlyStore(views.settings.store)})
        total = table.total(0.4, view["weights"]["lam"])
        best = table.outcome(table.choose(total, rectify))["mask_id"][0]
        frame = found.frame
        assert frame["mask_id"][frame["chosen"]].tolist() == [best]
        assert ("G" in frame) == rectify and "C" in frame


def test_switches_ties_and_empty_regions(browser: Browser) -> None:
    scores = {"V": [0.5, 0.7, 0.7, 0.1], "P": [1, 0, 0, 0], "N": [0, -1, -1, 0]}
    on = {"P": True, "N": True, "rectifier": True, "alpha": 1, "lam": 1}

    def order(inside: list[bool], **changes: bool) -> list[int]:
        return browser.call("ranked", scores, inside, {**on, **changes})["order"]

    everywhere, nowhere = [True] * 4, [False] * 4
    assert order(everywhere, P=False, N=False) == [1, 2, 0, 3]  # ties go to the first
    assert order(everywhere, N=False) == [0, 1, 2, 3]
    assert order([False, False, True, True]) == [3, 2, 0, 1]  # the region comes first
    assert order([False, False, True, True], rectifier=False) == [0, 3, 1, 2]
    assert order(nowhere) == [0, 3, 1, 2]  # an empty region excludes nothing
    for values in ([3, 1, 2], [4, 1, 3, 2], [7]):
        assert browser.call("median", values) == np.median(values)


def test_masks_from_run_lengths(browser: Browser) -> None:
    random = np.random.default_rng(1)
    masks = [random.random((37, 53)) < share for share in (0.0, 0.02, 0.5, 1.0)]
    masks.append(np.add.outer(np.arange(700), np.arange(900)) % 1000 < 400)  # long runs
    for mask in masks:
        rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        rle = {"size": rle["size"], "counts": rle["counts"].decode()}
        found = browser.call("pixelsOf", rle)
        np.testing.assert_array_equal(np.reshape(found, mask.shape[::-1]).T, mask)


@pytest.mark.parametrize(
    ("choice", "weights"),
    [
        ({}, {}),
        ({"encoder": "clip-rn"}, {"alpha": 0.5, "lam": 0.05}),
        ({"recipe": "released", "clip_input": "blur"}, {"N": False}),
        ({"caption_input": "crop"}, {"P": False, "rectifier": False}),
    ],
)
def test_the_code_gives_the_answer(
    browser: Browser, view: View, views: Views, choice: dict, weights: dict
) -> None:
    """The call that is copied, run, chooses with what was set in the view."""
    choice = {**view["choice"], **choice}
    weights = {**view["weights"], "P": True, "N": True, "rectifier": True, **weights}
    image = str(next(iter(views.split.images.values())).path)
    shown = {**view, "code": {**view["code"], "image": repr(image)}}
    code = browser.call("codeOf", shown, view["expressions"][0], choice, weights)
    found = eval(code, {"tasnb": OnlyStore(views.settings.store)})
    frame = found if weights.get("rectifier") is False else found.frame
    alpha, lam = weights["alpha"] * weights["P"], weights["lam"] * weights["N"]
    np.testing.assert_allclose(
        frame["S"], frame["V"] + alpha * frame["P"] + lam * frame["N"], atol=1e-6
    )
    settings = {name: choice[name] for name in ("recipe", "caption_input", "clip_input")}
    encoders = [view["names"][choice["encoder"]]]
    own = tasnb.segment(
        image, view["expressions"][0]["text"], store=views.settings.store, encoders=encoders,
        alpha=alpha, lam=lam, **settings,
    )  # fmt: skip
    if weights["rectifier"]:
        assert frame.equals(own.frame)
    else:
        assert frame["mask_id"].tolist() == [own.frame["mask_id"][own.frame["S"].idxmax()]]
