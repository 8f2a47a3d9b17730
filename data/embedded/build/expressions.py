"""Generates referring expressions that are true of their targets and of nothing else in the scene.

A phrase is sampled and evaluated for every object (2 yes, 1 maybe, 0 no). It is kept if it is *yes*
for its targets and *no* for all other objects. ``checker.py`` proves the same from the finished
text alone and shares no code with this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from pictures import VOCABULARY
from scenes import Object, Scene

Truth = npt.NDArray[np.int64]
RELATIONS = ("near", "left_of", "right_of", "behind", "in_front_of")


@dataclass(frozen=True)
class Phrase:
    """The content of an expression; empty fields are not expressed."""

    name: str
    look: str = ""
    colour: str = ""
    activity: str = ""
    size: str = ""  # "big" or "small"
    places: tuple[str, ...] = ()
    relation: str = ""
    other: Phrase | None = None


@dataclass(frozen=True)
class Style:
    """The style of a dataset: probabilities of the parts of an expression."""

    place: float
    size: float
    relation: float
    attribute: float
    relations: tuple[str, ...]
    long: bool = False
    several: bool = False


STYLES = {
    "refscenes": Style(0.3, 0.1, 0.14, 0.65, RELATIONS),
    "refscenes+": Style(0.0, 0.16, 0.15, 0.8, ("near", "behind", "in_front_of")),
    "refscenesg": Style(0.15, 0.25, 0.6, 0.95, RELATIONS, long=True),
    "phrasescenes": Style(0.0, 0.05, 0.15, 0.65, ("near", "behind", "in_front_of"), several=True),
}


class Geometry:
    """Measurements in pixels on the objects of a scene, used to evaluate phrases."""

    def __init__(self, objects: tuple[Object, ...]) -> None:
        masks = [thing.mask for thing in objects]
        self.height, self.width = masks[0].shape
        self.area = np.array([mask.sum() for mask in masks])
        where = [np.nonzero(mask) for mask in masks]
        self.y = np.array([ys.mean() for ys, _ in where])
        self.x = np.array([xs.mean() for _, xs in where])
        self.layer = np.array([thing.layer for thing in objects])
        far = [cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) for mask in masks]
        self.gap = np.array([[f[mask].min() for f in far] for mask in masks])
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
        grown = [cv2.dilate(mask.astype(np.uint8), disc).astype(bool) for mask in masks]
        self.covered = np.array([[(g & mask).sum() for mask in masks] for g in grown])


class Writer:
    """Generates expressions for a scene.

    Args:
        scene: The scene.
        style: The dataset's style.
        rng: Makes all random choices.
    """

    def __init__(self, scene: Scene, style: Style, rng: np.random.Generator) -> None:
        self.objects, self.style, self.rng = scene.objects, style, rng
        self.geometry = Geometry(scene.objects)

    # -- truth ---------------------------------------------------------------------------------

    def fits(self, phrase: Phrase) -> Truth:
        """For each object: 2 if the phrase is true, 1 if people may disagree, 0 if it is false."""
        truth = np.array([self._describes(phrase, thing) for thing in self.objects])
        if phrase.size:
            truth = np.minimum(truth, self._size(phrase.size, truth > 0))
        if phrase.relation and phrase.other:
            truth = np.minimum(truth, self._related(phrase.relation, self.fits(phrase.other)))
        rivals = truth > 0  # both words of "bottom left" have the same rivals
        for place in phrase.places:
            truth = np.minimum(truth, self._placed(place, rivals))
        return truth

    def _describes(self, phrase: Phrase, thing: Object) -> int:
        look = thing.look
        generic = look.kind == phrase.name and phrase.name != "person"
        doubtful = phrase.name in look.maybe or (phrase.name == "person" == look.kind)
        truth = 2 if phrase.name in look.names or generic else 1 if doubtful else 0
        unknown = look.kind == "person" and look.noun not in ("man", "woman")
        if phrase.look:
            perhaps = unknown or phrase.look in look.maybe_looks
            truth = min(truth, 2 if look.look == phrase.look else int(perhaps))
        if phrase.activity:
            perhaps = unknown or (phrase.activity == "standing" and look.kind == "person")
            truth = min(truth, 2 if look.activity == phrase.activity else int(perhaps))
        if phrase.colour:
            truth = min(truth, 2 if thing.colour == phrase.colour else int(not thing.colour))
        return truth

    def _size(self, size: str, fits: npt.NDArray[np.bool_]) -> Truth:
        area, ratio = self.geometry.area, VOCABULARY["sizes"]["ratio"]
        truth = np.zeros(len(area), int)
        for i in range(len(area)):
            rivals = area[fits & (np.arange(len(area)) != i)]
            if not len(rivals):
                truth[i] = 1
            elif size == "big":
                truth[i] = 2 if area[i] >= ratio * rivals.max() else int(area[i] >= rivals.max())
            else:
                truth[i] = 2 if area[i] * ratio <= rivals.min() else int(area[i] <= rivals.min())
        return truth

    def _related(self, relation: str, other: Truth) -> Truth:
        g, table = self.geometry, VOCABULARY["relations"]
        apart = g.x[:, None] - g.x[None]
        margin, reach = VOCABULARY["places"]["margin"] * g.width, table["reach"] * g.width
        close = table["gap"] * g.width
        below = g.layer[:, None] < g.layer[None]
        touch = (g.covered >= 10).astype(int) + (g.gap <= 9)
        yes_maybe = {
            "near": (g.gap <= close - 0.5, g.gap <= 2 * close + 0.5),  # whoever measures the gap
            "left_of": ((apart <= -margin) & (apart >= -reach), apart < 0),
            "right_of": ((apart >= margin) & (apart <= reach), apart > 0),
            "behind": (below & (touch == 2), below & (touch > 0)),
            "in_front_of": (below.T & (touch.T == 2), below.T & (touch > 0)),
        }[relation]
        holds = yes_maybe[0].astype(int) + (yes_maybe[0] | yes_maybe[1])
        np.fill_diagonal(holds, 0)
        pairs = np.minimum(holds, other[None])
        truth = pairs.max(1)
        for i in range(len(truth)):  # "the dog" must be one dog
            if (np.delete(other, i) > 0).sum() != 1:
                truth[i] = min(truth[i], 1)
        return truth

    def _placed(self, place: str, fits: npt.NDArray[np.bool_]) -> Truth:
        g = self.geometry
        share = VOCABULARY["places"]["margin"]
        if place == "middle":
            return self._middle(fits, share * g.width)
        along, size = (g.x, g.width) if place in ("left", "right") else (g.y, g.height)
        if place in ("right", "bottom"):
            along = size - along
        truth = np.zeros(len(along), int)
        for i in range(len(along)):
            rivals = along[fits & (np.arange(len(along)) != i)]
            if len(rivals):
                yes = along[i] <= rivals.min() - share * size and along[i] <= 0.62 * size
                truth[i] = 2 if yes else int(along[i] <= rivals.min())
            else:
                low, high = (0.5 - share / 2) * size, (0.5 + share / 2) * size
                truth[i] = 2 if along[i] <= low else int(along[i] < high)
        return truth

    def _middle(self, fits: npt.NDArray[np.bool_], margin: float) -> Truth:
        x = self.geometry.x
        truth = np.zeros(len(x), int)
        those = np.nonzero(fits)[0]
        ordered = those[np.argsort(x[those])]
        for rank, i in enumerate(ordered[1:-1], start=1):
            clear = np.diff(x[ordered[rank - 1 : rank + 2]]).min() >= margin
            truth[i] = 2 if len(ordered) % 2 and rank == len(ordered) // 2 and clear else 1
        return truth

    # -- choice --------------------------------------------------------------------------------

    def sentences(self, target: int, count: int) -> list[str]:
        """Up to ``count`` different sentences that are true of the target only."""
        found: dict[str, None] = {}
        for _ in range(80):
            phrase = self._draw(target)
            truth = self.fits(phrase)
            if truth[target] == 2 and truth.sum() == 2 and self._natural(phrase):
                text = self.say(phrase)
                if not self.style.long or len(text.split()) >= 6:
                    found[text] = None
            if len(found) == count:
                break
        return list(found)

    def _natural(self, phrase: Phrase) -> bool:
        """Rejects "the carrot behind the carrot", and most long phrases that depend on their end.

        People who write long expressions say more than necessary: two times out of three, the place
        or relation in a long expression only confirms what its head already identifies.
        """
        if _circular(phrase):
            return False
        if not self.style.long or self.rng.random() < 0.33:
            return True
        head = self.fits(replace(phrase, places=(), relation="", other=None))
        return int(head.sum()) == 2

    def phrases(self, target: int, count: int) -> dict[str, list[int]]:
        """Up to ``count`` phrases for an object, each with all objects that it is true of."""
        found: dict[str, list[int]] = {}
        for _ in range(80):
            phrase = self._draw(target)
            truth = self.fits(phrase)
            if truth[target] == 2 and (truth != 1).all() and not _circular(phrase):
                found[self.say(phrase)] = [int(i) for i in np.nonzero(truth)[0]]
            if len(found) == count:
                break
        return found

    def absent(self, strangers: Sequence[Writer], count: int) -> list[str]:
        """Up to ``count`` phrases about objects of other scenes, true of nothing in this one.

        Every second one, beginning with the first, has its name, look or colour in common with an
        object of this scene, since gRefCOCO's expressions without a target are deceptive as well.
        """
        found: dict[str, None] = {}
        for _ in range(80):
            other = strangers[self.rng.integers(len(strangers))]
            phrase = other._draw(int(self.rng.integers(len(other.objects))))
            if self.fits(phrase).any() or _circular(phrase):
                continue
            if len(found) % 2 or self._is_half_true(phrase):
                found[self.say(phrase)] = None
            if len(found) == count:
                break
        return list(found)

    def _is_half_true(self, phrase: Phrase) -> bool:
        """Whether the name, the look or the colour alone may be that of an object."""
        words = {phrase.name, phrase.look, phrase.colour} - {""}
        return any(
            words & {*o.look.names, *o.look.maybe, o.look.kind, o.look.look, o.colour}
            for o in self.objects
        )

    def _draw(self, target: int) -> Phrase:
        chance, style = self.rng.random, self.style
        phrase = self._noun_phrase(target, style.attribute)
        if chance() < style.size:
            phrase = replace(phrase, size="big" if chance() < 0.5 else "small")
        if chance() < style.relation and len(self.objects) > 1:
            others = [i for i in range(len(self.objects)) if i != target]
            other = self._noun_phrase(int(self.rng.choice(others)), 0.4)
            relation = str(self.rng.choice(style.relations))
            phrase = replace(phrase, relation=relation, other=other)
        elif chance() < style.place / (1 - style.relation):
            places = ["left", "right", "left", "right", "left", "right", "top", "bottom", "middle"]
            place = str(self.rng.choice(places))
            both = ("bottom", "left"), ("bottom", "right"), ("top", "left"), ("top", "right")
            corner = both[self.rng.integers(4)]
            phrase = replace(phrase, places=corner if chance() < 0.12 else (place,))
        return phrase

    def _noun_phrase(self, index: int, attribute: float) -> Phrase:
        thing, chance = self.objects[index], self.rng.random
        names = [thing.look.noun] * 6 + list(thing.look.names[1:]) * 2
        if thing.look.kind in ("animal", "vehicle"):
            names.append(thing.look.kind)
        return Phrase(
            name=str(self.rng.choice(names)),
            look=thing.look.look if chance() < attribute else "",
            colour=thing.colour if chance() < attribute else "",
            activity=thing.look.activity if chance() < attribute else "",
        )

    # -- words ---------------------------------------------------------------------------------

    def say(self, phrase: Phrase) -> str:
        """The phrase in words: telegraphic, or as a whole clause in a long style."""
        one = self.rng.choice
        before: list[str] = []
        after: list[str] = []
        for place in phrase.places:
            before.append(str(one([w for w in VOCABULARY["places"][place] if " " not in w])))
        if phrase.places and (self.style.long or self.rng.random() < 0.5):
            after = [self._after(phrase.places)]
            before = []
        if phrase.size:
            superlative = {"big": "biggest", "small": "smallest"}[phrase.size]
            degree = superlative if self.rng.random() < 0.4 else phrase.size
            before.append(str(one(VOCABULARY["sizes"][degree])))
        relation = ""
        if phrase.relation and phrase.other:
            other = self._attributes(phrase.other, clause=False)
            the = self.style.long or self.rng.random() < 0.6
            words = str(one(VOCABULARY["relations"][phrase.relation]))
            relation = f"{words} {'the ' if the else ''}{other}"
        core = self._attributes(phrase, self.style.long and self.rng.random() < 0.6)
        if relation and self.style.long and " is " not in core and self.rng.random() < 0.6:
            relation = f"that is {relation}"
        the = self.style.long or self.rng.random() < 0.3
        tail = [relation, *after] if self.rng.random() < 0.5 else [*after, relation]
        return " ".join(filter(None, ["the" if the else "", *before, core, *tail]))

    def _after(self, places: tuple[str, ...]) -> str:
        if len(places) == 2:
            return f"on the {' '.join(places)}"
        words = [w for w in VOCABULARY["places"][places[0]] if " " in w]
        words += (
            ["on " + places[0]] if places[0] in ("left", "right") and not self.style.long else []
        )
        return str(self.rng.choice(words))

    def _attributes(self, phrase: Phrase, clause: bool) -> str:
        activity = self._word("activities", phrase.activity)
        look = self._word("looks", phrase.look)
        early = activity and " " not in activity and not clause and self.rng.random() < 0.4
        look = "red-haired" if look == "redhead" else look  # a redhead is a noun, not an adjective
        words = [look, self._word("colours", phrase.colour), activity if early else "", phrase.name]
        if activity and not early:
            words.append(f"who is {activity}" if clause else activity)
        return " ".join(filter(None, words))

    def _word(self, table: str, word: str) -> str:
        also = VOCABULARY[table].get(word, {}).get("also", []) if word else []
        return str(self.rng.choice(also)) if also and self.rng.random() < 0.3 else word


def _circular(phrase: Phrase) -> bool:
    """Whether a phrase is like "the carrot behind the carrot"."""
    return phrase.other is not None and phrase.other.name == phrase.name


def targets(scene: Scene, wanted: Callable[[Object], bool]) -> Iterator[int]:
    """Objects that may be referred to, starting with those that have a rival in the scene."""
    least = 0.01
    able = [i for i, thing in enumerate(scene.objects) if thing.share >= least and wanted(thing)]

    def rivals(i: int) -> int:
        mine = scene.objects[i]
        called = {*mine.look.names, *mine.look.maybe}
        return sum(
            bool(called & {*o.look.names, *o.look.maybe})
            or bool(o.colour and o.colour == mine.colour)
            for o in scene.objects
        )

    return iter(sorted(able, key=lambda i: -min(rivals(i), 2)))
