"""How the checker of the RefScenes expressions parses a sentence."""

from __future__ import annotations

import pytest
from checked import (
    CAT,
    CHEF,
    DOG,
    TABLE,
    WOMAN,
    Things,
    Ungrammatical,
    UnknownWords,
    annotate,
    checker,
    thing,
    valid,
    verdicts,
)


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("the cat which sleeps", ["which", "sleeps"]),
        ("unicorn", ["unicorn"]),
        ("cat left to of dog", ["of"]),
        ("men", ["men"]),
    ],
)
def test_unknown_words_are_named(sentence: str, words: list[str]) -> None:
    with pytest.raises(UnknownWords, match=": " + ", ".join(words) + "$"):
        verdicts(sentence, thing(CAT, 20))


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "red",
        "the left",
        "cat dog",
        "red blue cat",
        "left right cat",
        "left cat on the left",
        "cat near",
        "near the cat",
        "cat near dog near car",
        "cat near the dog on the left",
        "cat near the big dog",
        "cat on",
        "on cat",
    ],
)
def test_what_is_no_expression_is_refused(sentence: str) -> None:
    with pytest.raises(Ungrammatical) as caught:
        verdicts(sentence, thing(CAT, 20), thing(DOG, 60))
    assert not isinstance(caught.value, UnknownWords)


def test_every_phrase_of_the_vocabulary_can_be_read() -> None:
    for name, noun in TABLE["nouns"].items():
        for word in (name, *noun.get("also", ()), *noun.get("maybe", ())):
            assert checker.parse(f"the {word}").name == word.replace("-", " ")
    for group, field in (("looks", "look"), ("colours", "colour"), ("activities", "activity")):
        for name, entry in TABLE[group].items():
            for word in (name, *entry.get("also", ())):
                assert getattr(checker.parse(f"{word} one"), field) == name
    for name in ("left", "right", "top", "bottom", "middle"):
        for word in TABLE["places"][name]:
            assert checker.parse(f"{word} cat").places == (name,)
            assert checker.parse(f"cat {word}").places == (name,)
    for name in ("near", "left_of", "right_of", "behind", "in_front_of"):
        for word in TABLE["relations"][name]:
            assert checker.parse(f"cat {word} the dog").relation == name
    for size, most in (("big", "biggest"), ("small", "smallest")):
        for word in TABLE["sizes"][size] + TABLE["sizes"][most]:
            assert checker.parse(f"{word} dog").size == size


def test_long_sentences() -> None:
    things = (
        thing(DOG, 20, 70, w=15, h=15),
        thing(DOG, 60, 70, w=31, h=31),
        thing(CHEF, 80, 70),
        thing(WOMAN, 20, 20, activity="dancing"),
        thing(WOMAN, 180, 20, activity="dancing"),
    )
    small = "the small brown dog that is to the left of the chef"
    assert verdicts(small, *things) == "yes no no no no"
    assert verdicts("woman on the left who is dancing", *things) == "no no no yes no"
    assert verdicts("The dancing lady, on the right.", *things) == "no no no no yes"
    assert valid(small, Things(annotate(*things)), [0])
    assert not valid(small, Things(annotate(*things)), [1])


def test_a_phrase_can_mean_several() -> None:
    things = Things(annotate(thing(CAT, 20), thing(CAT, 60), thing(DOG, 100)))
    assert valid("cat", things, [0, 1])
    assert not valid("cat", things, [0])
    assert not valid("animal", things, [0, 1])
