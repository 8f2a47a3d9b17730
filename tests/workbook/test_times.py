"""Times of a notebook: nothing counts twice, and what a kernel counts reaches the run's record."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from types import SimpleNamespace

import pytest

from tasnb.settings import make_settings
from tasnb.workbook import times
from tasnb.workbook.report import _times
from tasnb.workbook.times import HANDLE, Timer


@pytest.fixture
def timed(monkeypatch) -> tuple[Timer, SimpleNamespace]:
    """An object whose methods take 1 s each by a clock of its own."""
    owner = SimpleNamespace(now=0.0)
    monkeypatch.setattr(times, "time", SimpleNamespace(perf_counter=lambda: owner.now))

    def inner() -> str:
        owner.now += 1
        return "found"

    def steps():
        for step in range(3):
            owner.now += 1
            yield step

    owner.inner, owner.outer, owner.steps = inner, lambda: owner.inner(), steps
    timer = Timer()
    for name in ("inner", "outer", "steps", "inner"):  # the second time does nothing
        timer.wrap(owner, name)
    return timer, owner


def test_calls_inside_one_another_count_once(timed) -> None:
    timer, owner = timed
    assert owner.outer() == "found" and timer.seconds == 1
    owner.now += 10
    assert owner.inner() == "found" and timer.seconds == 2


def test_only_the_steps_of_a_generator_count(timed) -> None:
    timer, owner = timed
    for step in owner.steps():
        owner.now += 10
        assert step in (0, 1, 2)
    assert timer.seconds == 3


def test_an_error_ends_its_call_and_other_threads_do_not_count(timed) -> None:
    timer, owner = timed
    owner.broken = lambda: owner.inner() + 1
    timer.wrap(owner, "broken")
    with pytest.raises(TypeError):
        owner.broken()
    assert timer.seconds == 1
    thread = threading.Thread(target=owner.inner)
    thread.start()
    thread.join()
    assert owner.now == 2 and timer.seconds == 1
    owner.inner()
    assert timer.seconds == 2


PROCESS = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from torch import nn
from tasnb.models import devices
from tasnb.store.shards import Store
from tasnb.workbook import times

times.watch(Path(sys.argv[1]))

class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.2)
        return x

network = devices.resident("slow", lambda: SimpleNamespace(model=Slow()))

def work(keys):
    time.sleep(0.3)
    return {"lengths": np.array([network.model(len(key)) for key in keys])}

stage = Store(sys.argv[1]).stage("lengths", 1, {})
stage.compute(["a", "bb"], work)
stage.read(["a"], "lengths")
network.model(1)
"""


def test_a_process_writes_its_times_when_it_ends(tmp_path) -> None:
    with tempfile.TemporaryFile() as told:
        handle = told.fileno()
        subprocess.run(
            [sys.executable, "-c", PROCESS, str(tmp_path)],
            env={**os.environ, HANDLE: str(handle)},
            pass_fds=(handle,),
            check=True,
            capture_output=True,
        )
        told.seek(0)
        found = json.loads(told.read())
    assert found["passes"] >= 0.6  # three, one of them outside the stage
    assert found["stages"] >= 0.7  # with its two passes
    (shard,) = found["shards"]
    assert (tmp_path / shard).is_file() and shard.startswith("lengths/")


CROPS = """
import sys, torch
from tasnb.models.encoders import load_encoder
from tasnb.settings import make_settings
from tasnb.workbook import times

times.seconds_in_passes()  # counts from now on
loaded = load_encoder(sys.argv[1], make_settings())
from tasnb.models.clip.towers import encode, input_size, tower_of
tower = tower_of(loaded)
encode(tower, torch.zeros(8, 3, input_size(tower), input_size(tower)))
print(times.seconds_in_passes())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", make_settings().encoders)
def test_crops_of_global_local_count_as_passes(name: str) -> None:
    command = [sys.executable, "-c", CROPS, name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) > 0.001


def test_a_kernel_writes_after_every_cell() -> None:
    """One that is killed has already done so."""
    from IPython.core.interactiveshell import InteractiveShell

    with tempfile.TemporaryFile() as told:
        code = f"import os; os.environ[{HANDLE!r}] = '{told.fileno()}'\n"
        code += "from pathlib import Path; from tasnb.workbook import times; times.watch(Path('x'))"
        try:
            InteractiveShell.instance().run_cell(code).raise_error()
            for _ in range(2):
                told.seek(0)
                assert json.loads(told.read()) == {"stages": 0.0, "passes": 0.0, "shards": []}
                InteractiveShell.instance().run_cell("1")
        finally:
            InteractiveShell.clear_instance()


def listed(notebooks: dict) -> list[list[str]]:
    table = re.sub("</?code>|</td></tr>(</tbody>.*)?", "", _times({"notebooks": notebooks}))
    return [row.split("</td><td>") for row in table.split("<tr><td>")[1:]]


def test_the_report_lists_them() -> None:
    one = {"seconds": 20.0, "times": {"stages": 18.0, "passes": 17.0}}
    other = {"seconds": 5.0, "times": {"stages": 4.0, "passes": 3.0}}
    assert listed({"01_x": one, "02_y": other}) == [
        ["01_x", "20.0", "18.0", "17.0", "0.85"],
        ["02_y", "5.0", "4.0", "3.0", "0.60"],
        ["all", "25.0", "22.0", "20.0", "0.80"],
    ]
    assert listed({"01_x": one, "02_earlier": {"seconds": 3.0}})[1:] == [
        ["02_earlier", "3.0", "", "", ""]
    ]
    assert listed({}) == []
