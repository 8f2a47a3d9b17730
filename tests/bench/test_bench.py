"""``python -m tasnb bench``: both orders give the same answers, and each number is correct."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasnb import bench
from tasnb.bench import clocks, orders
from tasnb.bench.clocks import FORWARD, OTHER, Clocks, ColdRun
from tasnb.bench.orders import Comparison, Order
from tasnb.cli.arguments import main
from tasnb.method.metrics import evaluate
from tasnb.method.scores import ScoreTable
from tasnb.results import ablations
from tasnb.settings import InputError, make_settings
from tasnb.workbook.runner import NOTEBOOKS


@pytest.fixture(scope="module")
def settings():
    """Settings with which the embedded models are fast."""
    return make_settings(num_beams=2, max_new_tokens=8, points_per_side=4)


@pytest.fixture(scope="module")
def compared(settings) -> Comparison:
    return orders.compare(settings, bench.drawn(settings, 2), settings.encoders[-1])


@pytest.mark.slow
def test_both_orders_answer_the_same(compared: Comparison) -> None:
    assert compared.same, compared.differences()
    assert compared.ours.captions == compared.theirs.captions and compared.ours.captions
    assert compared.ours.masks == compared.theirs.masks
    assert compared.ours.texts.keys() == compared.theirs.texts.keys()
    for key, vector in compared.theirs.crops.items():
        np.testing.assert_allclose(compared.ours.crops[key], vector, atol=orders.TOLERANCE)


@pytest.mark.slow
def test_the_table_of_both_orders(compared: Comparison) -> None:
    table = compared.table().set_index("stage")
    assert list(table.index) == [*orders.STAGES, "captions and CLIP", "all four"]
    assert (table > 0).all(axis=None)
    for column in ("ours", "theirs"):
        by = table[column]
        assert by["all four"] == pytest.approx(by[orders.MASKS] + by["captions and CLIP"])
    np.testing.assert_allclose(table["ratio"], table["theirs"] / table["ours"])
    assert compared.refs > 1 and compared.sentences > compared.refs


@pytest.mark.slow
def test_their_order_works_once_a_ref_and_once_a_sentence(settings, monkeypatch) -> None:
    split, encoder = bench.drawn(settings, 1), settings.encoders[-1]
    _, sentences = orders.ours(settings, split, encoder)
    called: dict[str, list[int]] = {"propose": [], "caption": [], "images": [], "texts": []}

    def spy(owner: object, attribute: str, name: str) -> None:
        real = getattr(owner, attribute)

        def call(items, *rest):
            called[name].append(len(items))
            return real(items, *rest)

        monkeypatch.setattr(owner, attribute, call)

    clip = orders.encoders.load_encoder(encoder, settings)
    spy(orders.load_proposal_network(settings), "propose", "propose")
    spy(orders.captioners.load_captioner(settings), "caption", "caption")
    spy(clip, "encode_images", "images")
    spy(clip, "encode_texts", "texts")
    order = orders.theirs(settings, split, encoder, sentences)
    refs, masks = sentences["ref_id"].nunique(), len(order.masks)
    assert len(called["propose"]) == refs
    assert called["caption"] == [1] * masks * refs
    assert called["images"] == [masks] * 2 * len(sentences)
    assert len(called["texts"]) == len(sentences) and min(called["texts"]) > masks


def test_a_difference_is_seen() -> None:
    vector = np.array([1.0, 0.0], np.float32)
    one = Order(captions={("a", 0): "a cat"}, crops={("a", 0): vector})
    other = Order(captions={("a", 0): "a dog"}, crops={("a", 0): vector + 1e-3})
    found = Comparison(one, other, 1, 1)
    assert not found.same
    assert found.differences()["captions that differ"] == 1
    assert found.differences()["largest difference, crops"] == pytest.approx(1e-3, rel=1e-3)
    assert Comparison(one, one, 1, 1).same
    assert not Comparison(one, Order(), 1, 1).same
    other.note(other.captions, {("a", 0): "a dog"})
    other.note(other.crops, {("a", 0): vector})
    assert other.changes == 1


# --- arithmetic


def test_the_table_of_scores_has_the_stated_size() -> None:
    scored = bench.synthetic(**bench.REFCOCO_VAL)
    assert len(scored.sentences) == 10_834 and scored.sentences["image"].nunique() == 1_500
    assert len(scored.pairs) == 10_834 * 15
    pairs = scored.pairs
    truth = scored.sentences["truth_area"].to_numpy()[pairs["sentence"]]
    assert (pairs["intersection"] <= np.minimum(pairs["area"], truth)).all()
    image = scored.sentences["image"].to_numpy()[pairs["sentence"]]
    assert (pairs.assign(image=image).groupby(["image", "mask_id"])["area"].nunique() == 1).all()


def test_metrics_and_grid_equal_a_slow_loop() -> None:
    scored = bench.synthetic(sentences=40, images=9, masks=5)
    grid = ablations.grid(scored, [0, 0.3], [0.5, 1.1])
    for alpha, lam, *found in grid.itertuples(index=False):
        inter, union = [], []
        for row, sentence in scored.sentences.iterrows():
            own = scored.pairs[scored.pairs["sentence"] == row]
            allowed = own[own["in_region"]] if own["in_region"].any() else own
            best, most = None, -np.inf
            for _, pair in allowed.iterrows():
                score = pair["V"] + alpha * pair["P"] + lam * pair["N"]
                if score > most:
                    best, most = pair, score
            inter.append(best["intersection"])
            union.append(best["area"] + sentence["truth_area"] - best["intersection"])
        ious = [i / u for i, u in zip(inter, union, strict=True)]
        expected = [100 * sum(inter) / sum(union), 100 * sum(ious) / len(ious)]
        assert found == pytest.approx(expected)
        values = evaluate(inter, union)
        assert [values["oIoU"], values["mIoU"]] == pytest.approx(expected)
        assert values["P@0.5"] == pytest.approx(100 * sum(i > 0.5 for i in ious) / len(ious))


def test_the_grid_of_frames_gives_the_same_numbers() -> None:
    """What ``ScoreTable`` caches between choices does not change a single bit of the results."""
    full = bench.synthetic(sentences=300, images=50, masks=7)
    some = np.random.default_rng(1).random(len(full.pairs)) < 0.3  # some have no mask at all
    scored = ScoreTable(full.sentences, full.pairs[some].reset_index(drop=True))
    rank = scored.pairs.groupby("sentence").cumcount()

    def dense(values, fill):
        table = np.full((len(scored.sentences), int(rank.max()) + 1), fill)
        table[scored.pairs["sentence"], rank] = values
        return table

    expected, region = [], dense(scored.pairs["in_region"], 0).astype(bool)
    place = dense(scored.pairs.index, -1).astype(int)
    for alpha in bench.ALPHAS:
        for lam in bench.LAMBDAS:
            score = scored.pairs["V"] + alpha * scored.pairs["P"] + lam * scored.pairs["N"]
            allowed = region | ~region.any(1, keepdims=True)
            best = np.where(allowed, dense(score, -np.inf), -np.inf).argmax(1)
            outcome = scored.outcome(place[np.arange(len(best)), best])
            values = evaluate(outcome["intersection"], outcome["union"])
            expected.append((alpha, lam, values["oIoU"], values["mIoU"]))
    found = ablations.grid(scored, bench.ALPHAS, bench.LAMBDAS)
    np.testing.assert_array_equal(found, expected)
    assert (place < 0).any() and not rank.empty


def test_the_grid_is_that_of_notebook_6() -> None:
    text = (NOTEBOOKS / "06_ablations.ipynb").read_text(encoding="utf-8")
    assert f"ablations.grid(scored, {list(bench.ALPHAS)}, {list(bench.LAMBDAS)})" in text


# --- clocks


def test_an_inner_clock_stops_the_outer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: now[0])
    found = Clocks()

    class Model:
        def inner(self) -> str:
            now[0] += 2
            return "done"

        def steps(self):
            for _ in range(3):
                now[0] += 10
                yield self.inner()

    model = Model()
    with (
        found.on("all"),
        found.wrapped(model, "inner", "inner"),
        found.wrapped(Model, "steps", "steps"),
    ):
        now[0] += 1
        for step in model.steps():
            now[0] += 100  # the consumer's own time
            assert step == "done"
    assert found.seconds == {"all": 301, "steps": 30, "inner": 6}
    model.inner()
    assert found.seconds["inner"] == 6  # as before
    assert vars(model) == {} and list(model.steps()) == ["done"] * 3


def test_the_peak_is_of_what_follows() -> None:
    block = bytearray(200_000_000)
    high = clocks.peak_mb()
    assert len(block) < 1e6 * high
    del block
    clocks.forget_peak()
    low = clocks.peak_mb()
    if low == high:
        pytest.skip("this kernel does not forget")
    assert low < high - 150
    block = bytearray(300_000_000)
    assert clocks.peak_mb() > low + 250 and len(block)


def test_copies_are_different_images_with_the_same_sentences(settings, tmp_path: Path) -> None:
    split = bench.drawn(settings, 2)
    many = clocks.copies(split, 6, tmp_path)
    assert len(many.images) == 6 and all(path.is_file() for path in many.images.values())
    assert many.sentences["image"].nunique() == 6
    assert len(many.sentences) == 3 * len(split.sentences)
    assert list(dict.fromkeys(many.sentences["image"])) == list(many.images)


@pytest.mark.slow
def test_a_cold_run_is_clocked_to_its_end(settings) -> None:
    split, encoder = bench.drawn(settings, 1), settings.encoders[-1]
    began = time.perf_counter()
    run = clocks.cold_run(settings, split, encoder)
    passed = time.perf_counter() - began
    assert run.images == 1 and run.peak_mb >= run.scores_mb > 100
    assert 0 < run.forward < run.total
    assert run.start + run.load + run.total + run.again < passed + 0.1
    forward = {name.removeprefix(FORWARD) for name in run.seconds if name.startswith(FORWARD)}
    assert forward == {
        *(f"proposals, {p}" for p in ("image_encoder", "prompt_encoder", "mask_decoder")),
        "captioner, generate",
        *("encoder, encode_image", "encoder, encode_text", "parser"),
    }
    own = {OTHER, "masking and cropping", "store: writing parquet and digests"}
    assert own <= run.seconds.keys()


# --- the command


def test_the_command_prints_and_writes_its_table(monkeypatch, tmp_path: Path, capsys) -> None:
    order = Order(captions={("a", 0): "a cat"})
    for stage in orders.STAGES:
        order.seconds[stage] = order.processor[stage] = 2.0
    seconds = {f"{FORWARD}parser": 3.0, OTHER: 1.0}
    run = ColdRun(2, 1.0, 2.0, seconds, 0.1, 500.0, 400.0)
    monkeypatch.setattr(orders, "compare", lambda *_: Comparison(order, order, 3, 9))
    monkeypatch.setattr(clocks, "cold_run", lambda *_: run)
    assert main(["bench", "--images", "2", "--out", str(tmp_path / "here" / "b.csv")]) == 0
    said = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "here" / "b.csv")
    assert table["part"].unique().tolist() == [
        "size of RefCOCO val",
        "order of work",
        "same results",
        "store",
        "cold run, 2 images",
        "memory",
    ]
    by = table.set_index("measurement")
    assert by.loc["scoring, stored or from scratch", "ratio"] == pytest.approx(40)
    assert by.loc["forward passes, share of scoring", "value"] == 75
    assert by.loc["peak, 10 and 1 images", ["value", "ratio"]].tolist() == [500, 1]
    assert by.loc["peak after loading the models, 10 and 1 images", "value"] == 400
    assert all(what in said for what in table["measurement"])
    markdown = (tmp_path / "here" / "b.md").read_text(encoding="utf-8").splitlines()
    assert sum(text.startswith("|") for text in markdown) == len(table) + 2
    assert said.endswith("both orders of work give the same results\n")

    other = Order(captions={("a", 0): "a dog"}, seconds=order.seconds, processor=order.processor)
    monkeypatch.setattr(orders, "compare", lambda *_: Comparison(order, other, 3, 9))
    assert main(["bench", "--images", "2", "--out", str(tmp_path / "b")]) == 1
    assert "RESULTS DIFFER" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "two"], "--images 'two': should be a whole number\n"),
        (["--images", "0"], "--images 0: should be from 1 to 80"),
        (["--images", "5000"], "--images 5000: should be from 1 to 80"),
        (["--profile", "papers"], "unknown profile 'papers'"),
        (["--out", "x.txt"], "--out x.txt: the file name should end in .csv or .md"),
        (["--out", "file/x.csv"], "cannot write"),
    ],
)
def test_bad_input(tmp_path: Path, monkeypatch, capsys, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["bench", "--out", "b.csv", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"tasnb: {message}") and said.err.count("\n") == 1
    assert said.out == ""
    assert not list(tmp_path.glob("b.*"))


def test_too_many_images_are_an_input_error(settings) -> None:
    with pytest.raises(InputError, match="should be from 1 to 80"):
        bench.drawn(settings, 81)


@pytest.mark.slow
def test_the_whole_of_it_on_two_images(tmp_path: Path, capsys) -> None:
    assert main(["bench", "--images", "2", "--out", str(tmp_path / "bench.md")]) == 0
    table = pd.read_csv(tmp_path / "bench.csv").set_index(["part", "measurement"])["value"]
    assert (table["same results"] <= orders.TOLERANCE).all() and len(table["same results"]) == 5
    assert set(table["order of work"].index) == {*orders.STAGES, *orders.SUMS}
    shares = table["cold run, 2 images"].drop(
        [
            "interpreter and imports",
            "loading and warming up the models",
            "scoring with loaded models",
            "forward passes, share of scoring",
        ]
    )
    assert shares.sum() == pytest.approx(100, abs=0.01)
    assert (table["memory"] > 100).all()
    assert (tmp_path / "bench.md").is_file()
