"""Pickles as Python 2 wrote them"""

from __future__ import annotations

from typing import Any


def as_python_2(value: Any) -> bytes:
    """The opcodes with which Python 2 wrote plain data: its str is bytes."""
    if isinstance(value, dict):
        return b"(" + b"".join(as_python_2(x) for pair in value.items() for x in pair) + b"d"
    if isinstance(value, list):
        return b"(" + b"".join(map(as_python_2, value)) + b"l"
    if isinstance(value, str):
        text = value.encode()
        return b"U" + bytes([len(text)]) + text
    return f"I{value}\n".encode() if value % 2 else f"L{value}L\n".encode()
