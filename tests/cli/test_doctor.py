"""What is said of a profile, and when it can run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tasnb.cli.arguments import main
from tasnb.cli.doctor import NEEDS, examine
from tasnb.profiles import PROFILES
from tasnb.settings import ROOT, make_settings


def verdicts(data: Path, profile: str = "embedded") -> dict[str, tuple[str, str]]:
    settings = make_settings(profile, data=str(data), store=str(data / "store"))
    return {what: (verdict, text) for verdict, what, text in examine(settings)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The embedded profile's data, as links that a test may take away."""
    shutil.copytree(ROOT / "data", tmp_path / "data", copy_function=os.link)
    return tmp_path / "data"


def test_the_embedded_profile_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "profile embedded can run"
    assert all(line.startswith("ok ") or line.startswith("note ") for line in lines[:-1])
    for name in ("packages", "kernel", "memory", "sam:embedded/sam", "RefScenesg", "WordNet"):
        assert sum(line.split()[1] == name for line in lines[:-1]) == 1


def test_what_is_missing_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = data / "embedded" / "checkpoints" / "git" / "model.safetensors"
    content = checkpoint.read_bytes()
    checkpoint.unlink()  # a link: the repository keeps its own
    checkpoint.write_bytes(content[:-1])
    (data / "embedded" / "refscenes+" / "refs(unc).json").unlink()
    (data / "wordnet" / "wordnet.zip").unlink()
    found = verdicts(data)
    wrong = {what for what, (verdict, _) in found.items() if verdict == "missing"}
    assert wrong == {"git:embedded/git", "RefScenes+", "WordNet"}
    assert "on its card" in found["git:embedded/git"][1]
    assert main(["doctor", "--data", str(data)]) == 1
    assert "cannot run: 3 requirements missing" in capsys.readouterr().err


@pytest.mark.parametrize("profile", ["paper", "lite", "modern"])
def test_a_profile_that_is_still_to_be_fetched(
    data: Path, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(data / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(data / "torch"))
    found = verdicts(data, profile)
    of_models = found["git-base-coco"]
    assert of_models[0] == "missing" and "tasnb fetch git-base-coco: 7" in of_models[1]
    verdict, text = found["RefCOCO"]
    assert verdict == ("missing" if profile == "paper" else "note")
    assert "refs(unc)" in text and text.endswith("is missing; `python -m tasnb fetch refcoco`")
    assert "network" in found  # tests have none


def test_a_file_placed_by_hand_counts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(data / "torch"))
    assert verdicts(data, "paper")["sam-vit-h"][0] == "missing"
    place = data / "checkpoints" / "sam_vit_h_4b8939.pth"
    place.parent.mkdir(exist_ok=True)
    with place.open("wb") as file:
        file.truncate(2_564_550_879)  # takes no room
    assert verdicts(data, "paper")["sam-vit-h"] == ("ok", "complete")


def test_every_profile_has_its_needs() -> None:
    assert NEEDS.keys() == PROFILES.keys()
