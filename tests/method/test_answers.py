"""Answers of any number of masks: by hand, against a slow loop, and through the models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from quick import ENCODER
from quick import pipeline as quick

from tasnb.method.answers import GENERIC, Answers, answers, evidence, outcome
from tasnb.method.language import prompted
from tasnb.method.pipeline import Pipeline
from tasnb.method.places import unplaced
from tasnb.method.scores import ScoreTable
from tasnb.settings import InputError, Settings, make_settings

SIZE = (8, 10)


def settings(**changes: object) -> Settings:
    return make_settings(answers="any", temperature=0.1, **changes)


def encoded(mask: np.ndarray) -> bytes:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def columns(left: int, right: int) -> np.ndarray:
    """A mask (8, 10) of whole columns."""
    mask = np.zeros(SIZE, bool)
    mask[:, left:right] = True
    return mask


def table(
    s: list[list[float]],
    e: list[list[float]],
    truths: list[np.ndarray],
    masks: list[np.ndarray],
    inside: list[list[bool]] | None = None,
) -> tuple[ScoreTable, pd.DataFrame]:
    """Sentences about one image with these masks, and the masks as from ``Stages.refined``."""
    sentences = pd.DataFrame(
        {
            "image": "a",
            "height": SIZE[0],
            "width": SIZE[1],
            "ground_truth": [encoded(truth) for truth in truths],
            "truth_area": [int(truth.sum()) for truth in truths],
        }
    )
    rows = []
    for number, truth in enumerate(truths):
        for k in range(len(s[number])):
            rows.append(
                {
                    "sentence": number,
                    "mask_id": 3 * k,
                    "V": s[number][k],
                    "P": 0.0,
                    "N": 0.0,
                    "E": e[number][k],
                    "in_region": inside[number][k] if inside else True,
                    "area": int(masks[k].sum()),
                    "intersection": int((masks[k] & truth).sum()),
                }
            )
    frame = pd.DataFrame(
        {
            "image": "a",
            "mask_id": [3 * k for k in range(len(masks))],
            "height": SIZE[0],
            "width": SIZE[1],
            "counts": [encoded(mask) for mask in masks],
        }
    )
    return ScoreTable(sentences, pd.DataFrame(rows)), frame


def found(scored: ScoreTable, how: Settings) -> Answers:
    return answers(scored, scored.total(how.alpha, how.lam), how)


# Column 0 to 3, 2 to 5 (which overlap in one column), and 7 to 9.
MASKS = [columns(0, 3), columns(2, 5), columns(7, 9)]


def test_several_masks_by_hand() -> None:
    """Likelihoods 1, exp(-0.5) = 0.61 and exp(-2) = 0.14; the first two cover columns 0 to 4."""
    scored, masks = table([[0.9, 0.85, 0.7]], [[1.0] * 3], [columns(0, 4)], MASKS)
    of = {share: found(scored, settings(several_share=share)) for share in (1.0, 0.62, 0.6, 0.1)}
    assert [one.members.sum() for one in of.values()] == [1, 1, 2, 3]
    assert all(one.best.tolist() == [0] for one in of.values())
    (row,) = outcome(scored, of[0.6], masks).to_dict("records")
    assert row == {"intersection": 32, "union": 40, "iou": 0.8, "mask_id": 0}
    (row,) = outcome(scored, of[0.1], masks).to_dict("records")
    assert (row["intersection"], row["union"]) == (32, 56)


def test_no_mask_by_hand() -> None:
    """The evidence for the best mask decides, even if another has more."""
    nothing = columns(0, 0)
    scored, masks = table(
        [[0.9, 0.1, 0.1], [0.1, 0.9, 0.1]], [[0.79, 2, 2], [0, 0.8, 0]], [nothing] * 2, MASKS
    )
    one = found(scored, settings(least_evidence=0.8))
    assert one.best.tolist() == [-1, 4] and np.flatnonzero(one.members).tolist() == [4]
    rows = outcome(scored, one, masks)
    assert rows["mask_id"].tolist() == [-1, 3]
    assert rows["union"].tolist() == [0, 24] and rows["iou"].tolist() == [0, 0]


def test_the_ground_truth_is_missed_where_nothing_is_answered() -> None:
    scored, masks = table([[0.9]], [[0.0]], [columns(0, 4)], MASKS[:1])
    (row,) = outcome(scored, found(scored, settings()), masks).to_dict("records")
    assert row == {"intersection": 0, "union": 32, "iou": 0.0, "mask_id": -1}


def test_masks_outside_the_region_are_no_part_of_an_answer() -> None:
    scored, _ = table(
        [[0.9, 0.5, 0.48]], [[1.0] * 3], [columns(0, 4)], MASKS, [[False, True, True]]
    )
    one = found(scored, settings(several_share=0.5))
    assert one.best.tolist() == [1] and one.members.tolist() == [False, True, True]


def test_one_mask_is_the_choice_of_before() -> None:
    scored, masks = table([[0.5, 0.5, 0.5]] * 2, [[-5.0] * 3] * 2, [columns(1, 3)] * 2, MASKS)
    plain = make_settings()
    one = found(scored, plain)
    chosen = scored.choose(scored.total(plain.alpha, plain.lam), rectify=True)
    assert one.best.tolist() == chosen.tolist() == [0, 3] and one.members.sum() == 2
    pd.testing.assert_frame_equal(outcome(scored, one, masks), scored.outcome(chosen))


def test_an_image_without_masks() -> None:
    scored, masks = table([[0.9], []], [[1.0], []], [columns(0, 4)] * 2, MASKS[:1])
    one = found(scored, settings())
    assert one.best.tolist() == [0, -1]
    assert outcome(scored, one, masks)["union"].tolist() == [32, 32]


numbers = st.floats(-1, 1).map(lambda x: round(x, 2))


@given(st.data())
def test_against_a_slow_loop(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    drawn = st.lists(st.integers(0, 10), min_size=2, max_size=2).map(sorted)
    edges = data.draw(st.lists(drawn, min_size=count, max_size=count))
    masks = [columns(*pair) for pair in edges]
    truth = columns(*data.draw(drawn))
    s, e = (data.draw(st.lists(numbers, min_size=count, max_size=count)) for _ in "se")
    how = settings(several_share=data.draw(st.sampled_from([0.1, 0.5, 0.9])), least_evidence=0.0)
    scored, frame = table([s], [e], [truth], masks)
    best = max(range(count), key=lambda k: (s[k], -k))
    whole = np.zeros(SIZE, bool)
    for k in range(count):
        if e[best] >= 0 and np.exp((s[k] - s[best]) / 0.1) >= how.several_share:
            whole |= masks[k]
    (row,) = outcome(scored, found(scored, how), frame).to_dict("records")
    assert row["intersection"] == (whole & truth).sum()
    assert row["union"] == (whole | truth).sum()
    assert row["mask_id"] == (3 * best if e[best] >= 0 else -1)


def test_evidence_by_hand() -> None:
    """0.5 for the expression, 0.2 for what is true of anything, and a caption that half agrees."""
    value = evidence(np.array([[0.5]]), np.array([0.2]), np.array([[0.6]]))
    assert value == pytest.approx(np.array([[0.9]]))


@pytest.mark.parametrize("recipe", ["published", "released", "extended"])
def test_it_is_off_in_every_recipe(recipe: str) -> None:
    assert make_settings(recipe=recipe).answers == "one"


@pytest.mark.parametrize(
    ("name", "value"),
    [("answers", "some"), ("several_share", 1.5), ("least_evidence", float("nan"))],
)
def test_bad_values(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name) as caught:
        make_settings(**{name: value})
    assert "\n" not in str(caught.value)


# --- Through the models


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return quick(tmp_path_factory.mktemp("store"), limit=2)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["published", "extended"])
def test_evidence_from_the_stages(run: Pipeline, recipe: str) -> None:
    one = run.in_recipe(recipe)
    several, column = one.variant(answers="any"), ("refscenes", "val")
    plain, scored = (which.scored(*column, ENCODER) for which in (one, several))
    pd.testing.assert_frame_equal(plain.pairs, scored.pairs.drop(columns="E"))
    rows, *vectors = several.mask_embeddings(several.split(*column).images, ENCODER, "crop")
    if recipe == "extended":  # both views
        vectors.append(several.mask_embeddings(several.split(*column).images, ENCODER, "blur")[1])
    place = {key: k for k, key in enumerate(zip(rows["image"], rows["mask_id"], strict=True))}
    for pair in scored.pairs.sample(40, random_state=0).itertuples():
        said = scored.sentences.iloc[pair.sentence]
        subject = said["sentence"]
        if said["head"]:
            subject = prompted(unplaced(subject, said["subject"]))
        texts = several.text_embeddings([subject, prompted(pair.caption), *GENERIC], ENCODER)
        seen = [view[place[said["image"], pair.mask_id]] for view in vectors]
        generic = np.mean([view @ texts[text] for view in seen for text in GENERIC])
        told = texts[prompted(pair.caption)] @ texts[subject]
        found = pair.E
        assert found == pytest.approx(pair.V - generic + told, abs=1e-5)


@pytest.mark.slow
def test_stored_results_do_not_depend_on_it(run: Pipeline) -> None:
    """The answers are chosen from what the stages return, whose fingerprints stay the same."""
    any_number = run.variant(answers="any", least_evidence=0.1, several_share=0.9)
    both = (run, any_number)
    assert len({one.proposal_stage.fingerprint for one in both}) == 1
    assert len({one._caption_stage("blur").fingerprint for one in both}) == 1
    changed = any_number.settings.changed
    assert {"answers", "several_share", "least_evidence"} <= changed.keys()  # in notes and records
