"""The clock of notebook 7: what it counts, and that nothing stored is counted."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasnb import Pipeline
from tasnb.models import proposal_networks
from tasnb.results import speed
from tasnb.settings import Settings, make_settings


@pytest.mark.slow
def test_tables_of_one_notebook_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in a store of its own, in rounds; a shared stage has one median in all tables."""
    monkeypatch.setattr(proposal_networks, "find_spec", lambda name: None)
    settings = make_settings(store=str(tmp_path / "store"), out=str(tmp_path / "out"))
    ran: list[tuple[str, str, float]] = []
    once = speed._once

    def noted(own: Settings, *asked: object) -> dict[str, speed.Cost]:
        costs = once(own, *asked)
        models = own.proposal_network, own.captioner
        ran.extend((*models, stage, cost.seconds) for stage, cost in costs.items())
        return costs

    monkeypatch.setattr(speed, "_once", noted)
    stages, variants = speed.measure(settings, settings.encoders[-1], 1, rounds=2)
    assert stages["stage"].tolist() == list(speed.STAGES)
    assert (stages["seconds per image"] > 0).all() and (stages["peak memory (GB)"] > 0.1).all()
    by = stages.set_index("stage")["seconds per image"]
    assert by["mask proposals"] > by["caption of the image"]  # computed, not read
    assert not (tmp_path / "store").exists()

    sam = [
        seconds
        for network, _, stage, seconds in ran
        if (network, stage) == (settings.proposal_network, "mask proposals")
    ]
    assert len(sam) == 4  # TAS and TAS with GIT, in two rounds
    row = stages.set_index("stage").loc["mask proposals"]
    assert row["seconds per image"] == pytest.approx(np.median(sam))
    assert (row["fastest"], row["slowest"]) == (min(sam), max(sam))
    variants = variants.set_index("variant")
    methods = speed.by_method(stages).set_index("method")
    for name in speed.COLUMNS[:3]:
        assert variants.loc["TAS", name] == pytest.approx(methods.loc["TAS", name])
    assert (variants["seconds per image"].dropna() > 0).all()
    assert variants.loc["TAS with GIT", "seconds per image"] > row["seconds per image"]

    assert variants["seconds per image"].isna().to_dict() == {
        "TAS": False, "TAS with FastSAM": True, "TAS with FreeSOLO": False, "TAS with GIT": False,
        "TAS with BLIP-2 (8-bit)": True,
    }  # fmt: skip
    lacking = variants.loc[variants["seconds per image"].isna(), "cannot run here"]
    assert lacking["TAS with FastSAM"].startswith("fastsam:FastSAM-x needs ultralytics")
    assert lacking["TAS with BLIP-2 (8-bit)"].startswith("blip2-8bit:embedded/blip2 needs")


def test_what_is_no_variant_is_not_timed_twice() -> None:
    """In `lite` the other captioner is the captioner, and 8 bits are BLIP-2's."""
    assert list(speed.cheaper(make_settings("lite"))) == [
        "TAS with FastSAM",
        "TAS with Felzenszwalb",
    ]


def test_how_many_images_are_timed() -> None:
    settings = make_settings()
    assert speed.images_to_time(settings, 0) == settings.timed_images == 8
    assert speed.images_to_time(settings, 3) == 3
    there = len(Pipeline(settings).split("refscenes", "val").images)
    assert speed.images_to_time(settings.model_copy(update={"limit": 2}), 10**6) == there - 1
    assert "timed in 3 rounds" in speed.about(12, 3) and "in 1 round (" in speed.about(12, 1)


def test_methods_are_sums_of_their_stages() -> None:
    seconds = np.array([1.0, 0.1, 0.2, 0.5, 0.03, 0.02, 0.01])
    stages = pd.DataFrame(
        {"stage": list(speed.STAGES), "seconds per image": seconds, "fastest": 0.5 * seconds,
         "slowest": 2 * seconds, "peak memory (GB)": range(7)}
    )  # fmt: skip
    found = speed.by_method(stages).set_index("method")
    expected = {"CLIP-only": 1.11, "Global-Local": 1.21, "TAS": 1.66}
    assert found["seconds per image"].to_dict() == pytest.approx(expected)
    assert (2 * found["fastest"]).to_dict() == pytest.approx(expected)
    assert (found["slowest"] / 2).to_dict() == pytest.approx(expected)
    assert found["seconds (paper)"].tolist() == [1.88, 2.01, 3.63]
    assert found.loc["TAS", "memory (GB, paper)"] == 22


def test_the_clock_sees_time_and_memory() -> None:
    with speed.clock() as idle:
        time.sleep(0.05)
    with speed.clock() as busy:
        block = bytearray(300_000_000)
        time.sleep(0.1)
    assert len(block) and idle.seconds >= 0.05
    assert busy.peak_gb > idle.peak_gb + 0.2
