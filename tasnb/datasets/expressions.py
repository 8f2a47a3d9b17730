"""Checks expressions: the sentences of a dataset as well as what a user types."""

from __future__ import annotations

from tasnb.settings import InputError, shown


def check_expression(text: object, owner: str = "the expression") -> str:
    """Returns an expression unchanged if a model can read it.

    Args:
        owner: What to call it in an error, such as "sentence 12 of ref 3".

    Raises:
        InputError: As for ``check_text``.
    """
    return check_text(text, owner, '; say what to find, such as "the left cat"')


def check_text(text: object, owner: str, hint: str = "") -> str:
    """Returns a text unchanged if it can be read, written and displayed.

    Args:
        owner: What to call it in an error.
        hint: What to do about a blank one.

    Raises:
        InputError: It is not a string, is blank, or contains half a character (a lone surrogate,
            left over from an emoji cut in two or from bytes that are not UTF-8).
    """
    if text is None or (isinstance(text, str) and not text.strip()):
        raise InputError(f"{owner} is blank{hint}")
    if not isinstance(text, str):
        raise InputError(f"{owner} is {shown(text)}, which is not text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            part = f"{text[: error.start][-20:]!a}"
            raise InputError(
                f"{owner} is not valid Unicode: after {part} there is half a character; save it "
                "again as UTF-8"
            ) from None
    return text
