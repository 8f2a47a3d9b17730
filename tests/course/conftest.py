"""A course of three images per split, which several test files look at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="package")
def course(shared_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("course") / "course"
    command = [sys.executable, "-m", "tasnb", "course", "--out", str(out), "--limit", "3"]
    command += ["--datasets", "refscenes,refscenesg", "--splits", "val,test(G)"]
    command += ["--store", str(shared_store)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"course: {out}"
    return out
