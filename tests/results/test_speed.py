"""The clock of notebook 7: what it counts, and that nothing stored is counted."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest

from tasnb.results import speed
from tasnb.settings import make_settings


def test_every_stage_is_computed_in_a_store_of_its_own(tmp_path: Path) -> None:
    settings = make_settings(store=str(tmp_path / "store"), out=str(tmp_path / "out"))
    stages = speed.measure(settings, settings.encoders[-1], 2)
    assert stages["stage"].tolist() == list(speed.STAGES)
    assert (stages["seconds an image"] > 0).all() and (stages["peak memory (GB)"] > 0.1).all()
    by = stages.set_index("stage")["seconds an image"]
    assert by["mask proposals"] > by["caption of the image"]  # computed, not read
    assert not (tmp_path / "store").exists()


def test_cheaper_parts_are_timed_where_they_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasnb.models import proposal_networks

    monkeypatch.setattr(proposal_networks, "find_spec", lambda name: None)
    settings = make_settings(store=str(tmp_path / "store"), out=str(tmp_path / "out"))
    stages = pd.DataFrame(
        {"stage": list(speed.STAGES), "seconds an image": 1.0, "peak memory (GB)": 2.0}
    )
    found = speed.variants(settings, settings.encoders[-1], 1, stages).set_index("variant")
    assert found.loc["TAS", ["seconds an image", "peak memory (GB)"]].tolist() == [6, 2]
    assert found["seconds an image"].isna().tolist() == [False, True, False, True, False]
    lacking = found.loc[found["seconds an image"].isna(), "cannot run here"]
    assert lacking["TAS on FastSAM"].startswith("fastsam:FastSAM-x needs ultralytics")
    assert lacking["TAS, BLIP-2 in 8 bits"].startswith("blip2-8bit:embedded/blip2 needs")


def test_methods_are_sums_of_their_stages() -> None:
    seconds = [1.0, 0.1, 0.2, 0.5, 0.03, 0.02, 0.01]
    stages = pd.DataFrame(
        {"stage": list(speed.STAGES), "seconds an image": seconds, "peak memory (GB)": range(7)}
    )
    found = speed.by_method(stages).set_index("method")
    assert found["seconds an image"].to_dict() == pytest.approx(
        {"CLIP-only": 1.11, "Global-Local": 1.21, "TAS": 1.66}
    )
    assert found["the paper's seconds"].tolist() == [1.88, 2.01, 3.63]
    assert found.loc["TAS", "the paper's memory (GB)"] == 22


def test_the_clock_sees_time_and_memory() -> None:
    with speed.clock() as idle:
        time.sleep(0.05)
    with speed.clock() as busy:
        block = bytearray(300_000_000)
        time.sleep(0.1)
    assert len(block) and idle.seconds >= 0.05
    assert busy.peak_gb > idle.peak_gb + 0.2
