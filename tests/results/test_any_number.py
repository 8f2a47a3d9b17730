"""Pictures, lists and files of a run whose answers have any number of masks."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from browser import Browser
from quick import ENCODER
from quick import pipeline as quick
from sentence_pages import content_of, views_of

from tasnb.drawing import charts, figures, places
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import decode
from tasnb.results import analysis, beyond, breakdown, picks, tables
from tasnb.results import browser as pages

COLUMN = ("phrasescenes", "test")
ANY = {"recipe": "extended", "answers": "any", "several_share": 0.3, "datasets": ["phrasescenes"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Three images; the least evidence is such that about a quarter has no answer."""
    folder = tmp_path_factory.mktemp("store")
    every = quick(folder, **{**ANY, "splits": ["test"], "least_evidence": -10.0})
    scored = every.scored(*COLUMN, ENCODER)
    best = scored.choose(scored.total(every.settings.alpha, every.settings.lam), True)
    least = float(scored.pairs["E"][best].quantile(0.25))
    return quick(folder, **{**ANY, "splits": ["test"], "least_evidence": least})


@pytest.fixture(scope="module")
def outcome(run: Pipeline) -> pd.DataFrame:
    found = tables.outcome(run, "TAS", ENCODER, *COLUMN)
    assert {0, 1, 2} <= set(found["mask_ids"].map(len).clip(upper=2))  # or this says little
    return found


def union(run: Pipeline, image: str, ids: list[int]) -> np.ndarray:
    images = {image: run.split(*COLUMN).images[image]}
    masks = run.refined(images)
    return decode(masks)[masks["mask_id"].isin(ids).to_numpy()].any(0)


def test_outcomes_name_the_masks_that_they_count(run: Pipeline, outcome: pd.DataFrame) -> None:
    split = run.split(*COLUMN)
    for number, row in outcome.iterrows():
        truth = split.ground_truth(number)
        whole = union(run, row["image"], row["mask_ids"])
        assert row["intersection"] == (whole & truth).sum()
        assert row["union"] == (whole | truth).sum()
        assert row["mask_id"] == (row["mask_ids"] or (-1,))[0]


def test_results_of_each_sentence(run: Pipeline, outcome: pd.DataFrame) -> None:
    """What ``compare`` and the list of examples read is what Table 1 counts."""
    frame = analysis.per_sentence(run, ENCODER, run.split(*COLUMN))
    assert frame["TAS masks"].tolist() == outcome["mask_ids"].tolist()
    for name in ("intersection", "union"):
        assert frame[f"TAS {name}"].tolist() == outcome[name].tolist()
    np.testing.assert_array_equal(frame["TAS IoU"], outcome["iou"])
    analysis.save_per_sentence(run)
    (file,) = (run.settings.out / "results").glob("*.parquet")
    stored = pd.read_parquet(file)
    assert [tuple(ids) for ids in stored["TAS masks"]] == outcome["mask_ids"].tolist()
    one = run.variant(answers="one")
    plain = analysis.per_sentence(one, ENCODER, one.split(*COLUMN))
    assert "TAS masks" not in plain and (plain["TAS mask"] >= 0).all()


def test_examples_show_all_masks_or_none(run: Pipeline, outcome: pd.DataFrame) -> None:
    split = run.split(*COLUMN)
    frame = analysis.per_sentence(run, ENCODER, split)
    examples = picks.to_examples(run, split, frame)
    for example, row in zip(examples, outcome.itertuples(), strict=True):
        np.testing.assert_array_equal(
            example.chosen["TAS"].any(0), union(run, row.image, row.mask_ids)
        )
        assert len(example.chosen["TAS"]) == len(row.mask_ids)
        assert len(example.chosen["CLIP-only"]) == 1
    counts = outcome["mask_ids"].map(len)
    drawn = [examples[counts[counts == 0].index[0]], examples[counts[counts > 1].index[0]]]
    figure = figures.examples(drawn)
    titles = [axes.get_title() for axes in figure.axes]
    several = counts[counts > 1].iloc[0]
    assert titles[2] == "TAS: no mask, IoU 0.00"
    assert titles[5].startswith(
        f"TAS: {several} masks, IoU {outcome['iou'][counts > 1].iloc[0]:.2f}"
    )
    shown = np.asarray(figure.axes[2].images[0].get_array())
    assert np.ptp(shown.astype(int), axis=2).max() == 0  # grey
    plt.close(figure)


def test_before_and_after_the_places(run: Pipeline, outcome: pd.DataFrame) -> None:
    split, scored = run.split(*COLUMN), run.scored(*COLUMN, ENCODER)
    for one in picks.pick_rectified(run, scored, split, 4):
        rows = outcome[scored.sentences["sentence"] == one.expression]
        wanted = [union(run, row.image, row.mask_ids) for row in rows.itertuples()]
        found = one.masks[list(one.after)].any(0)
        assert any(one.shape == found.shape and (one == found).all() for one in wanted)
    image = scored.sentences["image"].iloc[0]
    asked = scored.sentences["sentence"][scored.sentences["image"] == image].tolist()
    placed = beyond.placed(run, ENCODER, COLUMN, image, asked)
    for one, ids in zip(placed, outcome["mask_ids"], strict=False):
        np.testing.assert_array_equal(one.masks[list(one.after)].any(0), union(run, image, ids))
    plt.close(places.priors(placed))


def test_the_overview_ends_with_the_answer(run: Pipeline, outcome: pd.DataFrame) -> None:
    one = picks.pick_overview(run, run.scored(*COLUMN, ENCODER), run.split(*COLUMN))
    row = outcome.loc[one.pairs["sentence"].iloc[0]]
    chosen = one.pairs["mask_id"][one.pairs["chosen"]]
    assert set(chosen) == set(row["mask_ids"])
    figure = figures.overview(one)
    assert figure.axes[-2].get_title().endswith(f"IoU {row['iou']:.2f}")
    plt.close(figure)


def test_lists_of_sentences(run: Pipeline, outcome: pd.DataFrame) -> None:
    (page,) = pages.save(run)
    content, counts = content_of(page), outcome["mask_ids"].map(len)
    assert content["anyNumber"] and [row["masks"] for row in content["rows"]] == counts.tolist()
    assert [row["tas"] for row in content["rows"]] == outcome["iou"].round(4).tolist()
    for row in content["rows"]:
        view = views_of(page, content)[row["view"][0]][row["view"][1]]
        assert all("E" in one["scores"] and "rle" in one["truth"] for one in view["expressions"])
        assert view["weights"]["least_evidence"] == run.settings.least_evidence
        json.dumps(view, allow_nan=False)


@pytest.mark.slow
def test_a_list_in_a_browser(run: Pipeline, outcome: pd.DataFrame, browser: Browser) -> None:
    """The filters find them, and the explorer beside the list shows the same answer."""
    (page,) = pages.save(run)
    browser.open(page)
    counts = outcome["mask_ids"].map(len)
    for kind, those in (
        ("TAS answers with nothing", counts == 0),
        ("TAS answers with several masks", counts > 1),
    ):
        browser.set("#kind", kind)
        assert browser.text("#count") == f"{those.sum()} of {len(counts)} sentences"
        browser.find("#list tbody tr").click()
        number = int(those[those].index[0])
        text = run.split(*COLUMN).sentences["sentence"][number]
        browser.until(lambda text=text: browser.text(".words") == text, text)
        assert len(browser.all(".masks .chosen")) == counts[number]
        if counts[number]:
            told = f"together, IoU {outcome['iou'][number]:.2f}"
            assert browser.text(".legend .chosen").endswith(told)
        else:
            assert "nothing in the picture fits" in browser.text(".legend .chosen")
            assert browser.text("#list tbody tr td:nth-child(8)") == "none"
    assert not browser.errors()


def test_why_sentences_are_wrong(run: Pipeline, outcome: pd.DataFrame) -> None:
    frame = breakdown.column(run, *COLUMN, ENCODER)
    wrong = frame[(frame["cause"] != "") & (frame["best"] >= 0.5)]
    nothing = wrong["cause"] == breakdown.NOTHING
    assert nothing.tolist() == (outcome["mask_ids"].map(len)[wrong.index] == 0).tolist()
    assert nothing.any()
    shares = breakdown.causes(frame)
    assert shares.iloc[0, 2:].sum() == pytest.approx(100)
    plt.close(charts.causes(shares))


def test_causes_by_hand() -> None:
    """Nothing is answered; the best mask alone would be right; the best mask is wrong."""
    rows = pd.DataFrame(
        {"TAS iou": [0.0, 0.4, 0.3], "best": 0.9, "V + P + N iou": 0.1, "TAS masks": [0, 2, 2]}
    )
    found = breakdown._cause(rows, np.array([0.9, 0.9, 0.1]))
    assert found == ["answered with nothing", "too many masks", "wrong proposal ranked first"]
