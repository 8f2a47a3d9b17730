"""Metrics against pycocotools, a slow loop and values worked out by hand (section 4.1)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tasnb.method import metrics
from tasnb.method.metrics import THRESHOLDS, difference, evaluate, evaluate_generalized, interval


def test_by_hand() -> None:
    values = evaluate([10, 0, 30], [20, 50, 40])  # IoU 0.5, 0 and 0.75
    assert list(values) == ["oIoU", "mIoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9"]
    assert values["oIoU"] == pytest.approx(100 * 40 / 110)
    assert values["mIoU"] == pytest.approx(100 * 1.25 / 3)
    third = pytest.approx(100 / 3)
    assert [values[f"P@{t}"] for t in THRESHOLDS] == [third, third, third, 0, 0]


@pytest.mark.parametrize("tenths", [5, 6, 7, 8, 9])
def test_precision_is_strictly_above(tenths: int) -> None:
    on_it = evaluate([tenths, 10 * tenths, 7 * tenths], [10, 100, 70])
    assert on_it[f"P@0.{tenths}"] == 0
    assert evaluate([1000 * tenths + 1], [10_000])[f"P@0.{tenths}"] == 100


def test_an_image_without_proposals_counts_its_ground_truth() -> None:
    values = evaluate([30, 0], [30, 70])
    assert (values["oIoU"], values["mIoU"], values["P@0.9"]) == (30, 50, 50)


def test_against_pycocotools() -> None:
    rng = np.random.default_rng(0)
    guesses, truths = (rng.random((20, 40, 30)) < share for share in (0.5, 0.8))
    truths[0] = guesses[0]
    iou = []
    for guess, truth in zip(guesses, truths, strict=True):
        rles = [coco_mask.encode(np.asfortranarray(m.astype(np.uint8))) for m in (guess, truth)]
        iou.append(coco_mask.iou(rles[:1], rles[1:], [0])[0, 0])
    values = evaluate((guesses & truths).sum((1, 2)), (guesses | truths).sum((1, 2)))
    assert values["mIoU"] == pytest.approx(100 * np.mean(iou))
    # with all masks side by side in one image, their IoU is the overall IoU
    wide = [coco_mask.encode(np.asfortranarray(np.hstack(m).astype(np.uint8)))
            for m in (guesses, truths)]  # fmt: skip
    assert values["oIoU"] == pytest.approx(100 * coco_mask.iou(wide[:1], wide[1:], [0])[0, 0])


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1))
def test_against_a_slow_loop(pairs: list[tuple[int, int]]) -> None:
    pairs = [(inter, max(1, inter + rest)) for inter, rest in pairs]
    total_inter = total_union = total_iou = 0.0
    above = dict.fromkeys((5, 6, 7, 8, 9), 0)
    for inter, union in pairs:
        total_inter += inter
        total_union += union
        total_iou += inter / union
        for tenths in above:
            above[tenths] += 10 * inter > tenths * union
    values = evaluate(*zip(*pairs, strict=True))
    assert values["oIoU"] == pytest.approx(100 * total_inter / total_union)
    assert values["mIoU"] == pytest.approx(100 * total_iou / len(pairs))
    for tenths, count in above.items():
        assert values[f"P@0.{tenths}"] == pytest.approx(100 * count / len(pairs))


@pytest.mark.parametrize(("intersection", "union"), [([], []), ([0], [0]), ([1, 0], [2, 0])])
def test_errors(intersection: list[int], union: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one sentence and positive unions"):
        evaluate(intersection, union)


# --- With sentences without a target


def by_its_authors(samples: list[tuple[int, int, bool, bool]]) -> dict[str, float]:
    """gRefCOCO's metrics, one sentence at a time, as its authors define them."""
    ious, inter, whole = [], 0, 0
    right = {True: [], False: []}
    for shared, either, no_target, answered in samples:
        right[no_target].append(answered != no_target)
        if no_target:
            ious.append(0.0 if answered else 1.0)
            whole += either if answered else 0
        else:
            ious.append(shared / either)
            inter, whole = inter + shared, whole + either

    def mean(values: list) -> float:
        return 100 * float(np.mean(values)) if values else np.nan

    return {"gIoU": mean(ious), "cIoU": 100 * inter / whole if whole else np.nan,
            "N-acc": mean(right[True]), "T-acc": mean(right[False])}  # fmt: skip


def test_sentences_without_a_target_by_hand() -> None:
    """Two with a target: IoU 0.5, and no mask. Two without: a mask of 25 pixels, and none."""
    values = evaluate_generalized(
        [30, 0, 0, 0], [60, 40, 25, 0], [False, False, True, True], [True, False, True, False]
    )
    assert values == {
        "gIoU": pytest.approx(100 * (0.5 + 0 + 0 + 1) / 4),
        "cIoU": pytest.approx(100 * 30 / 125),
        "N-acc": 50.0,
        "T-acc": 50.0,
    }


samples = st.builds(
    lambda shared, rest, no_target, answered: (
        (0, (shared + rest) * answered, True, answered) if no_target
        else (shared * answered, shared + rest, False, answered)
    ),
    st.integers(0, 90), st.integers(1, 90), st.booleans(), st.booleans(),
)  # fmt: skip


@given(st.lists(samples, min_size=1))
def test_generalized_metrics_against_a_slow_loop(samples: list) -> None:
    values = evaluate_generalized(*zip(*samples, strict=True))
    assert values == pytest.approx(by_its_authors(samples), nan_ok=True)


@given(st.lists(samples.filter(lambda s: not s[2]), min_size=1))
def test_without_such_sentences_they_are_the_plain_metrics(samples: list) -> None:
    inter, union, *_ = zip(*samples, strict=True)
    plain, values = evaluate(inter, union), evaluate_generalized(*zip(*samples, strict=True))
    assert (values["gIoU"], values["cIoU"]) == pytest.approx((plain["mIoU"], plain["oIoU"]))
    assert np.isnan(values["N-acc"])


def test_a_method_that_always_answers() -> None:
    values = evaluate_generalized([5, 0], [5, 9], [False, True], [True, True])
    assert values["N-acc"] == 0 and values["T-acc"] == 100 and values["gIoU"] == 50
    with pytest.raises(ValueError, match="positive unions"):
        evaluate_generalized([0], [0], [False], [False])


# --- Confidence intervals and paired tests


def outcome(rng: np.random.Generator, images: int, each: int, good: float) -> pd.DataFrame:
    """Several sentences per image; a hard image is hard for all of its sentences."""
    hard = np.repeat(rng.uniform(0, 0.4, images), each)
    iou = np.clip(good - hard + rng.normal(0, 0.1, images * each), 0, 1)
    union = rng.integers(500, 5000, images * each)
    keys = np.repeat([f"i{k}" for k in range(images)], each)
    return pd.DataFrame({"image": keys, "intersection": np.rint(iou * union), "union": union})


@pytest.mark.parametrize("metric", ["oIoU", "mIoU"])
def test_interval_against_a_slow_bootstrap(metric: str) -> None:
    frame = outcome(np.random.default_rng(0), 30, 4, 0.7)
    groups = [rows for _, rows in frame.groupby("image")]
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(800):
        rows = pd.concat([groups[k] for k in rng.integers(0, 30, 30)])
        drawn.append(evaluate(rows["intersection"], rows["union"])[metric])
    low, high = interval(frame, metric)
    assert low == pytest.approx(np.percentile(drawn, 2.5), abs=0.7)
    assert high == pytest.approx(np.percentile(drawn, 97.5), abs=0.7)
    assert low < evaluate(frame["intersection"], frame["union"])[metric] < high


def test_an_interval_is_over_images_and_not_over_sentences() -> None:
    """Repeating each sentence ten times adds no information: the interval does not change."""
    frame = outcome(np.random.default_rng(2), 20, 3, 0.6)
    again = pd.concat([frame] * 10)
    assert interval(again, "mIoU") == pytest.approx(interval(frame, "mIoU"))


@pytest.mark.parametrize("metric", ["oIoU", "mIoU"])
def test_difference(metric: str) -> None:
    rng = np.random.default_rng(3)
    first = outcome(rng, 40, 5, 0.7)
    worse = np.rint(np.clip(first["intersection"] - 0.05 * first["union"], 0, None))
    second = first.assign(intersection=worse)
    values = [evaluate(f["intersection"], f["union"])[metric] for f in (first, second)]
    found = difference(first, second, metric)
    assert found.value == pytest.approx(values[0] - values[1])
    assert found.low < found.value < found.high
    assert found.verdict == "held" and found.p < 0.01
    back = difference(second, first, metric)
    assert back.verdict == "not held" and back.p == found.p
    assert (back.value, back.low, back.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )
    none = difference(first, first, metric)
    assert none.value == 0 and none.verdict == "undecided" and none.p == 1


def test_pairing_finds_what_two_intervals_do_not() -> None:
    """The images differ a lot, the two methods only slightly but always in the same direction."""
    first = outcome(np.random.default_rng(4), 25, 4, 0.8)
    second = first.assign(intersection=np.rint(0.97 * first["intersection"]))
    (low, high), (other_low, other_high) = interval(first, "mIoU"), interval(second, "mIoU")
    assert low < other_high and other_low < high
    assert difference(first, second, "mIoU").verdict == "held"


def test_the_permutation_test_is_honest() -> None:
    """For two equally good methods, p is below 0.05 in about one of twenty cases."""
    rng = np.random.default_rng(5)
    count = 0
    for _ in range(200):
        first, second = (outcome(rng, 20, 3, 0.6) for _ in range(2))
        count += difference(first, second.assign(image=first["image"]), "mIoU").p < 0.05
    assert 2 <= count <= 22


def test_other_sentences_have_an_interval_but_no_paired_test() -> None:
    rng = np.random.default_rng(6)
    easy, hard = outcome(rng, 30, 2, 0.8), outcome(rng, 30, 3, 0.5)
    found = difference(easy, hard, "mIoU")
    assert found.verdict == "held" and np.isnan(found.p)


def one_by_one(frame: pd.DataFrame, metric: str, draws: np.ndarray) -> np.ndarray:
    """The metric of every draw, (draws,), where images i0, i1, ... occur draws[d, k] times."""
    image = frame["image"].str[1:].astype(int).to_numpy()
    inter, union = frame["intersection"].to_numpy(), frame["union"].to_numpy()
    found = []
    for row in draws:
        count = row[image]
        if metric == "oIoU":
            found.append((count * inter).sum() / (count * union).sum())
        else:
            found.append((count * (inter / union)).sum() / count.sum())
    return 100 * np.array(found)


@pytest.mark.parametrize("metric", ["oIoU", "mIoU"])
def test_draws_are_those_of_the_seed_and_are_made_once(metric: str) -> None:
    """Against draws made here, one at a time, with the second outcome in another order."""
    rng = np.random.default_rng(7)
    first, second = outcome(rng, 12, 3, 0.7), outcome(rng, 12, 2, 0.6)[::-1]
    counts = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), 2000)
    ones, twos = (one_by_one(frame, metric, counts) for frame in (first, second))
    for _ in range(2):  # the second time, nothing is drawn
        found = difference(first, second, metric, seed=5)
        assert (found.low, found.high) == pytest.approx(np.percentile(ones - twos, [2.5, 97.5]))
        assert interval(first, metric, seed=5) == pytest.approx(np.percentile(ones, [2.5, 97.5]))
    assert metrics._weights(12, 5) is metrics._weights(12, 5)
    np.testing.assert_array_equal(metrics._weights(12, 5), counts)
    with pytest.raises(ValueError, match="read-only"):
        metrics._weights(12, 5)[0] = 0


@pytest.mark.parametrize("metric", ["oIoU", "mIoU"])
def test_the_permutation_test_swaps_whole_images(metric: str) -> None:
    rng = np.random.default_rng(8)
    first, other = outcome(rng, 12, 3, 0.65), outcome(rng, 12, 3, 0.6)
    found = difference(first, other, metric, seed=5)
    swaps = np.random.default_rng(5).integers(0, 2, (2000, 12))
    image = first["image"].str[1:].astype(int).to_numpy()
    far = 0
    for row in swaps:
        swapped = row[image][:, None] == 1
        pair = [f[["intersection", "union"]].to_numpy(float) for f in (first, other)]
        mixed = np.where(swapped, pair[1], pair[0]), np.where(swapped, pair[0], pair[1])
        values = [evaluate(*columns.T)[metric] for columns in mixed]
        far += abs(values[0] - values[1]) >= abs(found.value) - 1e-9
    assert found.p == pytest.approx((1 + far) / (1 + 2000)) and 0.002 < found.p < 0.99
