"""Intervals, verdicts on the paper's claims and the breakdown of errors, on made-up outcomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasnb.datasets.splits import columns
from tasnb.method.pipeline import Pipeline
from tasnb.method.scores import ScoreTable
from tasnb.results import breakdown, comparison, tables
from tasnb.settings import make_settings


class FakePipeline:
    """Settings are all that the functions ask of it, once ``tables.outcome`` is made up."""

    settings = make_settings()
    bonus = 0.0  # on the IoU of every sentence

    @property
    def with_other_captioner(self) -> FakePipeline:
        other = FakePipeline()
        other.settings = make_settings(captioner=self.settings.other_captioner)
        other.bonus = 0.3
        return other


LEVELS = {
    "Text-only": 0.30, "CLIP Surgery": 0.2, "Score Map": 0.2, "Grad-CAM": 0.25, "Global-Local": 0.5,
    "Global-Local (FreeSOLO)": 0.1, "Region Token": 0.1, "CLIP-only": 0.4, "TAS": 0.5, "V": 0.4,
    "V + P": 0.4, "V + P + N": 0.3, "V + P + N + spatial": 0.5,
}  # fmt: skip


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """Every method has an IoU of its own on each of 100 sentences of 50 images, and some noise."""

    def outcome(
        run: FakePipeline, method: str, encoder: str, dataset: str, split: str
    ) -> pd.DataFrame:
        seed = sum(map(ord, method + encoder + dataset + split))
        iou = np.clip(
            LEVELS[method] + run.bonus + np.random.default_rng(seed).normal(0, 0.1, 100), 0, 1
        )
        images = [f"{dataset.rstrip('+')}{k // 2}" for k in range(100)]
        return pd.DataFrame(
            {"image": images, "intersection": 1000 * iou, "union": 1000, "iou": iou}
        )

    monkeypatch.setattr(tables, "outcome", outcome)
    towers = {"clip-rn": ("Global-Local",), "clip-vit": ("Region Token", "Global-Local")}
    monkeypatch.setattr(
        tables.scoring, "methods_of", lambda encoder, _: towers[encoder.rpartition("/")[2]]
    )
    return FakePipeline()


@pytest.mark.slow
def test_intervals_have_a_row_a_number(made_up: FakePipeline) -> None:
    found = comparison.intervals(made_up)
    assert len(found) == 10 * 2 * (4 + 6)  # columns, metrics, methods of both encoders
    assert (found["low"] < found["value"]).all() and (found["value"] < found["high"]).all()
    clip = found[found["method"] == "CLIP-only"]
    assert clip["gain of TAS"].between(5, 15).all() and (clip["p"] < 0.01).all()
    tas = found[found["method"] == "TAS"]
    assert tas[["gain of TAS", "CI low", "CI high", "p"]].isna().all(axis=None)


def test_verdicts(made_up: FakePipeline) -> None:
    """Those on the modules are over the 9 columns of Table 1; RefScenes+ has no location words."""
    rows = [
        *comparison._against_others(made_up, made_up.settings.encoders[1]),
        *comparison._modules(made_up),
    ]
    verdicts = {claim: verdict for claim, _, verdict in rows}
    assert verdicts == {
        "TAS beats CLIP-only with clip-vit (Table 1)": "held",
        "TAS beats every other method with clip-vit (Table 1)": "undecided",  # Global-Local: 0.5
        "P helps (Table 4)": "undecided",
        "N helps (Table 4)": "not held",
        "the rectifier helps (Table 4)": "held",
    }
    assert "Global-Local" in rows[1][1]
    ends = [text.rpartition("mIoU ")[2] for _, text, _ in rows[2:]]
    assert ends == ["over 9 columns", "over 9 columns", "over 6 columns"]


def test_modules_are_judged_on_all_columns_together(
    made_up: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N helps on the first column, that of Table 4, and harms on the eight others; the rectifier
    would harm on RefScenes+, where it is not judged."""
    plain = tables.outcome

    def outcome(run: object, method: str, encoder: str, dataset: str, split: str) -> pd.DataFrame:
        found = plain(run, method, encoder, dataset, split)
        bonus = 0.2 if method == "V + P + N" and (dataset, split) == ("refscenes", "val") else 0
        bonus -= 0.9 if method == "V + P + N + spatial" and dataset == "refscenes+" else 0
        return found.assign(intersection=(found["intersection"] + 1000 * bonus).clip(0, 1000))

    monkeypatch.setattr(tables, "outcome", outcome)
    verdicts = {claim: verdict for claim, _, verdict in comparison._modules(made_up)}
    assert verdicts["N helps (Table 4)"] == "not held"
    assert verdicts["the rectifier helps (Table 4)"] == "held"
    made_up.settings = make_settings(datasets=["refscenes"], splits=["val"])
    _, (claim, text, verdict), _ = comparison._modules(made_up)
    assert (claim, verdict) == ("N helps (Table 4)", "held")
    assert text.endswith("points of mIoU on the only column")
    made_up.settings = make_settings(datasets=["refscenes+"])
    claims = [claim for claim, *_ in comparison._modules(made_up)]
    assert claims == ["P helps (Table 4)", "N helps (Table 4)"]


def test_weights_are_judged_on_all_columns_together(tmp_path: Path) -> None:
    """Two masks per sentence: a large alpha chooses the wrong one on every column but the first,
    and lambda decides nothing."""
    run = Pipeline(make_settings(out=tmp_path))
    encoder = run.settings.encoders[-1]
    for k, column in enumerate(columns(run.settings)):
        images = [f"{column[0].rstrip('+')}{i}" for i in range(30)]
        sentences = pd.DataFrame({"image": images, "truth_area": 100})
        captions = [1.0, 0.0] if k == 0 else [0.0, 1.0]
        pairs = pd.DataFrame(
            {"sentence": np.repeat(range(30), 2), "mask_id": [0, 1] * 30, "V": [0.2, 0.0] * 30,
             "P": captions * 30, "N": 0.0, "in_region": True, "intersection": [90, 10] * 30,
             "area": 100}
        )  # fmt: skip
        run._scored[(*column, encoder, "blur", "crop")] = ScoreTable(sentences, pairs)
    (_, little, held), (_, harm, harmful) = comparison._weights(run)
    assert little.startswith("from 0.3 (worst) to 0.3 (best): +0.0 [+0.0, +0.0] points of mIoU")
    assert "over 9 columns; limit" in little and (held, harmful) == ("held", "held")
    gain = 100 * (90 / 110 - 10 / 190) * 8 / 9
    assert harm.startswith(f"{gain:+.1f} [") and harm.endswith("over 9 columns")


def test_verdicts_on_other_models(made_up: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other captioner is much better here; ALBEF is made worse, and TAS no help to it."""
    plain = tables.outcome

    def outcome(run: object, method: str, encoder: str, *column: str) -> pd.DataFrame:
        found = plain(run, method, encoder, *column)
        albef = encoder.startswith("albef:")
        return plain(run, "Region Token", encoder, *column) if albef else found

    monkeypatch.setattr(tables, "outcome", outcome)
    rows = [*comparison._captioners(made_up), *comparison._encoders(made_up)]
    assert {claim: verdict for claim, _, verdict in rows} == {
        "the captioner has little effect with clip-rn (Table 6)": "not held",
        "the captioner has little effect with clip-vit (Table 6)": "not held",
        "TAS helps clip-vit (Table 7)": "held",
        "TAS helps blip2-itc (Table 7)": "held",
        "TAS helps albef (Table 7)": "undecided",
        "ALBEF performs poorly on masked images (Table 7)": "held",
    }
    assert rows[0][1].startswith("BLIP-2 minus GIT: -")


def test_claims_on_other_models_refer_to_all_columns_or_to_the_papers(
    made_up: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, asked = tables.outcome, set()

    def outcome(run: object, method: str, encoder: str, *column: str) -> pd.DataFrame:
        asked.add(column)
        return plain(run, method, encoder, *column)

    monkeypatch.setattr(tables, "outcome", outcome)
    papers = {("refscenes+", "testA"), ("refscenesg", "val(U)")}
    every = {column for column in columns(made_up.settings) if column[0] != "phrasescenes"}
    for choice, wanted in (("paper", papers), ("all", every)):
        made_up.settings = make_settings(claims_on=choice)
        asked.clear()
        rows = [*comparison._captioners(made_up), *comparison._encoders(made_up)]
        assert asked == wanted and len(rows) == 6
        assert all(f" over {len(wanted)} columns" in text for _, text, _ in rows)


def test_inputs_are_judged_on_all_columns_or_on_the_papers(tmp_path: Path) -> None:
    """The paper's inputs win on the first column, that of Table 5, and lose on the eight others."""
    run = Pipeline(make_settings(out=tmp_path))
    encoder = run.settings.encoders[-1]
    for k, column in enumerate(columns(run.settings)):
        images = [f"{column[0].rstrip('+')}{i}" for i in range(30)]
        sentences = pd.DataFrame({"image": images, "truth_area": 100})
        for inputs in (("blur", "crop"), ("crop", "crop"), ("blur", "blur")):
            right = [0.2, 0.0] if (inputs == ("blur", "crop")) == (k == 0) else [0.0, 0.2]
            pairs = pd.DataFrame(
                {"sentence": np.repeat(range(30), 2), "mask_id": [0, 1] * 30, "V": right * 30,
                 "P": 0.0, "N": 0.0, "in_region": True, "intersection": [90, 10] * 30, "area": 100}
            )  # fmt: skip
            run._scored[(*column, encoder, *inputs)] = ScoreTable(sentences, pairs)
    rows = comparison._inputs(run)
    assert [verdict for *_, verdict in rows] == ["not held", "not held"]
    assert all(text.endswith("over 9 columns") for _, text, _ in rows)
    run.settings = make_settings(out=tmp_path, claims_on="paper")
    rows = comparison._inputs(run)
    assert [verdict for *_, verdict in rows] == ["held", "held"]
    assert all(text.endswith("on the only column") for _, text, _ in rows)


def test_activation_maps_and_columns_ahead(
    made_up: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tables.scoring, "methods_of", lambda *_: ("Score Map", "Grad-CAM", "Global-Local")
    )
    rows = comparison._against_others(made_up, made_up.settings.encoders[0])
    assert rows[0][1].endswith("ahead in 9 of 9 columns")  # 0.5 against 0.4
    claim, text, verdict = rows[-1]
    assert (claim, verdict) == (
        "activation maps perform poorly with clip-rn, here: worse than CLIP-only (Table 1)",
        "held",
    )
    assert text.startswith("CLIP-only minus Grad-CAM, the best of these: +1")  # 0.25


def test_gains_of_modules(made_up: FakePipeline) -> None:
    found = comparison.module_gains(made_up)
    assert list(found.columns[:3]) == ["encoder", "dataset", "step"]
    assert len(found) == 2 * 4 * 3  # encoders, datasets, steps
    assert found.loc[found["dataset"] == "RefScenes", "sentences"].eq(300).all()
    inside = found["mIoU gain"].between(found["CI low"], found["CI high"])
    assert inside.all()
    steps = found.groupby("step")["mIoU gain"]
    assert steps.max()["+ N"] < -5 and steps.min()["+ spatial"] > 15  # 0.4, 0.3, 0.5


def test_what_little_means() -> None:
    def verdict(low: float, high: float) -> str:
        return comparison._is_little(comparison.Difference((low + high) / 2, low, high, 0.5))

    assert verdict(-1.9, 1.9) == "held" and verdict(-1, 2.1) == "undecided"
    assert verdict(2.1, 9) == "not held" and verdict(-9, -2.1) == "not held"


# --- breakdown


def frame(**columns: list) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    base = {
        "dataset": "refscenes", "split": "val", "image": [f"i{k}" for k in range(count)],
        "place": False, "attribute": False, "relation": False, "words": 2, "share": 0.03,
        "best": 1.0,
    }  # fmt: skip
    found = pd.DataFrame({**base, **columns}, index=range(count))
    for method in breakdown.COMPARED:
        iou = found.get(f"{method} iou", pd.Series(0.0, found.index))
        found[f"{method} iou"], found[f"{method} union"] = iou, 100
        found[f"{method} intersection"] = 100 * iou
    return found


def test_causes_of_errors() -> None:
    """Right; nothing to choose; badly ranked; well ranked but moved by the rectifier."""
    rows = frame(
        **{
            "TAS iou": [0.5, 0.1, 0.1, 0.2, 0.0],
            "best": [0.9, 0.49, 0.9, 0.9, 0.2],
            "V + P + N iou": [0.9, 0.1, 0.1, 0.8, 0.2],
            "TAS masks": [1, 1, 1, 1, 1],
        }
    )
    cause = breakdown._cause(rows, rows["TAS iou"].to_numpy())
    bad, rank = "no good proposal", "wrong proposal ranked first"
    assert cause == ["", bad, rank, "excluded by the rectifier", bad]
    shares = breakdown.causes(rows.assign(cause=cause)).iloc[0]
    assert shares.tolist() == ["refscenes", "val", 20, 40, 20, 20]


def test_shares_of_causes_add_up_and_absent_ones_are_zero() -> None:
    rows = pd.concat([frame(cause=["", ""]), frame(cause=["", "no good proposal"], split="testA")])
    found = breakdown.causes(rows)
    assert found["split"].tolist() == ["val", "testA"]
    assert found.iloc[:, 2:].to_numpy().tolist() == [[100, 0, 0, 0], [50, 50, 0, 0]]


def test_kinds_of_expressions() -> None:
    rows = frame(
        **{
            "place": [True, True, False, False],
            "words": [1, 3, 8, 9],
            "share": [0.01, 0.021, 0.04, 0.5],
            "CLIP-only iou": [0.2, 0.4, 0.6, 0.8],
            "TAS iou": [0.8, 0.6, 0.6, 0.8],
        }
    )
    found = breakdown.kinds(rows).set_index(["what", "kind"])
    place = found.loc["has a location word"]
    assert place["sentences"].tolist() == [2, 2] and place.index.tolist() == ["no", "yes"]
    assert place.loc["yes", ["CLIP-only", "TAS", "gain of TAS"]].tolist() == pytest.approx(
        [30, 70, 40]
    )
    assert found.loc["number of words"].index.tolist() == ["1-2", "3-4", "5-8", "9 or more"]
    sizes = found.loc["target's share of the image", "sentences"]
    assert sizes.to_dict() == {"0-2 %": 1, "2-4 %": 2, "8-100 %": 1}
