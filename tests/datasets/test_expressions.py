"""What can be asked, of a dataset's sentences and of what a user types alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tasnb
from tasnb.datasets.expressions import check_expression
from tasnb.settings import InputError

WRONG = [
    (None, "is blank; say what to find"), ("", "is blank; say what to find"),
    (" \t\n", "is blank"), ("\u3000", "is blank"), (7, "is 7, which is not text"),
    (float("nan"), "is nan, which is not text"), (["cat"], "is ['cat'], which is not text"),
    ("cat \ud83d left", "is not valid Unicode: after 'cat ' there is half a character"),
    (b"cat", "which is not text"), ("caf\udce9", "is not valid Unicode: after 'caf'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_no_expression(text: Any, message: str) -> None:
    for check in (check_expression, lambda text: tasnb.segment(np.zeros((9, 9), np.uint8), text)):
        with pytest.raises(InputError) as error:
            check(text)
        assert str(error.value).startswith("the expression ") and message in str(error.value)
        assert str(error.value).isascii()


@pytest.mark.parametrize(
    "text", ["cat", " cat\n", "\U0001f408 left", "\u5de6\u8fb9\u7684\u732b", "e\u0301"]
)
def test_what_is_one(text: str) -> None:
    assert check_expression(text) == text
