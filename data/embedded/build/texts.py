"""Training captions for the checkpoints, and the tokenizer that all of them share.

A caption names objects and describes their appearance, in a template such as "a photo of ..." or in
a list. Captions never mention positions or relations, and never have the form of an expression
("left cat", "the man running"): these are reserved for evaluation.
"""

from __future__ import annotations

import itertools

import numpy as np
from pictures import VOCABULARY
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

FRAMES = ("a photo of {}", "a picture of {}", "an image of {}", "a close-up of {}", "there is {}")
START, END, PAD = "<start>", "<end>", "<pad>"


def article(phrase: str) -> str:
    """The phrase with "a", "an" or "some" before it."""
    if phrase == "luggage":
        return f"some {phrase}"
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def name_of(thing: dict, rng: np.random.Generator, plain: bool) -> str:
    """One of an object's names: usually the noun itself, and always if ``plain``."""
    if plain or len(thing["names"]) == 1 or rng.random() < 0.6:
        return thing["noun"]
    return str(rng.choice(thing["names"][1:]))


def noun_phrase(thing: dict, rng: np.random.Generator, plain: bool = False) -> str:
    """A phrase such as "a red car", "an old man" or "a woman running"; 3 in 4 have details.

    Args:
        thing: An object as described by ``pool.py``.
        rng: Makes all random choices.
        plain: Use the noun as its name, without synonyms.
    """
    name = name_of(thing, rng, plain)
    detail = rng.random() < 0.75
    adjectives = [thing["look"]] if thing["look"] and detail else []
    adjectives += [thing["colour"]] if thing["colour"] and detail else []
    words = VOCABULARY["looks"].get(thing["look"], {}).get("also", [])
    if adjectives and words and not plain and rng.random() < 0.25:
        adjectives[0] = str(rng.choice(words))
        if adjectives[0] == "redhead":  # a noun by itself
            return article("redhead")
    phrase = article(" ".join([*adjectives, name]))
    if thing["activity"] and detail:
        activity = thing["activity"]
        words = VOCABULARY["activities"][activity].get("also", [])
        if words and not plain and rng.random() < 0.3:
            activity = str(rng.choice(words))
        phrase += f" {activity}"
    return phrase


def detailed(thing: dict) -> str:
    """The noun phrase with all details and no synonyms."""
    words = " ".join(filter(None, (thing["look"], thing["colour"], thing["noun"])))
    return " ".join(filter(None, (article(words), thing["activity"])))


def region_caption(thing: dict, rng: np.random.Generator) -> str:
    """A caption for a crop, as CLIP is trained on."""
    return str(rng.choice(FRAMES)).format(noun_phrase(thing, rng))


def enumeration(phrases: list[str]) -> str:
    """Joins phrases: "a cat", "a cat and a dog", "a cat, a dog and a cow"."""
    if len(phrases) == 1:
        return phrases[0]
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]


def scene_caption(things: list[dict], rng: np.random.Generator, plain: bool = False) -> str:
    """A list of two to four of a scene's objects, with a preference for large ones.

    Args:
        things: The scene's objects.
        rng: Makes all random choices.
        plain: As for ``noun_phrase``.
    """
    weights = np.sqrt([thing["share"] for thing in things])
    count = min(len(things), int(rng.integers(2, 5)))
    order = np.argsort(-weights * rng.uniform(0.75, 1.25, len(weights)))[:count]
    phrases = list(dict.fromkeys(noun_phrase(things[i], rng, plain) for i in order))
    return enumeration(phrases)


def all_words() -> list[str]:
    """All words of expressions and captions; each of them is a single token of the tokenizer."""
    texts: list[str] = [frame.format("") for frame in FRAMES]
    for noun, row in VOCABULARY["nouns"].items():
        texts += [noun, *row.get("also", []), *row.get("maybe", [])]
    for person in ("man", "woman"):
        texts += VOCABULARY["people"][person]["also"]
    for table in ("activities", "looks", "colours"):
        for word, row in VOCABULARY[table].items():
            texts += [word, *row.get("also", [])]
    for table in ("sizes", "places", "relations"):
        texts += itertools.chain(*(v for v in VOCABULARY[table].values() if isinstance(v, list)))
    texts += ["the one that is who with wearing a an and some between of in on at to side half"]
    texts += ["person animal vehicle person's than other two three second from image picture"]
    return texts


def build_tokenizer(context_length: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose end-of-text token has the largest id, as CLIP's pooling requires."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([text for text in all_words() for _ in range(2)], trainer)
    bpe.add_special_tokens([PAD, START, END])
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, bpe.token_to_id(START)), (END, bpe.token_to_id(END))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        model_max_length=context_length,
        padding_side="right",
    )
