"""Asks every model of a profile that is on this machine, and compares the answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tasnb.models.devices import device, forget, forget_peak, is_out_of_memory, peak_mb, wait
from tasnb.proof.answers import CATS, Answer, fetch_pictures, load_answers
from tasnb.proof.questions import Picture, Value, ask, must_hold
from tasnb.proof.weights import damaged, lacking
from tasnb.settings import InputError, Settings

FAILURES = ("disagrees", "incomplete", "fails")


class Line(NamedTuple):
    """One answer of one model.

    Attributes:
        model: Its name.
        question: What was asked.
        verdict: "agrees" with the published answer or "disagrees"; "holds" if there is none, but
            what must hold does; "missing" or "incomplete" if it was not asked; "fails" if it could
            not be loaded or asked.
        value, expected: What it answered and should answer.
        tolerance: The largest difference allowed, "" for texts.
        seconds: Including loading.
        peak_gb: Peak memory of the GPU if there is one, else of this process.
        source: Where the answer was published.
        note: The likely cause, or what to do.
    """

    model: str
    question: str
    verdict: str
    value: str = ""
    expected: str = ""
    tolerance: str = ""
    seconds: float = 0.0
    peak_gb: float = 0.0
    source: str = ""
    note: str = ""


def models_of(settings: Settings) -> list[tuple[str, str]]:
    """Roles (keys of ``questions.ROLES``) and names of all models of a profile."""
    networks = (settings.proposal_network, settings.other_network)
    captioners = (settings.captioner, settings.other_captioner)
    encoders = (*settings.encoders, *settings.other_encoders)
    named = (("network", networks), ("captioner", captioners), ("encoder", encoders))
    return list(dict.fromkeys((role, name) for role, names in named for name in names))


def prove(settings: Settings, answers: Sequence[Answer] | None = None) -> Iterator[Line]:
    """Asks each model that is complete and yields a line per answer.

    Args:
        settings: Of a profile; the names of its models are used, and what loading them needs.
        answers: Instead of those that come with the package.

    Raises:
        InputError: No model is there, or the pictures cannot be downloaded.
    """
    answers = load_answers() if answers is None else answers
    there, absent = [], []
    for role, model in models_of(settings):
        if lack := lacking(model, settings):
            verdict = "missing" if lack.startswith("missing") else "incomplete"
            absent.append(Line(model, "weights", verdict, note=lack))
        else:
            there.append((role, model, [a for a in answers if a.model == model]))
    yield from absent
    if not any(":" in model for _, model, _ in there):  # felzenszwalb has no weights
        raise InputError(
            f"no model of the profile {settings.profile} is complete: "
            f"`python -m tasnb fetch {settings.profile}`"
        )
    names = [a.picture for _, _, own in there for a in own]
    names += [CATS for _, _, own in there if not own]
    pictures = fetch_pictures(names, settings.data)
    for role, model, own in there:
        for answer in own:
            yield _compared(answer, settings, pictures[answer.picture])
        if not own:
            yield _checked(role, model, settings, pictures[CATS])
        forget()  # so that the next peak is that of the next model


def _compared(answer: Answer, settings: Settings, picture: Picture) -> Line:
    given = answer.point or answer.box
    question = f"{answer.ask} of {answer.picture}"
    question += f" at {', '.join(f'{number:g}' for number in given)}" if given else ""
    tolerance = answer.tolerance if isinstance(answer.tolerance, tuple) else (answer.tolerance,)
    line = Line(
        answer.model,
        question,
        "fails",
        expected=_text(answer.expected),
        tolerance="" if isinstance(answer.expected, str) else _text(tolerance),
        source=answer.source,
    )
    value, line = _measured(line, settings, lambda: ask(answer, settings, picture))
    if value is None:
        return line
    line = line._replace(value=_text(value))
    if answer.agrees(value):
        return line._replace(verdict="agrees")
    return line._replace(verdict="disagrees", note=_cause(answer, settings, picture))


def _checked(role: str, model: str, settings: Settings, picture: Picture) -> Line:
    line = Line(model, "no published answer", "fails")
    held, line = _measured(line, settings, lambda: must_hold(role, model, settings, picture))
    if held is None:
        return line
    note = "" if held.holds else _damage(model, settings)
    verdict = "holds" if held.holds else "disagrees"
    return line._replace(verdict=verdict, value=held.value, expected=held.expected, note=note)


def _measured(line: Line, settings: Settings, work: Callable[[], Any]) -> tuple[Any | None, Line]:
    """What the work returns, None if it fails, and the line with its time, memory and failure."""
    import torch

    gpu = device().type == "cuda"
    forget_peak()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    began, value, note = time.perf_counter(), None, ""
    try:
        value = work()
    except InputError as error:
        note = str(error)
    except Exception as error:  # of any library: the other models are asked all the same
        first = next(iter(str(error).splitlines()), "")[:200]
        note = f"{type(error).__name__}: {first}"
        if is_out_of_memory(error):
            note = "does not fit into memory"
    if value is None:
        damage = _damage(line.model, settings)
        note = f"{note}; {damage}" if damage else note
    wait()
    peak = torch.cuda.max_memory_allocated() / 1e9 if gpu else peak_mb() / 1e3
    seconds = time.perf_counter() - began
    return value, line._replace(seconds=round(seconds, 2), peak_gb=round(peak, 3), note=note)


def _cause(answer: Answer, settings: Settings, picture: Picture) -> str:
    """Why an answer may differ: a damaged file, or channels in the wrong order."""
    if damage := _damage(answer.model, settings):
        return damage
    if answer.agrees(ask(answer, settings, picture[..., ::-1].copy())):
        return "agrees if red and blue are swapped: the channels are in the wrong order"
    return (
        "files and channels are as they should be: other weights, or another version of a library"
    )


def _damage(model: str, settings: Settings) -> str:
    name = damaged(model, settings)
    return f"{name} is damaged, since its digest differs: delete it and fetch it again" * bool(name)


def _text(value: Value) -> str:
    if isinstance(value, str):
        return repr(value)
    return ", ".join(f"{n:g}" if n == round(n) else f"{n:.4f}" for n in value if n == n) or "none"


def as_text(line: Line, width: int) -> str:
    """A line as printed, with the model padded to a width."""
    head = f"{line.verdict:11}{line.model:{width}}  {line.question}"
    if not line.value:
        return f"{head}: {line.note}"
    allowed = f" (within {line.tolerance})" if line.tolerance else ""
    cost = f"{line.seconds:.1f} s, {line.peak_gb:.1f} GB"
    note = f"; {line.note}" if line.note else ""
    return f"{head}: {line.value}; expected {line.expected}{allowed}; {cost}{note}"
