"""The rules of the released recipe, by examples worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nltk.tag import PerceptronTagger
from pycocotools import mask as coco_mask

from tasnb.method import released
from tasnb.method.language import Phrase
from tasnb.method.masked_images import masked_image
from tasnb.method.pipeline import Pipeline
from tasnb.method.proposals import refine
from tasnb.method.rectifier import in_region, in_region_grouped, rectify
from tasnb.method.scores import n_score
from tasnb.models.parsers import TAGGER, installed_tagger, load_parser, load_wordnet
from tasnb.profiles import RECIPES
from tasnb.results import ablations
from tasnb.settings import ROOT, InputError, make_settings


@pytest.fixture(scope="module")
def parser():
    return load_parser()


@pytest.fixture(scope="module")
def wordnet():
    return load_wordnet(ROOT / "data" / "wordnet" / "wordnet.zip")


# --- when the rectifier acts, and on which side


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ("the left cat", ""),  # "the" makes a relation, "left" a superlative: both
        ("red left chair", ""),  # so does "red"
        ("right bear", "right"),  # superlatives only
        ("leftmost zebra", ""),  # a relation without words
        ("bigger laptop", "top"),  # a word of size selects the branch, "lap*top*" decides
        ("laptop", ""),
        ("top left vase", "left top"),
        ("left of the dog", ""),
        ("the cat to the left of the dog", "left"),  # "the left" contains the word
        ("man on the left", ""),  # the expanded head is no longer the subject
        ("cat bottom left", ""),
        ("", ""),
    ],
)
def test_when_the_rectifier_acts(parser, expression: str, place: str) -> None:
    assert released.place(parser(expression)) == place


@pytest.mark.parametrize(
    ("sentence", "place"),
    [
        ("bigger laptop", "top"),
        ("bright vase", "right"),
        ("the least red one", "right"),  # l-east
        ("bottom left", "left"),  # "bottom" is in no list
        ("upper right", "right"),
        ("underneath the leftmost shelf", "left bottom"),
        ("under the shelf", ""),  # in the other branch only
        ("top right and left", "left top"),  # left is tested first
        ("north of the southern gate", "top"),  # and so is top
        ("smallest cat", ""),
    ],
)
def test_sides_are_substrings_of_the_sentence(sentence: str, place: str) -> None:
    assert released.place_of_superlatives(sentence) == place


@pytest.mark.parametrize(
    ("relations", "sentence", "place"),
    [
        ([(["to", "left"], "cat")], "cat to left", "left"),  # the head's own text
        ([(["to", "left"], "the left")], "cat to the left", "left"),  # has the word in it
        ([(["left", "of"], "the dog")], "left of the dog", ""),
        ([(["right", "left"], "cat")], "right left", "right"),  # the first listed word counts
        ([(["below", "left"], "the left")], "below left", ""),  # even if it does not act
        ([(["under"], "cat")], "left under", "left bottom"),
        ([(["left"], "cat")], "left underneath", "left bottom"),  # contains "under"
        ([(["bigger"], "cat")], "bigger left", ""),
        ([([], "cat"), (["above"], "cat")], "above", "top"),
        ([(["left"], "cat"), (["right"], "cat")], "x", "right"),  # the later relation wins
    ],
)
def test_relations(relations: list, sentence: str, place: str) -> None:
    assert released.place_of_relations(relations, "cat", sentence) == place


def test_every_word_of_the_head_s_chunk_counts_as_a_relation(parser) -> None:
    doc = parser("red left chair")
    chunks = released._expanded(doc)
    found = released.entity_of(doc, chunks)
    assert [(words, other.head.text) for words, other in found.relations] == [
        ([], "red left chair")
    ]
    assert [[word.text for word in words] for words in found.superlatives] == [["left"]]


def test_chunks_grow_to_the_next_chunk(parser) -> None:
    doc = parser("the cat to the left of the dog")
    assert {c.text for c in released._expanded(doc).values()} == {"the cat", "the left", "the dog"}
    doc = parser("guy on left")
    assert {c.text for c in released._expanded(doc).values()} == {"guy on left"}


def test_halves_are_open_on_the_left_and_at_the_top() -> None:
    x, y = [10.9, 10.2, 30, 40, 90], [10, 50, 20.9, 40, 5]
    assert in_region(x, y, "left", "released").tolist() == [True, True, False, False, False]
    assert in_region(x, y, "right", "released").tolist() == [False, False, True, True, True]
    assert in_region(x, y, "top", "released").tolist() == [True, False, False, False, True]
    assert in_region(x, y, "bottom", "released").tolist() == [False, True, True, True, False]
    # Truncated to whole pixels 10.9 and 10.2 are equal; both are on the median, so neither is left.
    assert in_region([10.9, 10.2], [0, 0], "left", "released").tolist() == [False, False]
    assert in_region([10.9, 10.2], [0, 0], "left", "published").tolist() == [False, True]


def test_an_empty_quadrant_leaves_the_choice() -> None:
    scores, x, y = [0.1, 0.2, 0.9], [10, 20, 30], [10, 20, 30]
    assert not in_region(x, y, "left bottom", "released").any()
    assert rectify(scores, x, y, "left bottom", "released") == 2
    assert rectify(scores, x, y, "left top", "released") == 0
    assert rectify(scores, x, y, "left", "released") == 0


def test_a_half_is_the_better_of_two_quadrants() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(1, 8))
        x, y, scores = rng.uniform(0, 9, count), rng.uniform(0, 9, count), rng.random(count)
        row, column = np.floor(y), np.floor(x)
        top, left = row < np.median(row), column < np.median(column)
        for place, quadrants in {
            "left": [top & left, ~top & left],
            "right": [top & ~left, ~top & ~left],
            "top": [top & left, top & ~left],
            "right bottom": [~top & ~left],
        }.items():
            best = [max(np.flatnonzero(q), key=lambda i: scores[i]) for q in quadrants if q.any()]
            expected = max(best, key=lambda i: scores[i]) if best else scores.argmax()
            assert rectify(scores, x, y, place, "released") == expected


def test_groups_follow_the_rule_of_one() -> None:
    frame = pd.DataFrame(
        {"key": [0, 0, 0, 1, 1], "center_x": [1.0, 2, 3, 5, 5.5], "center_y": 0.0,
         "orientation": ["left"] * 3 + ["right"] * 2}
    )  # fmt: skip
    found = in_region_grouped(frame, rule="released")
    assert found.tolist() == [True, False, False, True, True]


# --- subject, synonyms, negatives


@pytest.mark.parametrize(
    ("expression", "subject"),
    [("the left cat", "the left cat"), ("left of the dog", "left of the dog"),
     ("man on the left", "man"), ("standing", "standing")],
)  # fmt: skip
def test_the_subject(parser, expression: str, subject: str) -> None:
    assert released.subject(parser(expression)) == subject


@pytest.mark.parametrize(
    ("a", "b", "synonyms"),
    [
        ("cat", "cat", True),
        ("puppy", "puppy", False),  # two synsets, so it is no synonym of itself
        ("person", "person", True),  # three
        ("man", "guy", False),  # the strict reading of the paper, computed otherwise
        ("dog", "puppy", False),
        ("cat", "guy", False),  # one synset is shared, not three
        ("runs", "run", True),  # any part of speech, and inflected
        ("", "cat", False),
        ("qwertz", "qwertz", False),
        ("dumpling", "dumpling", False),
        ("dumplings", "dumplings", True),  # one of two synsets is listed twice: five pairs
        ("dumplings", "dumpling", True),
    ],
)
def test_near_synonyms(wordnet, a: str, b: str, synonyms: bool) -> None:
    assert released.are_near_synonyms(a, b, wordnet) is synonyms
    pairs = [
        (one, other)
        for one in (wordnet.synsets(a) if a else [])
        for other in (wordnet.synsets(b) if b else [])
        if (one.path_similarity(other) or 0) > 0.9
    ]
    assert (len(pairs) >= 3) is synonyms  # as it is described


@pytest.fixture
def tagger(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """Stands in for an installed NLTK tagger; it knows six words, and "mop" is not a noun to it."""
    root = tmp_path_factory.mktemp("nltk")
    monkeypatch.setattr("nltk.data.path", [str(root)])
    own = PerceptronTagger(load=False)
    words = [("the", "DT"), ("red", "JJ"), ("mop", "VB"), ("house", "NN"), ("cat", "NN")]
    own.train([[(word, tag)] for word, tag in words * 25])
    folder = root / "taggers" / TAGGER
    folder.parent.mkdir()
    own.save_to_json("eng", str(folder))
    return str(folder)


def test_an_installed_nltk_tagger_finds_the_nouns(parser, tagger: str) -> None:
    assert installed_tagger() == tagger
    assert released.noun_phrases(["the mop house"], parser) == [[("the mop house", "house")]]
    assert released.read_expressions(["the mop", "the cat"], parser)["head"].tolist() == ["", "cat"]


def test_without_it_spacy_s_tags_take_its_place(
    parser, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    assert installed_tagger() is None
    assert released.noun_phrases(["the mop house"], parser) == [[("the mop house", "mop")]]


def test_a_damaged_tagger_is_named(parser, tagger: str) -> None:
    for file in Path(tagger).iterdir():
        file.write_text("{")
    with pytest.raises(
        InputError, match=rf"{TAGGER} is not an NLTK tagger: restore it .*downloader"
    ):
        released.noun_phrases(["a house"], parser)


def test_stages_say_which_tagger_read_them(tmp_path, monkeypatch, request) -> None:
    def fingerprints() -> list[str]:
        both = []
        for recipe in ("released", "published"):
            stages = Pipeline(make_settings(recipe=recipe, store=str(tmp_path / "store")))
            theirs = recipe == "released"
            names = ("expressions-released", "phrases-released") if theirs else ("phrases",)
            both += [stages.word_stage(name, 1, theirs).fingerprint for name in names]
        return both

    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    before = fingerprints()
    request.getfixturevalue("tagger")
    after = fingerprints()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]


def test_stages_hand_the_phrases_over_as_each_rule_has_them(tmp_path) -> None:
    caption = "a dog house next to a cat and it"
    run = Pipeline(make_settings(store=str(tmp_path / "store")))
    assert run.noun_phrases([caption])[caption] == [
        Phrase("a dog house", "house", "dog house"), Phrase("a cat", "cat", "cat")
    ]  # fmt: skip
    theirs = run.variant(negative_rule="released").noun_phrases([caption])[caption]
    assert theirs == [
        Phrase("a dog house", "dog", "dog"), Phrase("a cat", "cat", "cat"), Phrase("it", "", "")
    ]  # fmt: skip


def test_all_noun_chunks_are_phrases_also_twice(parser) -> None:
    (found,) = released.noun_phrases(["a dog next to a dog and it"], parser)
    assert found == [("a dog", "dog"), ("a dog", "dog"), ("it", "")]


def test_a_phrase_twice_counts_twice() -> None:
    crops, phrases = np.eye(2), np.eye(2)
    found = n_score(crops, phrases, np.array([[2, 1], [0, 0]]))
    np.testing.assert_allclose(found, [[-2 / 3, -1 / 3], [0, 0]])


# --- masks and boxes


def table_of(*masks: np.ndarray) -> pd.DataFrame:
    rles = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    return pd.DataFrame(
        {"height": masks[0].shape[0], "width": masks[0].shape[1],
         "counts": [rle["counts"] for rle in rles], "area": [int(m.sum()) for m in masks]}
    )  # fmt: skip


def test_a_mask_that_is_dropped_still_drops_others() -> None:
    """A chain of three: half of each mask overlaps the next larger one."""

    def rectangle(begin: int, end: int) -> np.ndarray:
        mask = np.zeros((100, 200), bool)
        mask[:, begin:end] = True
        return mask

    chain = table_of(rectangle(0, 80), rectangle(50, 110), rectangle(85, 135), rectangle(0, 19))
    settings = make_settings(recipe="released")
    assert refine(chain, settings).tolist() == [True, False, False, False]  # 1,900 pixels: small
    assert refine(chain, make_settings(min_mask_area=0.0)).tolist() == [True, True, True, False]


def test_the_box_loses_its_last_row_and_column() -> None:
    image = np.random.default_rng(0).integers(1, 256, (9, 11, 3), np.uint8)
    mask = np.zeros((9, 11), bool)
    mask[2:5, 3:9] = True  # 3 x 6, cut to 2 x 5
    crop = masked_image(image, mask, rule="released")
    assert crop.shape == (4, 5, 3)  # if the difference is odd, it is one pixel off square
    np.testing.assert_array_equal(crop[1:3], image[2:4, 3:8])
    assert not crop[0].any() and not crop[3].any()


def test_a_mask_one_pixel_wide_keeps_it() -> None:
    image = np.full((9, 11, 3), 7, np.uint8)
    mask = np.zeros((9, 11), bool)
    mask[2:7, 3] = True
    crop = masked_image(image, mask, rule="released")
    assert crop.shape == (4, 3, 3) and crop[:, 1].all() and not crop[:, [0, 2]].any()


# --- the recipe as a whole


def test_each_difference_has_a_name() -> None:
    assert ablations.DIFFERENCES.keys() == RECIPES["released"].keys()


def test_the_recipe_is_its_settings_and_gives_way_to_what_is_given() -> None:
    settings = make_settings(recipe="released")
    assert all(getattr(settings, name) == v for name, v in RECIPES["released"].items())
    assert settings.lambda_of("refscenesg") == 0.7
    assert make_settings(recipe="released", lam_g=0.3).lam_g == 0.3
    plain = make_settings(recipe="published", **RECIPES["released"])
    assert plain.model_dump(exclude={"recipe"}) == settings.model_dump(exclude={"recipe"})


@pytest.mark.slow
def test_differences_on_the_benchmark(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("released")
    settings = make_settings(limit=8, store=str(folder / "store"), out=str(folder / "out"))
    pipeline = Pipeline(settings)
    encoder = settings.encoders[-1]
    table = ablations.recipes(pipeline, encoder).set_index("recipe")
    assert list(table.index) == [
        "published", *ablations.DIFFERENCES.values(), "released (all differences)"
    ]  # fmt: skip
    np.testing.assert_allclose(table["gain"], table["mIoU"] - table["mIoU"].iloc[0], atol=1e-9)
    assert table["gain"].iloc[0] == 0
    moved = ablations.DIFFERENCES
    assert table["masks per image"][moved["subset_overlap"]] < table["masks per image"].iloc[0]
    assert table["acted (%)"][moved["rectifier_rule"]] < table["acted (%)"].iloc[0]
    for name in ("crop_rule", "negative_rule", "lam_g"):
        assert table["masks per image"][moved[name]] == table["masks per image"].iloc[0]
    # The table does not depend on the recipe of the run.
    other = ablations.recipes(pipeline.variant(**RECIPES["released"]), encoder)
    pd.testing.assert_frame_equal(other.set_index("recipe"), table)

    run = pipeline.variant(**RECIPES["released"])
    scored = run.scored("refscenes", "val", encoder)
    read = released.read_expressions(list(scored.sentences["sentence"]), load_parser())
    assert scored.sentences["orientation"].tolist() == read["orientation"].tolist()
    counted = ablations.defects(pipeline, encoder).set_index("case in the released code")
    assert counted.loc["no negative phrase: NaN, first mask chosen", "sentences"] == sum(
        (run.scored(*column, encoder).sentences["negatives"].map(len) == 0).sum()
        for column in [("refscenes", "val"), *ablations.swapped(settings)]
    )
