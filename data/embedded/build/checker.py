"""Proves that a RefScenes expression is true of its target and of nothing else in the scene.

A sentence is parsed with a small grammar over `vocabulary.toml` and evaluated on the stored masks
and attributes of an image. No code is shared with the generator of the expressions. Truth has three
values: *maybe* means that people could disagree (is a tiger a cat?). A sentence is valid if it is
*yes* for its targets and *no* for all other objects; a sentence without a target (`no_target`, as
in gRefCOCO) is *no* for all. `python checker.py FOLDER ...` checks datasets.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as rle

NO, MAYBE, YES = 0, 1, 2
VERDICTS = ("no", "maybe", "yes")
TABLE = tomllib.loads(Path(__file__).with_name("vocabulary.toml").read_text(encoding="utf-8"))
PERSON = TABLE["people"]["generic"]
MARGIN = TABLE["places"]["margin"]
FAR = 0.62  # nothing beyond this share of the width counts as left, wherever its rivals are
AXIS = {"left": "x", "right": "x", "middle": "x", "top": "y", "bottom": "y"}
LOOK_NOUNS = ("redhead",)  # looks that can also be used as a noun, for a person who looks so
# One letter per word: Place, preposition, siZe, Look, Colour, Activity, Name, Relation.
SENTENCE = re.compile(r"([PZLCA]*N(?:p?P|A)*)(?:R([LCA]*NA*))?")


class Ungrammatical(ValueError):
    """The words are known, but do not form an expression."""


class UnknownWords(Ungrammatical):
    """The sentence contains words that are not in the vocabulary."""


@dataclass(frozen=True)
class Phrase:
    """A name with its attributes, each in the table's main form. The name "one" fits anything."""

    name: str
    look: str = ""
    colour: str = ""
    activity: str = ""
    size: str = ""
    places: tuple[str, ...] = ()
    relation: str = ""
    other: Phrase | None = None


def plain(text: str) -> str:
    """The words in lower case, without punctuation, hyphens and articles."""
    words = re.sub(r"[^a-z0-9]+", " ", text.lower()).split()
    return " ".join(w for w in words if w not in ("the", "a", "an"))


def _vocabulary() -> dict[str, dict[str, str]]:
    """Phrase in a sentence -> {letter of its class: meaning}, the most likely meaning first."""
    table: dict[str, dict[str, str]] = {}

    def add(letter: str, meaning: str, phrases: list[str]) -> None:
        for phrase in map(plain, phrases):
            table.setdefault(phrase, {})[letter] = meaning or phrase

    for letter, group in (("L", "looks"), ("C", "colours"), ("A", "activities")):
        for name, entry in TABLE[group].items():
            add(letter, name, [name, *entry.get("also", [])])
    for name in AXIS:
        add("P", name, TABLE["places"][name])
    for name in ("near", "left_of", "right_of", "behind", "in_front_of"):
        add("R", name, TABLE["relations"][name])
    add("Z", "big", TABLE["sizes"]["big"] + TABLE["sizes"]["biggest"])
    add("Z", "small", TABLE["sizes"]["small"] + TABLE["sizes"]["smallest"])
    for entry in (*TABLE["nouns"].values(), TABLE["people"]["man"], TABLE["people"]["woman"]):
        add("N", "", [*entry.get("also", []), *entry.get("maybe", [])])
    add("N", "", [*TABLE["nouns"], *TABLE["generic"], *LOOK_NOUNS, "one"])
    add("p", "", ["on", "at", "in", "to"])  # "on the bottom left": only before a place
    add("", "", ["that is", "who is", "which is", "that", "one"])
    return table


VOCABULARY = _vocabulary()
WORD = re.compile(rf"(?:{'|'.join(sorted(VOCABULARY, key=len, reverse=True))})(?= |$)|\S+")


def _phrase(words: list[tuple[str, str]], text: str) -> Phrase:
    by = {letter: [m for got, m in words if got == letter] for letter in "NLCAZP"}
    name, axes = by["N"][0], [AXIS[place] for place in by["P"]]
    if name in LOOK_NOUNS:
        by["L"].append(VOCABULARY[name]["L"])
        name = PERSON
    if max(len(by[letter]) for letter in "LCAZ") > 1 or len(axes) > len(set(axes)):
        raise Ungrammatical(f"{text!r} says the same kind of thing twice")
    return Phrase(name, *("".join(by[letter]) for letter in "LCAZ"), places=tuple(by["P"]))


@lru_cache(maxsize=65536)
def parse(text: str) -> Phrase:
    """Parses a sentence; raises `UnknownWords` or `Ungrammatical` if that is impossible."""
    found = WORD.findall(plain(text))
    if unknown := [word for word in found if word not in VOCABULARY]:
        raise UnknownWords(f"unknown words in {text!r}: {', '.join(unknown)}")
    for reading in product(*(VOCABULARY[word].items() for word in found)):
        words = [word for word in reading if word[0]]
        if match := SENTENCE.fullmatch("".join(letter for letter, _ in words)):
            cut = match.end(1)
            said, end = _phrase(words[:cut], text), words[cut + 1 :]
            return replace(said, relation=words[cut][1], other=_phrase(end, text)) if end else said
    raise Ungrammatical(f"{text!r} does not follow the grammar")


def _truth(yes: np.ndarray, maybe: np.ndarray) -> np.ndarray:
    return np.where(yes, YES, np.where(maybe, MAYBE, NO))


class Things:
    """The objects of one image, from their annotations in instances.json (no mask is empty).

    `near`, `left_of`, `right_of`, `behind`, `in_front_of`: truth values [n, n]; row is the subject.
    """

    def __init__(self, annotations: list[dict]) -> None:
        self.attributes = [a["attributes"] for a in annotations]
        self.names = [{plain(name) for name in a["names"]} for a in self.attributes]
        self.maybe = [{plain(name) for name in a["maybe"]} for a in self.attributes]
        self.masks = [np.ascontiguousarray(rle.decode(a["segmentation"])) for a in annotations]
        self.height, self.width = self.masks[0].shape
        self._pixels = [np.flatnonzero(mask) for mask in self.masks]
        self.area = np.array([len(p) for p in self._pixels])  # pixels
        self.x = np.array([(p % self.width).mean() for p in self._pixels])  # mean pixel coordinates
        self.y = np.array([(p // self.width).mean() for p in self._pixels])

    @cached_property
    def near(self) -> np.ndarray:
        how = (cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        away = [cv2.distanceTransform(1 - m, *how).ravel() for m in self.masks]
        gap = np.array([[d[p].min() for p in self._pixels] for d in away])  # 1 if they touch
        limit = TABLE["relations"]["gap"] * self.width
        return _truth(gap <= limit, gap <= 2 * limit)

    @cached_property
    def left_of(self) -> np.ndarray:
        t, o = self.x[:, None], self.x[None, :]
        reach = TABLE["relations"]["reach"] * self.width
        return _truth((t <= o - MARGIN * self.width) & (o - t <= reach), t < o)

    @cached_property
    def behind(self) -> np.ndarray:
        layers = [a["layer"] for a in self.attributes]
        under = np.less.outer(layers, layers)
        squares = np.ones((5, 5), np.uint8), np.ones((9, 9), np.uint8)  # grow by 2 and by 4 pixels
        by_2, by_4 = ([cv2.dilate(m, square).ravel() for m in self.masks] for square in squares)
        hides = np.array([[grown[p].sum() >= 10 for p in self._pixels] for grown in by_2])
        touch = np.array([[(t & o).any() for o in by_4] for t in by_4])
        return _truth(under & hides, under & touch)

    right_of = property(lambda self: self.left_of.T)
    in_front_of = property(lambda self: self.behind.T)


def _is(phrase: Phrase, t: int, things: Things) -> int:
    """Whether the name, look, colour and activity fit object t."""
    a, name = things.attributes[t], phrase.name
    person = a["kind"] == PERSON
    trade = person and a["noun"] not in ("man", "woman")  # a chef may also be old, or running
    kind = TABLE["generic"].get(name) == a["kind"]
    truth = MAYBE if kind or name in things.maybe[t] else NO
    if name == "one" or name in things.names[t] or (kind and not person):
        truth = YES
    if phrase.look and a["look"] != phrase.look:
        truth = min(truth, MAYBE if trade or phrase.look in a["maybe_looks"] else NO)
    if phrase.colour and a["colour"] != phrase.colour:
        truth = min(truth, NO if a["colour"] else MAYBE)
    if phrase.activity and a["activity"] != phrase.activity:
        standing = person and phrase.activity == "standing"
        truth = min(truth, MAYBE if trade or standing else NO)
    return truth


def _sized(things: Things, t: int, others: np.ndarray, size: str) -> int:
    """Whether object t is the big (small) one among the objects that fit the phrase."""
    large, less = things.area[t], things.area[others]
    if size == "small":
        large, less = less, large
    clear = (large >= TABLE["sizes"]["ratio"] * less).all()
    return _truth(clear, (large >= less).all()) if len(others) else MAYBE


def _related(things: Things, t: int, others: np.ndarray, relation: str, fit: np.ndarray) -> int:
    """Whether object t has the relation to one of the others, which fit the other phrase."""
    pairs = getattr(things, relation)[t]
    best = max((min(fit[o], pairs[o]) for o in others), default=NO)
    return best if len(others) == 1 else min(best, MAYBE)  # "the taxi" when there are two


def _placed(things: Things, t: int, others: np.ndarray, place: str) -> int:
    """Whether object t is at the place, compared with the others that fit the rest."""
    length, at = (things.width, things.x) if AXIS[place] == "x" else (things.height, things.y)
    margin = MARGIN * length
    if place in ("right", "bottom"):
        at = length - at  # measured from the other side, so that all are like "left"
    c, rivals = at[t], at[others]
    if place == "middle":
        half = (len(rivals) + 1) // 2  # as many on both sides only if the total is odd
        before, after = (rivals <= c - margin).sum(), (rivals >= c + margin).sum()
        at_end = (c < rivals).all() or (c > rivals).all()
        return _truth(half and before == after == half, not at_end)
    if len(rivals):
        return _truth((c <= rivals - margin).all() and c <= FAR * length, (c <= rivals).all())
    return _truth(c <= (length - margin) / 2, c < (length + margin) / 2)


def check(sentence: str, things: Things) -> list[str]:
    """The truth of a sentence for each object of an image: "yes", "maybe" or "no"."""
    said, every = parse(sentence), range(len(things.masks))

    def among(fit: np.ndarray, rule: Callable, *what: object) -> np.ndarray:
        others = [np.array([o for o in every if fit[o] and o != t], dtype=int) for t in every]
        return np.array([rule(things, t, others[t], *what) for t in every])

    truth = base = np.array([_is(said, t, things) for t in every])
    if said.size:
        truth = np.minimum(truth, among(base, _sized, said.size))
    if said.other:
        fit = np.array([_is(said.other, o, things) for o in every])
        truth = np.minimum(truth, among(fit, _related, said.relation, fit))
    rest = truth  # a place compares all objects that fit the rest of the sentence
    for place in said.places:
        truth = np.minimum(truth, among(rest, _placed, place))
    return [VERDICTS[v] for v in truth]


def valid(sentence: str, things: Things, targets: list[int]) -> bool:
    """Whether a sentence is certainly true of the targets (indices) and of no other object."""
    verdicts = check(sentence, things)
    return all(v == ("yes" if t in targets else "no") for t, v in enumerate(verdicts))


def read_refs(folder: Path, refs_file: Path) -> Iterator[tuple[str, dict, Things, list[int]]]:
    """Yields (file name, ref, objects of the image, indices of the targets) for each ref."""
    instances = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in instances["images"]}
    annotations: dict[int, list[dict]] = {image: [] for image in names}
    for annotation in instances["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    things = lru_cache(maxsize=None)(lambda image: Things(annotations[image]))
    for ref in json.loads(refs_file.read_text(encoding="utf-8")):
        image = ref["image_id"]
        ids = [a["id"] for a in annotations[image]]
        meant = [] if ref.get("no_target") else ref.get("ann_ids") or [ref["ann_id"]]
        targets = [ids.index(i) for i in meant]
        yield names[image], ref, things(image), targets


def check_dataset(folder: Path, refs_file: Path) -> list[str]:
    """One line (image, ref, sentence, verdicts, with a * at each target) per wrong sentence.

    A sentence is wrong if it is invalid, cannot be parsed, or mentions a position in a dataset
    whose name ends with "+".
    """
    problems, plus = [], folder.name.endswith("+")
    for name, ref, things, targets in read_refs(folder, refs_file):
        nouns = [f"{'*' * (t in targets)}{a['noun']}" for t, a in enumerate(things.attributes)]
        for text in sorted({s[form] for s in ref["sentences"] for form in ("sent", "raw")}):
            try:
                said, verdicts = parse(text), zip(nouns, check(text, things), strict=True)
                wrong = "" if valid(text, things, targets) else ", ".join(map(" ".join, verdicts))
                if plus and (said.places or said.relation in ("left_of", "right_of")):
                    wrong = "positions are not allowed in this dataset"
            except Ungrammatical as error:
                wrong = str(error)
            if wrong:
                problems.append(f"{name} ref {ref['ref_id']} {text!r}: {wrong}")
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Prints the problems and one line per refs file; returns 1 if there are any, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders with instances.json")
    total = 0
    for folder in parser.parse_args(arguments).folders:
        for file in sorted(folder.glob("refs(*).json")) or parser.error(f"no refs in {folder}"):
            problems = check_dataset(folder, file)
            count = sum(len(r["sentences"]) for r in json.loads(file.read_text(encoding="utf-8")))
            summary = f"{folder.name} {file.name}: {count} sentences, {len(problems)} problems"
            print(*problems, summary, sep="\n")
            total += len(problems)
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
