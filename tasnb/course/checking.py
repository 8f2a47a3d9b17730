"""Finds an exercise's check, gives it the student's answers, and turns the outcome into a verdict.

A check needs nothing but the names of its exercise. If the notebook has no pipeline yet, one is
made from the notebook's parameters, so the order in which cells are run does not matter.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from tasnb.course.verdicts import RIGHT, TODO, WRONG, Hint, NotDone, Verdict, expect
from tasnb.method.pipeline import Pipeline
from tasnb.settings import InputError, unknown
from tasnb.workbook.start import start

MODULES = {
    "0": "explore",
    "1": "proposals",
    "2": "captions",
    "3": "scores",
    "4": "rectifier",
    "5": "evaluation",
    "6": "ablations",
    "8": "beyond",
}
"""Number of a notebook -> module with the checks of its exercises."""

Check = Callable[..., str]


@dataclass(frozen=True)
class Exercise:
    """An exercise as its module declares it.

    Attributes:
        names: what the student is to define; passed to the check in this order.
        task: what is to be done, in one sentence; shown as long as a name is missing.
        check: called with the pipeline and the answers; returns a closing remark, or raises `Hint`.
    """

    names: tuple[str, ...]
    task: str
    check: Check


def exercises() -> dict[str, Exercise]:
    """All exercises by their numbers, such as "4.2"."""
    found: dict[str, Exercise] = {}
    for module in MODULES.values():
        found |= import_module(f"tasnb.course.{module}").EXERCISES
    return found


def check(number: str, names: Mapping[str, Any]) -> Verdict | None:
    """The verdict on an exercise: ``check("4.2", globals())``.

    nbgrader takes an answer that is not right as a failed test; elsewhere nothing is raised, so
    that a notebook can be run from top to bottom with exercises left open.

    Args:
        number: of the exercise.
        names: The notebook's variables.

    Raises:
        InputError: There is no such exercise.
        AssertionError: Not right, and the notebook is run by nbgrader.
    """
    verdict = verdict_on(number, names)
    if os.environ.get("NBGRADER_EXECUTION"):
        assert verdict.state == RIGHT, str(verdict)
        return None  # nbgrader would read a value as a number of points
    return verdict


def verdict_on(number: str, names: Mapping[str, Any]) -> Verdict:
    """`check` without exceptions for nbgrader."""
    module = MODULES.get(number.split(".")[0])
    known = import_module(f"tasnb.course.{module}").EXERCISES if module else {}
    if number not in known:
        raise unknown("exercise", number, sorted(exercises()))
    exercise = known[number]
    missing = [name for name in exercise.names if names.get(name, ...) is ...]
    if missing:
        return Verdict(number, TODO, f"{exercise.task} Still missing: {', '.join(missing)}.")
    try:
        answers = [names[name] for name in exercise.names]
        return Verdict(number, RIGHT, exercise.check(_pipeline(names), *answers))
    except NotDone as rest:
        return Verdict(number, TODO, f"{exercise.task} {rest}")
    except Hint as hint:
        return Verdict(number, WRONG, str(hint))
    except InputError:
        raise
    except Exception as error:  # an answer of a type or shape that the check does not expect
        text = f"This answer cannot be checked ({_said(error)}). Is it of the type asked for?"
        return Verdict(number, WRONG, text)


def call(function: Any, *arguments: Any) -> Any:
    """The value of a student's function; whatever it raises becomes a hint.

    A function that returns nothing yet is still to be written.
    """
    value = _value(function, *arguments)
    if value is None or value is ...:
        raise NotDone("The function returns nothing yet.")
    return value


def call_number(function: Any, *arguments: Any) -> float:
    """`call` for a function that should return a single number."""
    array = np.asarray(call(function, *arguments))
    expect(array.size == 1 and array.dtype.kind in "iuf", "The function should return one number.")
    return float(array.reshape(-1)[0])


def expect_same(
    function: Any,
    truth: Callable[[str, str], bool],
    examples: Sequence[tuple[str, str, str]],
    data: Iterable[tuple[str, str]],
) -> None:
    """Holds a student's function of two words against the truth, first on examples with hints.

    Args:
        function: Returns something true or false. None is false, as in a match of `re`, unless the
            function never returns anything else.
        truth: What it should return.
        examples: Both words, and the hint if the function is wrong about them.
        data: Both words, from the run.
    """
    values = [_value(function, one, other) for one, other, _ in examples]
    if all(value is None or value is ... for value in values):
        raise NotDone("The function returns nothing yet.")
    for value, (one, other, hint) in zip(values, examples, strict=True):
        expect(bool(value) == truth(one, other), f"{hint} Try {one!r}, {other!r}.")
    for one, other in data:
        same = bool(_value(function, one, other)) == truth(one, other)
        expect(same, f"Right on the examples, but not for {one!r} and {other!r}.")


def _value(function: Any, *arguments: Any) -> Any:
    if not callable(function):
        raise Hint("This should be a function.")
    try:
        return function(*arguments)
    except NotImplementedError:  # nbgrader's own placeholder
        raise NotDone("The function is still empty.") from None
    except Exception as error:  # of any type: it is not our code
        text = f"Your function raised {_said(error)}"
        if isinstance(error, NameError) and error.name == "np":
            text += ". Write `import numpy as np` in the cell of your answer"
        raise Hint(text) from None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _pipeline(names: Mapping[str, Any]) -> Pipeline:
    pipeline = names.get("pipeline")
    if isinstance(pipeline, Pipeline):
        return pipeline
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return start(names)
    except InputError as error:
        raise Hint(f"The parameters of this notebook cannot be used: {error}") from None
