"""Word lists, and parses of referring expressions with a small parser's mistakes corrected.

The paper parses expressions with spaCy (sections 3.3 and 3.4). People write them in an elliptical
style ("kid far left", "second from left shelf"), while parsers are trained on whole sentences.
`parses` brings an expression closer to a sentence where that does not change its meaning, and
corrects part-of-speech tags that the parser's own dictionary contradicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token


def word_set(words: str) -> frozenset[str]:
    """The words of a string."""
    return frozenset(words.split())


# --- Places ---------------------------------------------------------------------------------------

SIDES = {
    word: side
    for side, words in {
        "left": "left leftmost lefthand leftside",
        "right": "right rightmost righthand rightside",
        "top": "top topmost upper uppermost",
        "bottom": "bottom bottommost lower lowermost",
    }.items()
    for word in words.split()
}
# These may continue a place: "left-hand side", "bottom middle right", "top center".
LINKS = word_set("- / most hand middle center centre back front")
PLACE_NOUNS = word_set("side corner edge end half part area section portion row column border")
PARTS = word_set("half part section portion")  # of a thing, and located within it
# These may come between a place and the word that leads to it: "to the very far left".
DEGREES = word_set(
    "the a very far extreme furthest farthest way most middle center centre mid back front rear "
    "just immediate slightly outer more"
)
PARTICLES = word_set("up down off over out away")  # of a verb: "standing up", "cut off"
PREPOSITIONS = word_set("on at to in from near by toward towards along of with into inside")
ORDINALS = word_set(
    "first second third fourth fifth sixth seventh eighth ninth tenth last next "
    "1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th"
)
FRAME_NOUNS = word_set("picture pic photo photograph image img frame screen shot scene view page")
GROUPS = word_set("group line bunch pair")
JOINS = word_set("and n & or / - ,")  # between two adjectives
# Nouns for a place in the picture, or for its viewer, rather than for a thing in it.
NOT_THINGS = (
    FRAME_NOUNS
    | PLACE_NOUNS
    | GROUPS
    | ORDINALS
    | word_set("middle center centre front back rear background foreground way")
    | word_set("camera viewer us me you upside")
)
# Words for the picture or a part of it that may also be a thing in it.
OBJECTS = word_set("area camera screen")

# --- Things ---------------------------------------------------------------------------------------

# These can be the target ("the dog's tail"), but the direction in which they point is no place.
BODY = word_set(
    "arm arms hand hands leg legs foot feet eye eyes ear ears shoulder shoulders knee knees elbow "
    "elbows wrist fist finger fingers thumb thumbs head face hair beard mustache tail trunk back "
    "body wing wings mouth chin neck paw paws trunks tails"
)
# "left" and "right" before these are from the point of view of their owner.
LIMBS = word_set(
    "arm arms hand hands leg legs foot feet knee knees elbow shoulder ear eye finger wrist"
)
WORN = word_set(
    "shirt tshirt t tee dress jacket coat hat cap suit pants shorts jeans jean skirt tie sweater "
    "hoodie helmet uniform jersey vest outfit glasses sunglasses goggles scarf hair tank blouse "
    "gloves glove shoes boots mask headset headband bandana"
)
# A garment directly after these is worn ("dude beige shirt"), not part of a compound noun.
PEOPLE = word_set(
    "man men guy guys woman women lady ladies girl girls boy boys kid kids child children person "
    "people dude dudes player players batter catcher umpire ump pitcher skier skater surfer rider "
    "gentleman gentlemen chef cop officer male female adult baby toddler one ones"
)
COLOURS = word_set(
    "red orange yellow green blue purple pink brown black white grey gray tan beige blond blonde "
    "striped plaid silver gold golden maroon teal"
)
NOUN = ("NOUN", "PROPN")

# Nouns and parts of nouns that end in -ing: "brick building", "kitchen cutting board".
NOT_ACTIONS = word_set(
    "building painting ceiling railing awning wing ring string king thing clothing icing dressing "
    "topping frosting drawing carving earring wedding dining living parking cutting frying washing "
    "something anything everything pudding stuffing swing sling evening morning seating"
)

# Actions after a person all the same: "man cutting bread", "person seating".
SOME_ACTIONS = word_set(
    "cutting frying washing painting drawing carving building parking seating stuffing"
)
# These take an object, so a noun after them is that object.
TRANSITIVE = word_set(
    "holding carrying wearing riding eating using touching cutting driving facing watching shaking"
)


def is_thing(token: Token) -> bool:
    """Whether a word names a thing or a person in the picture, rather than a place."""
    named = token.pos_ in NOUN or token.tag_ == "PRP" or token.text in ("one", "ones")
    if not named or not token.is_alpha or token.text in NOT_THINGS | SIDES.keys():
        return False
    following = token.doc[token.i + 1 : token.i + 2]
    is_colour = token.text in COLOURS and any(t.pos_ in NOUN for t in following)
    return not is_colour  # "red" of "red globe", whatever its tag


# --- Parses ---------------------------------------------------------------------------------------

# First words before which no article can be put.
NO_ARTICLE = word_set(
    "a an the this that these those both all some any another every each no one two three four "
    "his her its my our your their who which whose what he she they it there "
    "in on at to from by near with of under behind above below next between beside"
)
CLITIC = re.compile(r" ' (?=(?:s|re|ve|ll|d|m)\b)|(?<=n) ' (?=t\b)")
# Plurals without a singular of the same meaning: "clothe" is a verb, "pant" a noise.
PLURAL_ONLY = word_set("clothes pants jeans shorts trousers tights scissors goggles sunglasses")


def parses(texts: Iterable[str], parser: Language) -> Iterator[tuple[Doc, int]]:
    """The parse of each text in lower case, with the index of the text's own first token.

    People drop the article ("left man jumping"), and the small parser then takes "left" for a verb.
    A text that begins without an article is therefore parsed with "the" before it (index 1).
    Clitics that are written as separate words in RefCOCOg ("the man ' s left") are joined.
    """
    cleaned = (CLITIC.sub("'", " ".join(text.lower().split())) for text in texts)
    contexts = (
        (t, 0) if not t or t.split()[0].strip(",.") in NO_ARTICLE else (f"the {t}", 1)
        for t in cleaned
    )
    for doc, start in parser.pipe(contexts, as_tuples=True):
        yield mended(doc, parser), start


def mended(doc: Doc, parser: Language) -> Doc:
    """The parse, with tags and lemmas of nouns corrected where the dictionary contradicts them.

    "umbrella", "oven" and "kid" cannot be adjectives, "darker" cannot be a noun, and "stop" in "the
    stop" or "fire" in "a fire" cannot be a verb. The dependency tree is unchanged. Nothing changes
    if the parser's lemmatizer has no dictionary.
    """
    dictionary = _dictionary(parser)
    if not dictionary:
        return doc
    known = [t for t in doc if t.is_alpha and t.text not in SIDES.keys() | NOT_THINGS]
    for token in known:
        if token.pos_ not in NOUN and _should_be_noun(token, dictionary):
            token.tag_, token.pos_ = "NN", "NOUN"
            token.lemma_ = dictionary.lemma(token.text)
        if token.text in PLURAL_ONLY:
            token.lemma_ = token.text
    for token in reversed(known):
        if token.pos_ in NOUN and _should_be_adjective(token, dictionary):
            token.tag_, token.pos_ = "JJ", "ADJ"
    return doc


def is_action(token: Token) -> bool:
    """Whether a word is an action such as "kneeling", however the parser tags it."""
    follows_person = token.i > 0 and token.nbor(-1).text in PEOPLE
    if token.text in NOT_ACTIONS and not (follows_person and token.text in SOME_ACTIONS):
        return False
    return token.text.endswith("ing")


def described_noun(token: Token) -> Token | None:
    """The noun after a word, with nothing but adjectives in between: "green shiny *carpet*"."""
    doc = token.doc
    for following in doc[token.i + 1 :]:
        text = following.text
        after = doc[following.i + 1 : following.i + 2]
        if text in COLOURS | SIDES.keys() | LINKS | {"half", "looking", "color", "colour"}:
            continue
        if text in JOINS:  # "red and white tram", but not "shirt and hat"
            follows_colour = following.i == token.i + 1 and token.text in COLOURS
            joined = COLOURS | JOINS
            if follows_colour or any(t.text in joined or t.tag_[:2] == "JJ" for t in after):
                continue
            return None
        if is_action(following):  # "blue kneeling archer", but not "blue holding a dog"
            if text not in TRANSITIVE and any(t.pos_ in NOUN for t in after):
                continue
            return None
        if text in ("one", "ones"):
            return following
        if following.pos_ in NOUN and len(text) > 1:
            return following
        describes = following.tag_ in ("JJ", "JJR", "JJS", "VBN", "CD", "RB")
        if not (describes or len(text) == 1) or text in ("not", "no"):
            return None
    return None


def is_described(noun: Token | None) -> bool:
    """Whether `described_noun` found a thing, rather than nothing, "part" or "picture"."""
    return noun is not None and noun.text not in NOT_THINGS - OBJECTS


def _should_be_adjective(token: Token, dictionary: _Dictionary) -> bool:
    """Whether a word tagged as a noun is an adjective: "darker", "*light* tan armchair"."""
    word = token.text
    if word in PEOPLE:
        return False
    is_noun, is_quality = dictionary.has_noun(word), dictionary.has_quality(word)
    if is_quality and not is_noun:
        return True  # "darker of the two"
    if is_noun and not is_quality:
        return False
    # "*light* tan couch", "*meddium* gray van"; but "light bulb"
    noun = described_noun(token)
    between = token.doc[token.i + 1 : noun.i] if is_described(noun) else ()
    return bool(len(between)) and not any(is_action(t) for t in between)


def _should_be_noun(token: Token, dictionary: _Dictionary) -> bool:
    """Whether a word tagged otherwise is a noun, by the dictionary and its neighbours."""
    word = token.text
    if word in COLOURS or token.pos_ not in ("ADJ", "ADV", "VERB", "INTJ", "X", "DET"):
        return False
    if is_action(token):
        return False
    is_noun, is_quality = dictionary.has_noun(word), dictionary.has_quality(word)
    if token.pos_ == "DET":
        return is_noun and not is_quality and len(word) > 3 and word not in NO_ARTICLE
    before = token.doc[token.i - 1] if token.i else None
    following = token.nbor() if token.i + 1 < len(token.doc) else None
    ends = following is None or following.pos_ in ("ADP", "PUNCT")
    ends = ends or following.text in SIDES.keys() | DEGREES
    if not is_noun:
        # A misspelt noun: "girafe on the left".
        is_known = is_quality or dictionary.has_verb(word) or token.tag_ in ("VBG", "VBN")
        is_unknown = not (is_known or word.endswith("ed"))
        return is_unknown and ends and before is not None and _leads_to_noun(before)
    if not is_quality and (token.tag_[:2] in ("JJ", "RB") or not dictionary.has_verb(word)):
        return True
    if before is None:
        return False
    if word in PEOPLE and token.tag_ == "JJ":  # "female wearing a dress", but "female elephant"
        return ends or following.pos_ not in NOUN or is_action(following)
    if token.tag_ == "JJ":
        # "the *umbrella* top", "silver *kettle*": may be adjectives elsewhere.
        return token.dep_ == "compound" or (ends and _leads_to_noun(before))
    if token.tag_ not in ("VB", "VBP") and not (token.tag_ == "VBD" and following is None):
        return False
    if following is not None and (following.tag_ in ("DT", "PRP$") or following.text in PARTICLES):
        return False  # "cut off", "pick up truck", "hold the bat"
    if before.tag_ in ("NN", "NNP"):
        return before.text not in PEOPLE  # "teddy bear", but "man wear"
    return _leads_to_noun(before)


def _leads_to_noun(token: Token) -> bool:
    """Whether a noun must follow a word such as "the", "big", "red" or "left"."""
    return token.tag_ in ("DT", "JJ", "JJR", "JJS") or token.text in COLOURS | SIDES.keys()


class _Dictionary:
    """The base forms of English words by part of speech, from the parser's lemmatizer (WordNet)."""

    def __init__(self, parser: Language) -> None:
        index, irregular = {}, {}
        if parser.has_pipe("lemmatizer"):
            tables = parser.get_pipe("lemmatizer").lookups
            index = tables.get_table("lemma_index", {})
            irregular = tables.get_table("lemma_exc", {})
        self._forms = {p: frozenset(index.get(p, ())) for p in ("noun", "verb", "adj", "adv")}
        self._irregular = {p: irregular.get(p, {}) for p in self._forms}

    def __bool__(self) -> bool:
        """Whether the parser has a dictionary at all."""
        return bool(self._forms["noun"])

    def lemma(self, word: str) -> str:
        """The base form of a noun; the word itself if it is a base form or unknown."""
        candidates = [word, *self._irregular["noun"].get(word, ())]
        candidates += [word[:-1]] if word.endswith("s") else []
        candidates += [word[:-2]] if word.endswith("es") else []
        candidates += [f"{word[:-3]}y"] if word.endswith("ies") else []
        return next((form for form in candidates if form in self._forms["noun"]), word)

    def has_noun(self, word: str) -> bool:
        """Whether a word can be a noun, singular or plural."""
        return self.lemma(word) in self._forms["noun"]

    def has_verb(self, word: str) -> bool:
        """Whether a word can be a verb: a base form, one in -s, or an irregular form."""
        base = word.removesuffix("s")
        return base in self._forms["verb"] or word in self._irregular["verb"]

    def has_quality(self, word: str) -> bool:
        """Whether a word can be an adjective or adverb, comparatives and superlatives included."""
        if word in self._irregular["adj"] or word in self._irregular["adv"]:
            return True
        stems = [word]
        for ending in ("er", "est"):
            stem = word.removesuffix(ending)
            if stem == word or len(stem) < 2:
                continue
            stems += [stem, f"{stem}e"]  # "darker", "larger"
            stems += [stem[:-1]] if stem[-1] == stem[-2] else []  # "bigger"
            stems += [f"{stem[:-1]}y"] if stem[-1] == "i" else []  # "shinier"
        return any(stem in self._forms[p] for stem in stems for p in ("adj", "adv"))


@cache
def _dictionary(parser: Language) -> _Dictionary:
    return _Dictionary(parser)
