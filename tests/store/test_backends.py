"""Shards computed by Dask workers: two real processes, the embedded models, a handful of scenes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest

from tasnb.method.pipeline import Pipeline
from tasnb.results import tables
from tasnb.settings import InputError, make_settings
from tasnb.store import backends, clients, tasks
from tasnb.store.backends import Dask, backend_of
from tasnb.store.processes import Processes
from tasnb.store.shards import Store

ROOT = Path(__file__).resolve().parents[2]
ENCODER = "open_clip:embedded/clip-vit"
QUICK = {
    "limit": 4,
    "shard_size": 2,
    "encoders": [ENCODER],
    "datasets": ["refscenes"],
    "splits": ["val"],
}
KEYS = [str(i) for i in range(6)]


@pytest.fixture(scope="module")
def client():
    """A client with two workers on this machine, shared by all tests."""
    return clients.connect("", 2)[0]


def pipeline(store: Path, **overrides) -> Pipeline:
    return Pipeline(make_settings(store=store, out=store / "out", **{**QUICK, **overrides}))


def numbers(root: Path, backend=None):
    return Store(root, backend).stage("numbers", 1, {})


def squares(log: Path | None = None, seconds: float = 0.0, deadly: str = "", bad: str = ""):
    """Work that logs its calls; defined in a function, since workers cannot import this module."""

    def work(keys: list[str]) -> dict:
        if log:
            with open(log, "a") as file:
                file.write(f"{os.getpid()} {' '.join(keys)}\n")
        if deadly in keys:
            os.kill(os.getpid(), signal.SIGKILL)
        if bad in keys:
            raise ZeroDivisionError(f"cannot do\n{bad}")
        time.sleep(seconds)
        return {"x": pd.DataFrame({"key": keys, "square": [int(key) ** 2 for key in keys]})}

    return work


def calls(log: Path) -> list[list[str]]:
    """The keys of each call, sorted."""
    return sorted(line.split()[1:] for line in log.read_text().splitlines())


# --- Without workers


def test_no_result_depends_on_the_backend(tmp_path):
    one = pipeline(tmp_path, backend="serial")
    other = pipeline(tmp_path, backend="dask", scheduler="tcp://127.0.0.1:1", workers=3)
    assert one.proposal_stage.folder == other.proposal_stage.folder
    assert one.store.backend is None and other.store.backend == Dask("tcp://127.0.0.1:1", 3)
    assert other.variant(alpha=0.3).store.backend == other.store.backend


def test_a_worker_gets_no_workers_of_its_own(tmp_path):
    there = pipeline(tmp_path, backend="dask", scheduler="tcp://127.0.0.1:1")
    there._scored["kept"] = "in memory"
    here = cloudpickle.loads(cloudpickle.dumps(there))
    assert here.store.backend is None and here._scored == {}
    assert here.settings.alpha == there.settings.alpha
    assert here.proposal_stage.folder == there.proposal_stage.folder
    stage = cloudpickle.loads(cloudpickle.dumps(there.proposal_stage))
    assert stage._backend is None and stage.folder == there.proposal_stage.folder


def test_a_scheduler_that_would_not_be_used():
    with pytest.raises(InputError, match=r"^scheduler = tcp://x:1 needs backend = dask$"):
        backend_of(make_settings(scheduler="tcp://x:1"))
    with pytest.raises(InputError, match="backend = 'ray'"):
        make_settings(backend="ray")
    assert make_settings(workers=0).workers is None


def test_dask_is_optional(monkeypatch):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'`pip install "tasnb\[dask\]"`'):
        backend_of(make_settings(backend="dask"))
    assert backend_of(make_settings(backend="serial")) is None
    assert backend_of(make_settings(workers=3)) == Processes(3)


def test_serial_runs_import_no_dask(tmp_path):
    program = (
        "import sys; from tasnb.store.shards import Store; import numpy as np;"
        f"Store({str(tmp_path)!r}).stage('n', 1, {{}})"
        ".compute(['a'], lambda k: {'x': np.zeros(len(k))});"
        "from tasnb.method.pipeline import Pipeline; from tasnb.settings import make_settings;"
        "Pipeline(make_settings()); assert not {'dask', 'distributed'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x"])
def test_unreachable_scheduler(tmp_path, monkeypatch, address):
    monkeypatch.setattr(clients, "CONNECT", 1.0)
    stage = numbers(tmp_path, Dask(address))
    began = time.monotonic()
    with pytest.raises(InputError, match=f"^no Dask scheduler answers at {address} ") as caught:
        stage.compute(KEYS, squares())
    assert "\n" not in str(caught.value) and time.monotonic() - began < 8


def test_a_worker_that_does_not_see_the_store(tmp_path, monkeypatch):
    for module in (backends, tasks):
        monkeypatch.setattr(module, "DELAY", 0.0)
    kind, text = tasks.compute(["0"], (str(tmp_path / "store" / ".work-1"), "0" * 64))
    assert kind == "input" and "must be on a disk that all workers share" in text
    (tmp_path / ".work-1").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    kind, text = tasks.compute(["0"], (str(tmp_path / ".work-1"), "0" * 64))
    assert kind == "input" and "was modified" in text
    with pytest.raises(InputError, match=r"^workers report results in .* that are not there"):
        backends._wait_for(numbers(tmp_path), ["0"])


# --- Workers


@pytest.mark.slow
def test_shards_are_stored_once(tmp_path, client, monkeypatch):
    log, stage = tmp_path / "log", numbers(tmp_path, Dask("", 2))
    stage.compute(KEYS[:4], squares(log), shard_size=1)
    (stage.folder / ".work-killed").touch()
    os.utime(stage.folder / ".work-killed", (0, 0))
    stage.compute(KEYS, squares(log), shard_size=1)
    assert calls(log) == [[key] for key in KEYS]
    monkeypatch.setattr(backends, "connect", None)  # would fail if anything were computed
    numbers(tmp_path, Dask("", 2)).compute(KEYS, squares(log), shard_size=1)
    assert calls(log) == [[key] for key in KEYS]
    assert stage.read(KEYS, "x")["square"].tolist() == [i * i for i in range(6)]
    assert {file.suffix for file in stage.folder.iterdir()} == {".json", ".parquet"}


def test_an_interrupted_cell_leaves_the_workers(client):
    pids = client.run(lambda: __import__("os").getpid())
    for pid in pids.values():
        os.kill(pid, signal.SIGINT)
    time.sleep(0.5)
    assert client.run(lambda: __import__("os").getpid()) == pids


@pytest.mark.slow
def test_progress_counts_keys(tmp_path, client, capsys):
    numbers(tmp_path, Dask("", 2)).compute(KEYS, squares(), 4, "squaring")
    assert "squaring: 100%" in (shown := capsys.readouterr().err) and "6/6" in shown


@pytest.fixture(scope="module")
def both(tmp_path_factory, client):
    """The same scores, computed in this process and by workers."""
    stores = [tmp_path_factory.mktemp(name) for name in ("serial", "dask")]
    here = pipeline(stores[0])
    there = pipeline(stores[1], backend="dask", workers=2)
    for one in (here, there):
        began = time.perf_counter()
        one.scored("refscenes", "val", ENCODER)
        print(f"{one.settings.backend}: {time.perf_counter() - began:.1f} s")
    return here, there


@pytest.mark.slow
def test_workers_find_what_one_process_finds(both):
    here, there = both
    images = here.split("refscenes", "val").images
    pd.testing.assert_frame_equal(here.proposals(images), there.proposals(images))
    pd.testing.assert_frame_equal(here.captions(images), there.captions(images))
    one, other = (work.scored("refscenes", "val", ENCODER) for work in both)
    pd.testing.assert_frame_equal(one.pairs, other.pairs, rtol=0, atol=1e-5)
    for method in ("TAS", "CLIP-only", "Region Token", "Grad-CAM"):
        frames = [tables.outcome(work, method, ENCODER, "refscenes", "val") for work in both]
        pd.testing.assert_frame_equal(*frames)
    names = [
        {str(file.relative_to(work.settings.store)) for file in work.store.root.glob("*/*/*.json")}
        for work in both
    ]
    assert names[0] == names[1]  # the same shards


@pytest.mark.slow
def test_models_are_loaded_once_a_worker(both, client):
    def loads() -> dict[str, int]:
        from tasnb.models.devices import loads

        return {repr(key): count for key, count in loads.items()}

    counts = client.run(loads)
    assert len(counts) == 2
    for worker in counts.values():
        assert len(worker) >= 3 and set(worker.values()) == {1}, counts


@pytest.mark.slow
def test_a_bad_checkpoint_comes_through(tmp_path, client):
    work = pipeline(tmp_path, backend="dask", workers=2)
    images = {"none": tmp_path / "none.png"}
    with pytest.raises(InputError, match=r"^no image file at .*none.png$"):
        work.proposals(images)


def test_a_raised_error_is_its_images_alone(tmp_path, client):
    stage = numbers(tmp_path, Dask("", 2))
    with pytest.raises(InputError) as caught:
        stage.compute(KEYS, squares(bad="4"), shard_size=3)
    assert str(caught.value) == (
        "stage numbers: 1 of 6 failed: '4' (ZeroDivisionError: cannot do 4); all are listed in "
        f"{stage.folder / 'failures.json'}; the rest is stored, and the same command retries only "
        "these"
    )
    assert stage.missing(KEYS) == ["4"]
    listed = json.loads((stage.folder / "failures.json").read_text())
    assert listed == {"4": "ZeroDivisionError: cannot do 4"}
    numbers(tmp_path).compute(KEYS, squares(tmp_path / "log"))
    assert calls(tmp_path / "log") == [["4"]]
    assert not (stage.folder / "failures.json").exists()


def test_nothing_works(tmp_path, client, monkeypatch):
    monkeypatch.setattr(backends, "HOPELESS", 3)

    def work(keys: list[str]) -> dict:
        raise MemoryError("always")

    with pytest.raises(InputError, match=r"3 shards failed and none succeeded, .*MemoryError: alw"):
        numbers(tmp_path, Dask("", 2)).compute(KEYS, work, shard_size=1)


def test_a_scheduler_by_its_address(tmp_path, client):
    stage = numbers(tmp_path, Dask(client.scheduler.address))
    stage.compute(KEYS, squares(), shard_size=1)
    assert stage.read(KEYS, "x")["square"].tolist() == [i * i for i in range(6)]


@pytest.mark.slow
def test_a_killed_worker_costs_its_shard(tmp_path, client):
    log = tmp_path / "log"

    def kill() -> None:
        while not log.exists() or not log.read_text().endswith("\n"):
            time.sleep(0.05)
        os.kill(int(log.read_text().split()[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    stage = numbers(tmp_path, Dask("", 2))
    stage.compute(KEYS, squares(log, seconds=0.5), shard_size=1)
    killer.join()
    assert stage.read(KEYS, "x")["square"].tolist() == [i * i for i in range(6)]
    killed = log.read_text().split()[1]
    assert calls(log) == sorted([[key] for key in [*KEYS, killed]])
    assert not (stage.folder / "failures.json").exists()


@pytest.mark.slow
def test_what_kills_workers_fails_alone(tmp_path, client):
    stage = numbers(tmp_path, Dask("", 2))
    with pytest.raises(InputError, match=r"numbers: 1 of 6 failed: '3' \(its worker died") as error:
        stage.compute(KEYS, squares(deadly="3"), shard_size=2)
    assert "\n" not in str(error.value)
    assert stage.missing(KEYS) == ["3"]
    assert list(json.loads((stage.folder / "failures.json").read_text())) == ["3"]
    stage.compute(KEYS, squares(tmp_path / "log"), shard_size=2)
    assert calls(tmp_path / "log") == [["3"]]
    assert not (stage.folder / "failures.json").exists()
    assert np.array_equal(stage.read(KEYS, "x")["square"], np.arange(6) ** 2)


@pytest.fixture
def cluster(tmp_path):
    """A scheduler in another process: its address, and a function that starts a worker."""
    running: dict[str, subprocess.Popen] = {}

    def start(name: str, *options: str, path: Path = ROOT) -> None:
        kind = "scheduler" if name == "scheduler" else "worker"
        running[name] = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *local, *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    note = tmp_path / "scheduler.json"
    local = ("--host", "127.0.0.1", "--scheduler-file", str(note))
    start("scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0")
    end = time.monotonic() + 60
    while not (note.exists() and note.read_text().endswith("}")) and time.monotonic() < end:
        time.sleep(0.1)
    yield json.loads(note.read_text())["address"], start, running
    for process in running.values():
        process.kill()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* has no workers yet:UserWarning")
def test_a_scheduler_that_others_run(tmp_path, cluster):
    address, start, running = cluster
    (tmp_path / "old" / "tasnb").mkdir(parents=True)
    none = "raise ImportError('none here')"  # not found even through an editable installation
    (tmp_path / "old" / "tasnb" / "__init__.py").write_text(none)
    start("unfit", "--nthreads", "2", path=tmp_path / "old")
    stage = numbers(tmp_path, Dask(address))
    with pytest.raises(InputError, match=r"^a worker on .* does not have this package"):
        stage.compute(KEYS, squares(), shard_size=1)
    running["unfit"].terminate()
    running["unfit"].wait()
    start("fit", "--nthreads", "2")  # while the tasks wait
    stage.compute(KEYS[:4], squares(tmp_path / "log", seconds=0.3), shard_size=1)
    assert calls(tmp_path / "log") == [[key] for key in KEYS[:4]]

    threading.Timer(2, running["scheduler"].kill).start()
    with pytest.raises(InputError, match=r"^the Dask scheduler was lost; .* command resumes"):
        stage.compute(KEYS, squares(seconds=30), shard_size=1)
    with pytest.raises(InputError, match=r"^no Dask scheduler answers at"):
        stage.compute(KEYS, squares(), shard_size=1)


@pytest.mark.slow
def test_a_gpu_a_worker(monkeypatch):
    """No GPU is needed: each worker is assigned a different one."""
    import torch
    from distributed import Client

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    cluster, threads = clients._local_cluster(None)
    with cluster, Client(cluster, set_as_default=False) as client:
        told = client.run(lambda: __import__("os").environ["CUDA_VISIBLE_DEVICES"])
        assert sorted(told.values()) == ["4", "7"] and threads >= 1


_PROGRAM = """
import sys
import numpy as np
from tasnb.store.backends import Dask
from tasnb.store.shards import Store

def work(keys):
    return {"x": np.zeros(len(keys))}

if __name__ == "__main__" or "unguarded" in sys.argv:
    Store(sys.argv[1], Dask("", 1)).stage("n", 1, {}).compute(["a", "b"], work, 1)
"""


@pytest.mark.slow
def test_workers_end_quietly_with_their_process(tmp_path):
    (tmp_path / "script.py").write_text(_PROGRAM)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "store")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert done.stdout == "" and "2/2" in lines[-1]
    assert all(line.startswith("n: ") for line in lines if line), lines  # the progress bar
