"""The lock around all computations: who waits, and who must not deadlock."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tasnb.models.parsers import load_wordnet
from tasnb.settings import ROOT
from tasnb.store.shards import Stage, Store
from tasnb.store.threads import ONE_THREAD, in_one_thread


def is_free() -> bool:
    """Whether another thread could acquire the lock."""

    def take() -> bool:
        taken = ONE_THREAD.acquire(timeout=5)
        if taken:
            ONE_THREAD.release()
        return taken

    with ThreadPoolExecutor(1) as other:
        return other.submit(take).result()


def stage_of(folder: Path) -> Stage:
    return Store(folder).stage("words", 1, {})


def test_a_function_is_for_one_thread_at_a_time_and_may_call_another() -> None:
    inside, most = 0, []

    @in_one_thread
    def inner() -> None:
        nonlocal inside
        inside += 1
        most.append(inside)
        time.sleep(0.005)
        inside -= 1

    @in_one_thread
    def outer() -> None:
        inner()

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(call) for call in (inner, outer) * 4]:
            done.result()
    assert most == [1] * 8


def test_threads_at_one_stage_compute_a_key_once(tmp_path: Path) -> None:
    """Each thread has its own stage, as in every call of `segment`."""
    asked: list[list[str]] = []
    together = threading.Barrier(6)

    def work(keys: list[str]) -> dict[str, np.ndarray]:
        asked.append(keys)
        time.sleep(0.01)
        inner = Store(tmp_path).stage("letters", 1, {})  # a stage that this one reads
        inner.compute([key[0] for key in keys], lambda some: {"n": np.array([*map(ord, some)])})
        letters, _ = inner.read([key[0] for key in keys], "n")
        return {"n": letters}

    def one(start: int) -> list[int]:
        stage = stage_of(tmp_path)
        keys = [f"{letter}{start % 2}" for letter in "abcd"]
        together.wait()
        stage.compute(keys, work, 2)
        return stage.read(keys, "n")[0].tolist()

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(one, range(6)))
    assert found == [[97, 98, 99, 100]] * 6
    assert sorted(asked) == [["a0", "b0"], ["a1", "b1"], ["c0", "d0"], ["c1", "d1"]]


def test_what_is_stored_is_answered_while_another_thread_computes(tmp_path: Path) -> None:
    stage_of(tmp_path).compute(["a"], lambda keys: {"n": np.zeros(len(keys))})
    computing, go_on = threading.Event(), threading.Event()

    def slow(keys: list[str]) -> dict[str, np.ndarray]:
        computing.set()
        assert go_on.wait(10)
        return {"n": np.ones(len(keys))}

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(stage_of(tmp_path).compute, ["b"], slow)
        assert computing.wait(10)
        stage_of(tmp_path).compute(["a"], slow)  # would deadlock
        go_on.set()
        other.result()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_or_ctrl_c_lets_the_others_go_on(tmp_path: Path, error: type) -> None:
    def work(keys: list[str]) -> dict[str, np.ndarray]:
        raise error

    with pytest.raises(error):
        stage_of(tmp_path).compute(["a"], work)
    assert is_free()


def test_ctrl_c_reaches_a_thread_that_waits() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ONE_THREAD:
            held.set()
            done.wait(10)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(hold)
        assert held.wait(10)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt), ONE_THREAD:
            pass
        done.set()
    assert is_free()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("holder", ["another thread", "this thread", "nobody"])
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks(holder: str) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ONE_THREAD:
            held.set()
            done.wait(10)

    with ThreadPoolExecutor(1) as threads:
        if holder == "another thread":
            threads.submit(hold)
            assert held.wait(10)
        if holder == "this thread":
            ONE_THREAD.acquire()
        child = os.fork()
        if not child:
            free = ONE_THREAD.acquire(timeout=5)
            if free:
                ONE_THREAD.release()
            if holder == "this thread":
                ONE_THREAD.release()
            os._exit(0 if free else 1)
        status = os.waitpid(child, 0)[1]
        done.set()
        if holder == "this thread":
            ONE_THREAD.release()
    assert os.waitstatus_to_exitcode(status) == 0
    assert is_free()


def test_wordnet_is_read_by_many_threads() -> None:
    """It seeks in one open file; each word must get its own synsets nevertheless."""
    wordnet = load_wordnet(ROOT / "data" / "wordnet" / "wordnet.zip")
    words = ["dog", "cat", "table", "street", "man", "woman", "tree", "car", "ball", "chair"] * 30
    wanted = [[s.name() for s in wordnet.synsets(word, pos="n")] for word in words]

    def look_up(word: str) -> list[str]:
        return [synset.name() for synset in wordnet.synsets(word, pos="n")]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(look_up, words)) == wanted
