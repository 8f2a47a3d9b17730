"""What every training does beside training: it keeps a log, and a state to go on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def log(out: Path, step: int, minutes: float, **values: float) -> None:
    """Adds a row to ``<out>/log.jsonl`` and prints it."""
    row = {"step": step, "minutes": round(minutes, 2), **{k: float(v) for k, v in values.items()}}
    with (out / "log.jsonl").open("a") as lines:
        lines.write(json.dumps(row) + "\n")
    print({k: round(v, 3) for k, v in row.items()}, flush=True)


def save_state(path: Path, spent: float, step: int, **parts: Any) -> None:
    """Writes the state of some parts (modules, optimizer) whole or not at all."""
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**state, "spent": spent, "step": step}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)
