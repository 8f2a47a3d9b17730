"""What can be asked: one check for the sentences of a dataset and for what a user types."""

from __future__ import annotations

from tasnb.settings import InputError, shown


def check_expression(text: object, owner: str = "the expression") -> str:
    """An expression that a model can read, as it was given.

    Args:
        owner: What to call it in an error, as "sentence 12 of ref 3".

    Raises:
        InputError: As from ``check_text``.
    """
    return check_text(text, owner, '; say what to find, as "the left cat"')


def check_text(text: object, owner: str, hint: str = "") -> str:
    """A text that can be read, written and shown, as it was given.

    Args:
        hint: What to do about a blank one.

    Raises:
        InputError: It is no text, is blank, or has half a character in it (a lone surrogate: what
            is left of an emoji that was cut in two, or of bytes that are not UTF-8).
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
                f"{owner} is not valid Unicode: after {part} there is half a character; write it "
                "again in UTF-8"
            ) from None
    return text
