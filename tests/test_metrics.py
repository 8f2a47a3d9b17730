"""Metrics against pycocotools, a slow loop and values worked out by hand (section 4.1)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tasnb.metrics import THRESHOLDS, evaluate


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
    # all masks side by side in one image: their IoU is the overall one
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
