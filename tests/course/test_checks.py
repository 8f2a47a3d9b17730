"""Checks of exercises: plausible wrong answers get a hint, missing ones are named."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from quick import QUICK, pipeline

from tasnb.course import check
from tasnb.course.beyond import EXPRESSIONS as PLACED
from tasnb.course.checking import exercises, expect_same, verdict_on
from tasnb.course.proposals import kept_and_bound
from tasnb.course.rectifier import EXPRESSIONS
from tasnb.course.verdicts import Hint, NotDone, is_number, is_whole, items, parts
from tasnb.method import metrics
from tasnb.settings import InputError


def contains_word(expression):
    return " ".join(w for w in ("left", "right", "top", "bottom") if w in expression.split())


def middle_of_range(scores, x, y, words):
    inside = np.ones(len(scores), bool)
    for word, values in (("left", x), ("right", -x), ("top", y), ("bottom", -y)):
        if word in words.split():
            inside &= values <= (values.min() + values.max()) / 2
    return int(np.where(inside, scores, -np.inf).argmax())


def strict_half(scores, x, y, words):
    inside = np.ones(len(scores), bool)
    for word, values in (("left", x), ("right", -x), ("top", y), ("bottom", -y)):
        if word in words.split():
            inside &= values < np.median(values)
    return int(np.where(inside | ~inside.any(), scores, -np.inf).argmax())


def no_fallback(scores, x, y, words):
    inside = np.ones(len(scores), bool)
    for word, values in (("left", x), ("right", -x), ("top", y), ("bottom", -y)):
        if word in words.split():
            inside &= values <= np.median(values)
    return int(np.where(inside, scores, -np.inf).argmax())


def upside_down(scores, x, y, words):
    names = {"top": "bottom", "bottom": "top"}
    turned = " ".join(names.get(word, word) for word in words.split())
    inside = np.ones(len(scores), bool)
    for word, values in (("left", x), ("right", -x), ("top", y), ("bottom", -y)):
        if word in turned.split():
            inside &= values <= np.median(values)
    return int(np.where(inside | ~inside.any(), scores, -np.inf).argmax())


def upside_down_at_the_top(scores, x, y, words):
    inside = np.ones(len(scores), bool)
    for word, values in (("left", x), ("right", -x), ("top", -y), ("bottom", -y)):
        if word in words.split():
            inside &= values <= np.median(values)
    return int(np.where(inside | ~inside.any(), scores, -np.inf).argmax())


def of_the_larger(masks, overlap):
    flat = masks.reshape(len(masks), -1).astype(int)
    area = flat.sum(1)
    return [
        not any(
            area[i] > area[k] and flat[i] @ flat[k] > overlap * area[i] for i in range(len(area))
        )
        for k in range(len(area))
    ]


def keeps_twins(masks, overlap):
    flat = masks.reshape(len(masks), -1).astype(int)
    area = flat.sum(1)
    return [
        not any(
            area[i] > area[k] and flat[i] @ flat[k] > overlap * area[k] for i in range(len(area))
        )
        for k in range(len(area))
    ]


def compares_with_kept(masks, overlap):
    area = masks.sum((1, 2))
    kept = []
    for k in sorted(range(len(area)), key=lambda k: -area[k]):
        if all((masks[k] & masks[i]).sum() <= overlap * area[k] for i in kept):
            kept.append(k)
    return [k in kept for k in range(len(area))]


def draws_sentences(iou, image):
    drawn = np.random.default_rng(0).choice(iou, (2000, len(iou)))
    return np.percentile(100 * drawn.mean(1), [2.5, 97.5])


def box_without_last(image, mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = slice(rows[0], rows[-1]), slice(columns[0], columns[-1])
    return image[box] * mask[box][..., None]


def box_with_background(image, mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def whole_likely(x, likely):
    return (x[None, :] < x[:, None]).sum(1)


def in_given_order(x, likely):
    return np.cumsum(likely) - likely


def adds_up(fits, chance):
    return fits @ chance


def the_best_one(fits, chance):
    return (fits * chance).max(1)


SCENE = {"width": 100, "x": [10, 20, 90], "target": 0}
SCENES = {  # right in 4.3
    "by_median": {"width": 100, "x": [60, 70, 90], "target": 0},
    "by_middle": {"width": 100, "x": [40, 10, 20], "target": 0},
}
BOTH = {"x": [0.1, 0.3, 0.9], "s": [0.0, 0.0, 9.0]}  # right in 8.4
WRONG = [
    ("0.1", {"best": 1, "best_with_large_alpha": 1}, "N is negative"),
    ("1.1", {"masks_will": "fall", "bound_will": "rise"}, "oracle"),
    ("1.1", {"masks_will": "rise", "bound_will": "fall"}, "more such masks"),
    ("1.2", {"iou": lambda a, b: (a & b).sum() / (a.sum() + b.sum())}, "equal masks"),
    ("1.2", {"iou": lambda a, b: (a & b).sum() / min(a.sum(), b.sum())}, "overlap"),
    ("1.3", {"kept": of_the_larger}, "within a larger"),
    ("1.3", {"kept": keeps_twins}, "equal masks"),
    ("1.3", {"kept": compares_with_kept}, "dropped themselves"),
    ("1.4", {"overlap": 0.9}, "+0.0 points"),
    ("2.1", {"better": "both"}, 'Answer "crop"'),
    ("2.2", {"crop": box_without_last}, "last row and column"),
    ("2.2", {"crop": box_with_background}, "black"),
    ("2.3", {"names_it": lambda caption, noun: noun in caption}, "another one"),
    ("2.3", {"names_it": lambda caption, noun: noun in caption.split()}, "plural"),
    ("3.1", {"total": lambda v, p, n, alpha, lam: v + alpha * p - lam * n}, "negative already"),
    ("3.1", {"total": lambda v, p, n, alpha, lam: v + lam * p + alpha * n}, "alpha times P"),
    ("3.2", {"n_score": lambda crop, phrases: (phrases @ crop).mean()}, "punishes"),
    ("3.2", {"n_score": lambda crop, phrases: -(phrases @ crop).sum()}, "many phrases"),
    ("3.2", {"n_score": lambda crop, phrases: -(phrases @ crop).repeat(2)}, "one number"),
    ("3.3", {"mended": -1, "spoilt": -1}, "number of a sentence"),
    ("3.4", {"is_negative": lambda nouns, subject: subject not in nouns}, "another one"),
    ("3.4", {"is_negative": lambda nouns, subject: subject != nouns.split()[-1]}, "any of its"),
    (
        "4.1",
        {"places": {text: contains_word(text) for text in EXPRESSIONS}},
        "the rectifier reads",
    ),
    ("4.2", {"rectify": middle_of_range}, "half of the masks"),
    ("4.2", {"rectify": strict_half}, "median belongs to both"),
    ("4.2", {"rectify": no_fallback}, "no centre lies"),
    ("4.2", {"rectify": upside_down}, "downwards"),
    ("4.2", {"rectify": upside_down_at_the_top}, "downwards"),
    ("4.3", {"by_median": SCENE, "by_middle": SCENE}, "by_median: the target is in"),
    ("5.1", {"higher": "P@0.5"}, 'Answer "oIoU"'),
    ("5.2", {"oiou": lambda i, u: 100 * (i / u).mean(), "miou": np.mean}, "other of the two"),
    ("5.2", {"oiou": lambda i, u: i.sum() / u.sum(), "miou": np.mean}, "percent"),
    ("5.3", {"interval": draws_sentences}, "Too narrow"),
    ("6.1", {"decides": "V"}, "Divide S"),
    ("6.2", {"v_and_n": 0.4}, "mIoU"),
    ("6.3", {"best_alpha": 0.3, "best_lam": 0.7}, "not part of the grid"),
    ("6.4", {"differ": ["no such expression"]}, "not an expression"),
    ("8.1", {"readings": {text: contains_word(text) for text in PLACED}}, "read differently"),
    ("8.2", {"before": whole_likely}, "two masks of 0.5"),
    ("8.2", {"before": in_given_order}, "any order"),
    ("8.2", {"before": lambda x, likely: (x[None] <= x[:, None]) @ likely}, "so count"),
    ("8.2", {"before": lambda x, likely: 1.0}, "one number per mask"),
    ("8.3", {"related": adds_up}, "at most 1"),
    ("8.3", {"related": the_best_one}, "two give a better chance"),
    ("8.4", {"scene": {"x": [0.1, 0.9], "s": [0.3, 0.2]}}, "Both rules choose mask 0"),
    ("8.4", {"scene": {"x": [10, 90], "s": [0.3, 0.2]}}, "from 0 at the left"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "answers", "hint"), WRONG, ids=[f"{n}-{k}" for k, (n, *_) in enumerate(WRONG)]
)
def test_a_plausible_wrong_answer_gets_its_hint(number, answers, hint, shared_store):
    """With nothing but the parameters: no other cell of the notebook has been run."""
    names = {**QUICK, "store": str(shared_store), "out": "", **answers}
    names["changes"] = {"encoders": names.pop("encoders"), "shard_size": names.pop("shard_size")}
    verdict = verdict_on(number, names)
    assert verdict.state == "not yet", verdict
    assert hint in verdict.text and "\n" not in verdict.text
    assert verdict_on(number, {**names, "pipeline": pipeline(shared_store)}) == verdict


def test_every_exercise_has_a_wrong_answer():
    assert {number for number, *_ in WRONG} == set(exercises())


@pytest.mark.parametrize("number", list(exercises()))
@pytest.mark.parametrize("given", [False, True])
def test_what_is_missing_is_to_do(number, given):
    names = exercises()[number].names
    verdict = verdict_on(number, dict.fromkeys(names, ...) if given else {})
    assert verdict.state == "to do"
    assert all(name in verdict.text for name in names)


@pytest.mark.parametrize(
    "empty", [lambda *_: None, lambda *_: (_ for _ in ()).throw(NotImplementedError)]
)
def test_an_empty_function_is_to_do(empty, tmp_path):
    names = {"pipeline": pipeline(tmp_path), "iou": empty}
    assert verdict_on("1.2", names).state == "to do"


@pytest.mark.parametrize(
    ("number", "answers", "hint"),
    [
        ("1.2", {"iou": lambda a, b: np.array([0.1, 0.2])}, "should return one number"),
        ("1.2", {"iou": lambda a, b: "1"}, "should return one number"),
        ("1.2", {"iou": eval("lambda a, b: np.sum(a & b)", {})}, "import numpy as np"),
        ("2.2", {"crop": lambda image, mask: "picture"}, "cannot be checked (IndexError"),
        ("0.1", {"best": np.zeros(2), "best_with_large_alpha": 1}, "cannot be checked"),
        ("4.1", {"places": dict.fromkeys(EXPRESSIONS, "upper left")}, "Each answer is a text"),
    ],
)
def test_an_answer_of_another_type_gets_a_hint(number, answers, hint, tmp_path):
    verdict = verdict_on(number, {"pipeline": pipeline(tmp_path), **answers})
    assert verdict.state == "not yet" and hint in verdict.text, verdict


@pytest.mark.parametrize(
    "given", [("", "right bottom"), (None, "Bottom, right"), ([], ["bottom", "right"])]
)
def test_words_may_be_given_as_text_or_list(given, tmp_path):
    none, two = given
    answers = ("left", none, none, two, none)
    names = {"pipeline": pipeline(tmp_path), "places": dict(zip(EXPRESSIONS, answers, strict=True))}
    assert verdict_on("4.1", names).state == "right"


@pytest.mark.parametrize(
    ("number", "answers"),
    [
        ("8.1", {"readings": dict(zip(PLACED, given, strict=True))})
        for given in (
            ("left 2", "bottom, right", "", "", "", "big"),
            (["Left 2"], ["right", "bottom"], None, [], (), {"big"}),
            (pd.Series(["left 2"]), np.array(["bottom", "right"]), None, "", "", "big "),
        )
    ]
    + [
        (number, {name: {k: kind(v) for k, v in scene.items()} for name, scene in scenes.items()})
        for kind in (lambda v: v, np.array, pd.Series)
        for number, scenes in (("4.3", SCENES), ("8.4", {"scene": BOTH}))
    ],
)
def test_answers_of_several_parts_may_be_lists_of_any_kind(number, answers, tmp_path):
    if number == "4.3":  # single numbers stay numbers, NumPy's in this case
        for scene in answers.values():
            scene.update(width=np.int64(100), target=np.int64(0))
    verdict = verdict_on(number, {"pipeline": pipeline(tmp_path), **answers})
    assert verdict.state == "right", verdict


def test_what_answers_may_be():
    assert items(None) == [] and items("a b") == ["a b"] and items(np.arange(2)) == [0, 1]
    assert parts(["Left 2 ", "x"]) == parts("left  2, x,") == ["left 2", "x"] and parts(None) == []
    assert all(map(is_number, (1, 0.5, np.float32(1), np.int8(1))))
    assert not any(map(is_number, (True, np.bool_(True), "1", None, [1], 1j)))
    assert is_whole(np.int64(3)) and not is_whole(3.0) and not is_whole(True)


def test_none_is_false_unless_nothing_else_is_returned():
    examples = (("a b", "a", "hint"), ("ab", "a", "other hint"))

    def truth(text, word):
        return word in text.split()

    def matches(text, word):
        return re.match(rf"{word}\b", text)

    expect_same(matches, truth, examples, [("b", "a")])
    with pytest.raises(NotDone):
        expect_same(lambda *_: None, truth, examples, ())
    with pytest.raises(Hint, match="other hint Try 'ab', 'a'"):
        expect_same(lambda text, word: re.match(word, text), truth, examples, ())


def test_what_a_function_raises_is_a_hint(tmp_path):
    names = {"pipeline": pipeline(tmp_path), "iou": lambda a, b: a / "b"}
    verdict = verdict_on("1.2", names)
    assert (
        verdict.state == "not yet" and "UFuncTypeError" in verdict.text
    ) or "TypeError" in verdict.text


def test_only_nbgrader_gets_an_exception(monkeypatch):
    assert check("1.2", {}).state == "to do"
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    with pytest.raises(AssertionError, match=r"1\.2, to do: .*Still missing: iou"):
        check("1.2", {})


def test_unknown_exercise():
    with pytest.raises(InputError, match=r"^unknown exercise '1\.9': "):
        check("1.9", {})


def test_the_verdict_is_shown_as_text_and_as_html():
    verdict = check("4.3", {})
    assert repr(verdict).startswith("Exercise 4.3, to do: Construct a scene")
    assert "<b style" in verdict._repr_html_() and "to do:" in verdict._repr_html_()


@pytest.mark.slow
def test_hints_do_not_reveal_numbers(shared_store):
    one = pipeline(shared_store)
    scored = one.scored("refscenes", "val", one.settings.encoders[0])
    outcome = scored.outcome(scored.choose(scored.total(0, one.settings.lam), False))
    truth = metrics.evaluate(outcome["intersection"], outcome["union"])["mIoU"]
    assert verdict_on("6.2", {"pipeline": one, "v_and_n": truth}).state == "right"
    said = verdict_on("6.2", {"pipeline": one, "v_and_n": truth + 3}).text
    assert f"{truth:.1f}" not in said
    assert kept_and_bound(one, 0.4)[0] <= kept_and_bound(one, 0.9)[0]
