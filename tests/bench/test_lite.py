"""``bench --profile lite``: random weights at real size, and what it says where room is short."""

from __future__ import annotations

from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasnb import bench
from tasnb.bench import lite, orders
from tasnb.bench.orders import Comparison, Order
from tasnb.cli.arguments import main
from tasnb.datasets.images import load_image
from tasnb.models.proposal_networks import PROPOSAL_NETWORKS
from tasnb.settings import make_settings

Usage = namedtuple("Usage", "total used free")


def test_photographs_keep_their_sentences_and_truths(tmp_path: Path) -> None:
    split = lite.photographs(2, tmp_path / "images")
    own = bench.drawn(make_settings("embedded"), 2)
    assert split.sentences["sentence"].tolist() == own.sentences["sentence"].tolist()
    for key, path in split.images.items():
        assert load_image(path).shape == (480, 640, 3)
        assert (split.sentences["image"] == key).sum() > 1
    for row in range(len(own.sentences)):
        truth, small = split.ground_truth(row), own.ground_truth(row)
        assert truth.shape == (480, 640) and truth.sum() == split.sentences["truth_area"][row]
        assert truth.mean() == pytest.approx(small.mean(), rel=0.05, abs=1e-3)


def test_captions_have_words_to_choose_from() -> None:
    words = lite._vocabulary(namedtuple("Config", "vocab_size")(30_522))
    assert len(set(words)) == len(words) == 30_522
    assert [words[place] for place in (0, 101, 102)] == ["[PAD]", "[CLS]", "[SEP]"]
    assert max(map(len, words[104:5000])) <= 6


@pytest.mark.parametrize(
    ("memory", "disk", "message"),
    [
        (1.25, 9e9, "bench --profile lite needs 5 GB of free memory, and 1.2 GB are free; close "),
        (64.0, 1e9, "bench --profile lite needs 2 GB of disk in "),
    ],
)
def test_too_little_room(
    monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path, memory: float, disk: float,
    message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(lite, "free_memory_gb", lambda: memory)
    monkeypatch.setattr(lite.shutil, "disk_usage", lambda _: Usage(0, 0, disk))
    assert main(["bench", "--profile", "lite", "--out", str(tmp_path / "b")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"tasnb: {message}") and said.count("\n") == 1


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The embedded models in place of large ones, and the numbers of images asked for."""
    asked: list[int] = []

    @contextmanager
    def prepared(count: int):
        asked.append(count)
        settings = make_settings("embedded")
        yield settings, bench.drawn(settings, count)

    monkeypatch.setattr(lite, "prepared", prepared)
    return asked


def test_seconds_are_per_image(monkeypatch, embedded: list[int], capsys, tmp_path: Path) -> None:
    order, slow = Order(), Order()
    for stage in orders.STAGES:
        order.seconds[stage] = order.processor[stage] = 2.0
        slow.seconds[stage] = slow.processor[stage] = 6.0
    monkeypatch.setattr(orders, "compare", lambda *_: Comparison(order, slow, 3, 9))
    assert main(["bench", "--profile", "lite", "--out", str(tmp_path / "b")]) == 0
    assert embedded == [2]
    table = pd.read_csv(tmp_path / "b.csv")
    assert table["part"].unique().tolist() == ["order of work, per image", "same results"]
    row = table.set_index("measurement").loc["captions of the masks"]
    assert row[["value", "reference", "ratio"]].tolist() == [1, 3, 3]
    assert "random weights" in (tmp_path / "b.md").read_text(encoding="utf-8")


def test_memory_runs_out(monkeypatch, embedded: list[int], capsys, tmp_path: Path) -> None:
    def refused(*_: object) -> None:
        np.zeros(1 << 60, np.uint8)

    monkeypatch.setattr(orders, "compare", refused)
    arguments = ["bench", "--profile", "lite", "--images", "1", "--out", str(tmp_path / "b")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("tasnb: bench ran out of memory; close") and said.count("\n") == 1
    assert embedded == [1] and not list(tmp_path.iterdir())


@pytest.mark.real_size
def test_the_whole_of_it_on_one_image(tmp_path: Path) -> None:
    main(["bench", "--profile", "lite", "--images", "1", "--out", str(tmp_path / "b")])
    table = pd.read_csv(tmp_path / "b.csv").set_index("measurement")
    assert (table.loc[[*orders.STAGES], "value"] > 0).all()
    assert table.loc["masks that differ", "value"] == 0
    assert table.loc["largest difference, crops", "value"] < orders.TOLERANCE
    assert table.loc["captions and CLIP", "cpu_ratio"] > 2
    assert lite.KIND in PROPOSAL_NETWORKS
