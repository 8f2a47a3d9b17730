"""V, P, N and S worked out by hand (Eq. 2 to 6), the choice among masks, and invariants."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasnb.method.metrics import evaluate
from tasnb.method.scores import (
    ScoreTable,
    chances,
    likelihood,
    mixed,
    n_score,
    n_score_of_masks,
    p_score,
    total_score,
    v_score,
)
from tasnb.settings import InputError

CROPS = np.array([[1, 0], [0, 1], [0.6, 0.8]])  # three masks
ASKED = np.array([[0.8, 0.6], [0, -1]])  # two expressions


def test_v_and_p_are_cosines_by_hand() -> None:
    expected = [[0.8, 0.6, 0.96], [0, -1, -0.8]]
    np.testing.assert_allclose(v_score(CROPS, ASKED), expected)
    np.testing.assert_allclose(p_score(CROPS, ASKED), expected)
    assert v_score(CROPS[:0], ASKED).shape == (2, 0)


def test_of_several_vectors_of_an_image_the_nearest_counts() -> None:
    """As in BLIP-2, which has 32 query vectors per image; in V, and for each phrase in N."""
    rng = np.random.default_rng(0)
    crops, asked = rng.normal(size=(4, 3, 5)), rng.normal(size=(2, 5))
    literal = [[max(float(q @ t) for q in crop) for crop in crops] for t in asked]
    np.testing.assert_allclose(v_score(crops, asked), literal)
    np.testing.assert_allclose(v_score(crops[:, :1], asked), v_score(crops[:, 0], asked))
    negative = np.array([[True, True], [False, True]])
    expected = [-np.mean(literal, 0), -np.array(literal[1])]
    np.testing.assert_allclose(n_score(crops, asked, negative), expected)


def test_n_is_minus_the_mean_over_the_negative_phrases() -> None:
    phrases = np.array([[1, 0], [0, 1], [-1, 0]])
    negative = np.array([[1, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
    found = n_score(CROPS, phrases, negative)
    np.testing.assert_allclose(
        found,
        [
            [-0.5, -0.5, -0.7],  # cosines 1, 0, 0.6 and 0, 1, 0.8
            [1, 0, 0.6],
            [0, -1 / 3, -0.8 / 3],
            [0, 0, 0],  # no negative phrase
        ],
    )


def test_n_from_the_captions_of_the_other_masks() -> None:
    """By loops: a caption counts by how far it is, overlapping masks not at all."""
    rng = np.random.default_rng(0)
    crops, captions = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    unlike = rng.uniform(0, 2, (2, 5))
    apart = np.triu(rng.random((5, 5)) < 0.6, 1)
    apart |= apart.T
    apart[4] = apart[:, 4] = False  # overlaps all others
    found = n_score_of_masks(crops, captions, unlike, apart)
    for s, m in product(range(2), range(5)):
        others = [j for j in range(5) if apart[j, m]]
        parts = [unlike[s, j] * float(crops[m] @ captions[j]) for j in others]
        assert found[s, m] == pytest.approx(-np.mean(parts) if parts else 0)
    # a caption that says what the expression says repels nothing
    assert not n_score_of_masks(crops, captions, np.zeros((2, 5)), apart).any()


def test_mixed_expressions_are_unit_vectors_in_between() -> None:
    nouns = np.array([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(mixed(ASKED, nouns, 0.0), ASKED)
    np.testing.assert_allclose(mixed(ASKED, nouns, 1.0), nouns)
    expected = np.array([[0.8, 1.6], [1, -1]]) / np.sqrt([[3.2], [2]])
    np.testing.assert_allclose(mixed(ASKED, nouns, 0.5), expected)


def test_which_masks_are_likely() -> None:
    scores = np.array([[0.3, 0.2, 0.3 - 0.1 * np.log(2)]])
    np.testing.assert_allclose(likelihood(scores, 0.1), [[1, np.exp(-1), 0.5]])
    np.testing.assert_allclose(chances(scores, 0.1).sum(), 1)
    np.testing.assert_allclose(chances(scores + 7, 0.1), chances(scores, 0.1))


def test_no_phrase_at_all_makes_every_n_zero() -> None:
    found = n_score(CROPS.astype(np.float32), np.zeros((0, 2), np.float32), np.zeros((2, 0), bool))
    assert found.shape == (2, 3) and not found.any()


def test_s_by_hand() -> None:
    assert total_score(np.float64(0.5), np.float64(0.2), np.float64(-0.3), 0.1, 0.7) == (
        pytest.approx(0.31)
    )


# --- a table of sentences and masks


def score_table(
    masks: list[int], truth_area: list[int] | None = None, seed: int = 0, **columns: list
) -> ScoreTable:
    """Random scores for sentences with these numbers of masks; `columns` overrides them."""
    rng = np.random.default_rng(seed)
    count = sum(masks)
    truth = truth_area or rng.integers(20, 60, len(masks)).tolist()
    sentence = np.repeat(np.arange(len(masks)), masks)
    pairs = pd.DataFrame(
        {
            "sentence": sentence,
            "mask_id": np.concatenate([[0], *(3 * np.arange(m) for m in masks)])[1:].astype(int),
            "V": rng.uniform(-1, 1, count),
            "P": rng.uniform(-1, 1, count),
            "N": rng.uniform(-1, 1, count),
            "in_region": rng.random(count) < 0.5,
            "intersection": rng.integers(0, 20, count),
            "area": rng.integers(20, 60, count),
        }
    )
    return ScoreTable(pd.DataFrame({"truth_area": truth}), pairs.assign(**columns))


def test_a_sentence_by_its_number() -> None:
    table = score_table([2, 0, 3], truth_area=[21, 22, 23])
    for number, masks in enumerate((2, 0, 3)):
        sentence, pairs = table.one(number)
        assert sentence["truth_area"] == 21 + number
        assert len(pairs) == masks and set(pairs["sentence"]) <= {number}
    for number in (3, -1, 99999):
        with pytest.raises(InputError, match=rf"^sentence = {number}: should be .* from 0 to 2$"):
            table.one(number)


def test_s_of_every_pair() -> None:
    table = score_table([2], V=[0.5, 0.1], P=[0.2, 0.4], N=[-0.3, 0.1])
    np.testing.assert_allclose(table.total(0.1, 0.7), [0.31, 0.21])
    np.testing.assert_allclose(table.total(0, 0), [0.5, 0.1])


@pytest.mark.parametrize(
    ("score", "region", "free", "rectified"),
    [
        ([1, 3, 2], [1, 0, 1], 1, 2),
        ([1, 3, 2], [0, 0, 0], 1, 1),  # empty region: the choice is unchanged
        ([1, 3, 2], [1, 1, 1], 1, 1),
        ([2, 2, 2], [0, 1, 1], 0, 1),  # ties go to the first
        ([-5, -3, -3], [1, 0, 0], 1, 0),
    ],
)
def test_the_choice(score: list, region: list, free: int, rectified: int) -> None:
    table = score_table([0, 3, 0], in_region=[bool(r) for r in region])
    assert table.choose(np.array(score), rectify=False).tolist() == [-1, free, -1]
    assert table.choose(np.array(score), rectify=True).tolist() == [-1, rectified, -1]


def test_the_rectifier_acts_where_it_bars_some_masks_and_leaves_some() -> None:
    """It does not act on a sentence without masks, or if all or none are in the region."""
    regions = {"some": [1, 0], "all": [1, 1], "none": [0, 0], "one": [1], "last": [0, 0, 1]}
    table = score_table(
        [0, *map(len, regions.values())],
        in_region=[bool(r) for region in regions.values() for r in region],
    )
    assert table.acted().tolist() == [False, True, False, False, False, True]


def test_sentences_do_not_mix() -> None:
    table = score_table([2, 0, 3, 1], in_region=[True, False, False, False, True, False])
    score = np.array([0, 9, 5, 8, 1, -7])
    assert table.choose(score, rectify=False).tolist() == [1, -1, 3, 5]
    assert table.choose(score, rectify=True).tolist() == [0, -1, 4, 5]


def test_the_outcome_by_hand() -> None:
    table = score_table(
        [2, 0, 1],
        truth_area=[10, 7, 5],
        intersection=[4, 10, 0],
        area=[6, 20, 3],
        mask_id=[2, 5, 8],
    )
    outcome = table.outcome(np.array([0, -1, 2]))
    assert outcome["intersection"].tolist() == [4, 0, 0]
    assert outcome["union"].tolist() == [12, 7, 8]  # without masks the union is the ground truth
    assert outcome["iou"].tolist() == [4 / 12, 0, 0]
    assert outcome["mask_id"].tolist() == [2, -1, 8]
    assert table.best_possible().tolist() == [1, -1, 2]  # IoU 10 / 20 against 4 / 12


def test_no_masks_anywhere() -> None:
    table = score_table([0, 0], truth_area=[3, 4])
    for rectify in (False, True):
        assert table.choose(table.total(0.1, 0.7), rectify).tolist() == [-1, -1]
    outcome = table.outcome(np.array([-1, -1]))
    assert evaluate(outcome["intersection"], outcome["union"])["oIoU"] == 0
    assert outcome["union"].tolist() == [3, 4]


# --- invariants


def units(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, 8))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.data())
def test_permuted_masks_permute_the_scores_and_the_choice(
    seed: int, count: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    crops, captions, asked, phrases = (units(rng, n) for n in (count, count, 4, 3))
    negative = rng.random((4, 3)) < 0.5
    region = rng.random((4, count)) < 0.5
    order = np.array(data.draw(st.permutations(range(count))))

    def scored(order: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        v, p = v_score(crops[order], asked), p_score(captions[order], asked)
        n = n_score(crops[order], phrases, negative)
        columns = {"V": v, "P": p, "N": n, "in_region": region[:, order]}
        columns["mask_id"] = np.tile(order, (4, 1))
        table = score_table([count] * 4, **{k: c.ravel() for k, c in columns.items()})
        chosen = table.choose(table.total(0.1, 0.7), rectify=True)
        return [v, p, n], table.outcome(chosen)["mask_id"].to_numpy()

    before, choice = scored(np.arange(count))
    after, permuted_choice = scored(order)
    for plain, permuted in zip(before, after, strict=True):
        np.testing.assert_allclose(permuted, plain[:, order], atol=1e-12)
    np.testing.assert_array_equal(permuted_choice, choice)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_the_whole_grid_is_the_slow_loop(masks: list[int], seed: int) -> None:
    table = score_table(masks, seed=seed)
    rows = table.pairs.to_dict("records")
    truths = table.sentences["truth_area"].tolist()
    for alpha, lam, rectify in product([0, 0.1, 0.4], [0, 0.7, 1], [False, True]):
        outcome = table.outcome(table.choose(table.total(alpha, lam), rectify))
        for sentence, truth in enumerate(truths):
            own = [row for row in rows if row["sentence"] == sentence]
            if rectify and any(row["in_region"] for row in own):
                own = [row for row in own if row["in_region"]]
            best, most = None, -np.inf
            for row in own:
                s = row["V"] + alpha * row["P"] + lam * row["N"]
                if s > most:
                    best, most = row, s
            inter = best["intersection"] if best else 0
            union = best["area"] + truth - inter if best else truth
            assert outcome["intersection"][sentence] == inter
            assert outcome["union"][sentence] == union
            assert outcome["mask_id"][sentence] == (best["mask_id"] if best else -1)


def test_the_grid_of_a_whole_split_takes_less_than_a_second() -> None:
    table = score_table([10] * 3000)
    began = time.process_time()
    for alpha, lam in product(range(5), range(5)):
        outcome = table.outcome(table.choose(table.total(alpha / 10, lam / 5), True))
        evaluate(outcome["intersection"], outcome["union"])
    assert time.process_time() - began < 1
