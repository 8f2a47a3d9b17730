"""What every training does beside training: it keeps a log, and a state to go on from."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch


def arguments(
    doc: str, minutes: float = 25, batch: int = 96, rate: float = 1e-3
) -> argparse.ArgumentParser:
    """What every training may be told; its defaults, and its ``__doc__``."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=minutes, help="of the whole schedule")
    parser.add_argument("--scenes", type=int, default=9000)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser


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


def load_state(path: Path, **parts: Any) -> tuple[float, int]:
    """Brings parts to the state that ``save_state`` wrote, if it did.

    Returns:
        Minutes and steps behind it; 0 where there is none.
    """
    if not path.is_file():
        return 0.0, 0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["spent"], state["step"]


def set_rate(
    optimizer: torch.optim.Optimizer, rate: float, step: int, warm: int, done: float
) -> None:
    """Linear over the first ``warm`` steps, then half a cosine down to a hundredth.

    Args:
        done: Share of the training that is over.
    """
    rate *= min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    for group in optimizer.param_groups:
        group["lr"] = rate
