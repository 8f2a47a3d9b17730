"""The known answers: ``answers.toml``, and the pictures that the questions are about."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from tasnb.fetch import fetch
from tasnb.fetch.sources import load_sources
from tasnb.settings import InputError
from tasnb.store.files import atomic_write, file_digest

CATS = "cats"
"""The picture for models without a known answer, and a text that describes it."""
CATS_TEXT = "two cats on a pink blanket"


class Answer(BaseModel):
    """A question to a model, and what it is known to answer.

    Attributes:
        model: Its name, as in the settings.
        picture: The item ``proof-<picture>`` in the table of downloads.
        ask: The kind of question, see ``answers.toml``.
        expected: A caption, or numbers.
        tolerance: Largest difference of each number.
        source: Where the answer was published.
        texts, scale, softmax: For "similarity".
        tokens: For "caption", the largest number of new tokens.
        prompt, split_images: For "caption", as in the settings.
        points_per_side, pred_iou_thresh, stability_score_thresh: For "masks", as in the settings.
        point, box: For "prompt", pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    picture: str
    ask: Literal["similarity", "caption", "masks", "prompt"]
    expected: str | tuple[float, ...]
    tolerance: float | tuple[float, ...] = 0.0
    source: str
    texts: tuple[str, ...] = ()
    scale: float = 1.0
    softmax: bool = False
    tokens: int = 20
    prompt: str | None = None
    split_images: bool = False
    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    point: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None

    def agrees(self, value: str | tuple[float, ...]) -> bool:
        """Whether a value is the expected one. Case and punctuation of a caption do not matter."""
        if isinstance(self.expected, str) or isinstance(value, str):
            return isinstance(value, str) and _words(value) == _words(str(self.expected))
        off = np.abs(np.subtract(value, self.expected))
        return bool((off <= np.asarray(self.tolerance)).all())  # False if a value is NaN


def _words(text: str) -> list[str]:
    return text.lower().replace(".", " ").split()


@lru_cache(maxsize=1)
def load_answers() -> tuple[Answer, ...]:
    """The answers that come with the package."""
    text = Path(__file__).with_name("answers.toml").read_text(encoding="utf-8")
    return tuple(map(Answer.model_validate, tomllib.loads(text)["answers"]))


def fetch_pictures(names: Iterable[str], data: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """RGB pictures (H, W, 3) by name, downloaded if necessary.

    The publishers state no digests. Those of the first download are therefore kept next to the
    pictures, so that a picture that changes later is not taken for a model that has changed.

    Raises:
        InputError: A picture cannot be downloaded, or has changed.
    """
    from tasnb.datasets.images import load_image

    names = list(dict.fromkeys(names))
    said: list[str] = []
    try:
        fetch([f"proof-{name}" for name in names], data, say=said.append)
    except InputError as error:
        reasons = [line for line in said if "cannot" in line]
        more = f"; {reasons[0]}" if reasons else ""
        raise InputError(f"the proof needs pictures ({', '.join(names)}): {error}{more}") from None
    items = load_sources().select(f"proof-{name}" for name in names)
    places = {name: item.files[0].where(data) for name, item in zip(names, items, strict=True)}
    note = next(iter(places.values())).with_name("seen.json")
    try:
        seen = dict(json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        seen = {}
    new = {path.name: file_digest(path) for path in places.values()}
    for name, digest in new.items():
        if seen.get(name, digest) != digest:
            raise InputError(
                f"{note.with_name(name)} is not the picture that was first downloaded; delete it, "
                f"and {note} as well if its publisher has replaced it"
            )
    if not new.items() <= seen.items():
        with atomic_write(note) as temporary:
            temporary.write_text(json.dumps(seen | new, indent=2) + "\n", encoding="utf-8")
    return {name: load_image(path) for name, path in places.items()}
