"""`tasnb.segment` from many threads, as in a web server: the same answers as from one."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from painted import PICTURES, QUICK
from PIL import Image

import tasnb
from tasnb.settings import ROOT

PROGRAM = f"""
import json, sys, tasnb
from concurrent.futures import ThreadPoolExecutor

def ask(path):
    found = tasnb.segment(path, "the left one", store=sys.argv[1], **{QUICK})
    return found.record() | {{"overlay": found.overlay().size}}

with ThreadPoolExecutor(4) as threads:
    print(json.dumps(list(threads.map(ask, sys.argv[2:]))))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of the same size, so that they differ only in their pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    for path in PICTURES:
        Image.open(path).convert("RGB").resize((160, 120)).save(folder / f"{path.stem}.png")
    return sorted(folder.iterdir())


def ask(path: Path, store: Path) -> dict:
    return tasnb.segment(path, "the left one", store=str(store), **QUICK).record()


@pytest.fixture(scope="module")
def alone(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    store = tmp_path_factory.mktemp("alone")
    found = [ask(path, store) for path in pictures]
    assert len({record["segmentation"]["counts"] for record in found}) > len(found) // 2
    return found


def same(found: list[dict], wanted: list[dict]) -> bool:
    """Equal except for the last bits of the scores, since texts are encoded in other batches."""
    return len(found) == len(wanted) and all(
        one["score"] == pytest.approx(other["score"], abs=1e-5)
        and all(one[key] == other[key] for key in ("segmentation", "mask_id", "caption"))
        for one, other in zip(found, wanted, strict=True)
    )


@pytest.mark.slow
def test_many_threads_with_loaded_models(
    pictures: list[Path], alone: list[dict], tmp_path: Path
) -> None:
    """Each image is requested twice at the same time; what is stored is correct, too."""
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda path: ask(path, tmp_path), [*pictures, *pictures]))
    assert same(found, [*alone, *alone])
    assert same([ask(path, tmp_path) for path in pictures], alone)


@pytest.mark.slow
def test_many_threads_of_a_fresh_process(
    pictures: list[Path], alone: list[dict], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), *map(str, pictures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert same(found, alone)
    assert all(record["overlay"] == [160, 120] for record in found)
