"""Trains the text tower of both CLIPs to ignore the words around a phrase.

    python train_text.py --from runs/train/clip-rn --out runs/train/text --minutes 4

The towers' training captions use few templates and end with the object that they name, so that
"the" or "that" and everything after the object is noise to them, whereas a real CLIP has seen
millions of captions that continue ("a photo of the red car, sent to a friend"). Here a copy of the
tower learns to embed a phrase in any template, followed by any words, as the original embeds it in
a plain template. No images are used, the texts contain no positions or relations, and the image
towers do not change.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import texts
import torch
import torch.nn.functional as F
from train_clip import build

THE = (
    "the {}",
    "a photo of the {}",
    "a picture of the {}",
    "a close-up of the {}",
    "the photo shows the {}",
    "here is the {}",
    "this is the {}",
    "look at the {} in this photo",
)
A = (
    "{}",
    "in this photo there is {}",
    "on this picture there is {}",
    "a photo to show {}",
    "the thing that is in this photo is {}",
    "the one who is in this picture is {}",
    "a photo which is of {}",
    "{} as one can see in the photo",
)

TAILS = (
    ", sent to {}",
    ", taken by {}",
    " for {}",
    " that {} took",
    ", which {} likes",
    ", says {}",
)


def neutral_words() -> list[str]:
    """The vocabulary's words without those for positions and relations."""
    spatial = {
        word
        for table in ("places", "relations")
        for phrases in texts.VOCABULARY[table].values()
        if isinstance(phrases, list)
        for phrase in phrases
        for word in phrase.split()
    }
    return sorted({w for text in texts.all_words() for w in text.split()} - spatial)


def framed(phrase: str, other: str, words: list[str], rng: np.random.Generator) -> str:
    """A phrase in a random template, sometimes followed by another phrase or random words.

    Args:
        phrase, other: From ``texts.noun_phrase``.
        words: Words that may follow the phrase, from ``neutral_words``.
        rng: Makes all random choices.
    """
    if rng.random() < 0.5:
        text = str(rng.choice(THE)).format(phrase.partition(" ")[2])
    elif rng.random() < 0.7:
        text = str(rng.choice(A)).format(phrase)
    else:
        text = str(rng.choice(texts.FRAMES)).format(phrase)
    if rng.random() < 0.35:
        return text + str(rng.choice(TAILS)).format(other)
    if rng.random() < 0.4:
        return text + " " + " ".join(rng.choice(words, int(rng.integers(1, 7))))
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pool", type=Path, required=True, help="training scenes, from pool.py")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=4e-4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    student, tokenize = build(args.out, "rn")
    trained = torch.load(args.source / "state.pt", weights_only=True, map_location="cpu")
    student.load_state_dict(trained["model"])
    teacher = copy.deepcopy(student).eval()
    learning = [p for n, p in student.named_parameters() if not n.startswith("visual.")]
    optimizer = torch.optim.AdamW(learning, lr=args.rate, weight_decay=0.02)
    lines = (args.pool / "scenes.jsonl").read_text().splitlines()[:4000]
    things = [thing for line in lines for thing in json.loads(line)["objects"]]
    words = neutral_words()
    history: list[float] = []
    start, spent, step = time.monotonic(), 0.0, 0
    while spent < args.minutes:
        for group in optimizer.param_groups:
            group["lr"] = args.rate * 0.5 * (1 + math.cos(math.pi * spent / args.minutes))
        phrases = [
            texts.noun_phrase(things[i], rng) for i in rng.integers(0, len(things), args.batch)
        ]
        others = [
            texts.noun_phrase(things[i], rng) for i in rng.integers(0, len(things), args.batch)
        ]
        said = [framed(*pair, words, rng) for pair in zip(phrases, others, strict=True)]
        with torch.no_grad():
            plain = [texts.FRAMES[0].format(phrase) for phrase in phrases]
            target = teacher.encode_text(tokenize(plain), normalize=True)
        found = student.encode_text(tokenize(said), normalize=True)
        loss = 1 - F.cosine_similarity(found, target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
        step += 1
        spent = (time.monotonic() - start) / 60
        if step % 50 == 0:
            print(
                {
                    "step": step,
                    "minutes": round(spent, 2),
                    "loss": round(float(np.mean(history)), 4),
                },
                flush=True,
            )
            history.clear()
    torch.save({"model": student.state_dict(), "spent": spent, "step": step}, args.out / "state.pt")


if __name__ == "__main__":
    main()
