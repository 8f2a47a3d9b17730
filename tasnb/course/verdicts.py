"""What a check says about an answer: right, not yet with a hint, or what is still to do."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

RIGHT, WRONG, TODO = "right", "not yet", "to do"
_COLOURS = {RIGHT: "#2e7d32", WRONG: "#c77700", TODO: "#5f6b7a"}


@dataclass(frozen=True)
class Verdict:
    """A check's answer, which a notebook shows below the exercise.

    Attributes:
        exercise: number of the exercise, such as "4.2".
        state: `RIGHT`, `WRONG` or `TODO`.
        text: why it is right, a hint, or what is to be done.
    """

    exercise: str
    state: str
    text: str

    def __str__(self) -> str:
        return f"Exercise {self.exercise}, {self.state}: {self.text}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        colour = _COLOURS[self.state]
        title = f"Exercise {escape(self.exercise)}, {self.state}:"
        return (
            f'<div style="border-left: 4px solid {colour}; padding: .4em .8em">'
            f'<b style="color: {colour}">{title}</b> {escape(self.text)}</div>'
        )


class Hint(Exception):
    """Raised by a check if the answer is wrong; the message is the hint."""


class NotDone(Hint):
    """Raised by a check if a part of the answer is still missing."""


def expect(condition: bool, hint: str) -> None:
    """Raises a `Hint` unless the condition holds."""
    if not condition:
        raise Hint(hint)


def expect_answers(answers: Any, expressions: Iterable[str], name: str) -> None:
    """Raises a `Hint` unless the variable `name` is a dictionary that answers each expression."""
    expect(isinstance(answers, Mapping), f"{name} should be a dictionary: expression -> words.")
    open_ = [text for text in expressions if answers.get(text, ...) is ...]
    if open_:
        raise NotDone(f"There is no answer yet for {', '.join(map(repr, open_))}.")


def items(answer: Any) -> list[Any]:
    """An answer that may be a list: its items, of any kind of list, array or column; None is none.

    Anything else, such as a text, is the only item.
    """
    if answer is None:
        return []
    single = isinstance(answer, str | Mapping) or not isinstance(answer, Iterable)
    return [answer] if single else list(answer)


def parts(answer: Any) -> list[str]:
    """The parts of a text with commas, or the items of a list, in lower case; None is none."""
    text = ",".join(map(str, items(answer))).lower()
    return [" ".join(part.split()) for part in text.split(",") if part.strip()]


def is_number(answer: Any) -> bool:
    """Whether an answer is a real number, Python's or NumPy's, and not a truth value."""
    return isinstance(answer, numbers.Real) and not isinstance(answer, bool)


def is_whole(answer: Any) -> bool:
    """Whether an answer is a whole number, Python's or NumPy's, and not a truth value."""
    return isinstance(answer, numbers.Integral) and not isinstance(answer, bool)
