"""Code shared by all training scripts: options, logs, and a state from which to resume."""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from transformers import BatchEncoding, PreTrainedTokenizerBase, PreTrainedTokenizerFast


def arguments(
    doc: str, minutes: float = 25, batch: int = 96, rate: float = 1e-3
) -> argparse.ArgumentParser:
    """A parser with the options of all training scripts.

    Args:
        doc: The script's ``__doc__``, whose first line is the description.
        minutes, batch, rate: The script's defaults.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--minutes", type=float, default=minutes, help="length of the whole schedule"
    )
    parser.add_argument("--scenes", type=int, default=9000)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw batches")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options as given; makes the output folder, and sets device, threads and seed."""
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    torch.set_float32_matmul_precision("high")  # on a GPU, 10 bits are enough
    torch.manual_seed(args.seed)
    return args


def to_tensor(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Images (B, S, S, 3) as CLIP and the captioners see them, float (B, 3, S, S)."""
    pixels = torch.as_tensor(images).to(torch.get_default_device())
    return (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def tokens(tokenizer: PreTrainedTokenizerBase, captions: list[str]) -> BatchEncoding:
    """Token numbers and masks of captions, padded to the longest, (B, L)."""
    words = tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
    return words.to(torch.get_default_device())


class Clock:
    """Minutes of computing, over all calls of a script.

    On a CPU, what other processes take does not count, nor do those that draw batches; a GPU is
    supposed to have nothing else to do.

    Args:
        before: Minutes of earlier calls.
    """

    def __init__(self, before: float) -> None:
        gpu = torch.get_default_device().type == "cuda"
        self.now = time.monotonic if gpu else time.process_time
        self.cores = 1 if gpu else torch.get_num_threads()
        self.start = self.now() - 60 * before * self.cores

    def minutes(self) -> float:
        return (self.now() - self.start) / 60 / self.cores


def means(history: list[tuple[torch.Tensor, ...]]) -> list[float]:
    """The mean of each value over some steps; empties the list.

    Values on a GPU stay there until now, so that no step waits for them.
    """
    found = [float(torch.stack(column).mean()) for column in zip(*history, strict=True)]
    history.clear()
    return found


def log(out: Path, step: int, minutes: float, **values: float) -> None:
    """Appends a row to ``<out>/log.jsonl`` and prints it."""
    row = {"step": step, "minutes": round(minutes, 2), **{k: float(v) for k, v in values.items()}}
    with (out / "log.jsonl").open("a") as lines:
        lines.write(json.dumps(row) + "\n")
    print({k: round(v, 3) for k, v in row.items()}, flush=True)


def save_state(path: Path, spent: float, step: int, **parts: Any) -> None:
    """Writes the states of modules and optimizers atomically."""
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**state, "spent": spent, "step": step}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)


def load_state(path: Path, **parts: Any) -> tuple[float, int]:
    """Restores the states written by ``save_state``, if there are any.

    Returns:
        Minutes and steps trained so far; 0 if there is no state.
    """
    if not path.is_file():
        return 0.0, 0
    state = torch.load(path, weights_only=True, map_location=torch.get_default_device())
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["spent"], state["step"]


def start_from(model: torch.nn.Module, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Copies a checkpoint's weights that fit to a model, and says which ones did not.

    The embeddings of tokens are found by the tokens themselves, since the vocabularies may differ.

    Args:
        model: Of the same architecture, perhaps of another size; changed in place.
        folder: Contains safetensors and a ``tokenizer.json``.
        tokenizer: The model's own.
    """
    given = {
        name: value.float().to(torch.get_default_device())
        for path in folder.glob("*.safetensors")
        for name, value in load_file(path).items()
    }
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")).get_vocab()
    ours = tokenizer.get_vocab()
    shared = sorted(ours.keys() & theirs.keys())
    mine = torch.tensor([ours[token] for token in shared])
    from_ = torch.tensor([theirs[token] for token in shared])
    own, missed = model.state_dict(), []
    for name, weight in own.items():
        value = given.get(name)
        if value is None or value.shape[1:] != weight.shape[1:]:
            missed.append(name)
        elif value.ndim and len(value) == len(theirs) and len(weight) == len(ours):
            weight[mine] = value[from_]
        elif value.shape == weight.shape:
            weight.copy_(value)
        else:
            missed.append(name)
    print(f"starts from {folder}, {len(shared)} of {len(ours)} tokens; new: {missed}", flush=True)


class Optimizers:
    """Muon for the matrices of hidden layers, AdamW for all other weights.

    With Muon, small networks need about half as many steps. Its steps are scaled to the size of
    AdamW's, so that one learning rate serves both.

    Args:
        model: The network; its embeddings (of tokens or positions) count as other weights.
        rate: The learning rate.
        decay: Weight decay of matrices.
    """

    def __init__(self, model: torch.nn.Module, rate: float, decay: float) -> None:
        hidden, others, plain = [], [], []
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue
            if weight.ndim == 2 and not re.search("embed|token|position|rel_pos|head", name):
                hidden.append(weight)
            else:
                (others if weight.ndim > 1 else plain).append(weight)
        self.parts = [
            torch.optim.AdamW(
                [
                    {"params": others, "weight_decay": decay},
                    {"params": plain, "weight_decay": 0.0},
                ],
                lr=rate,
                betas=(0.9, 0.98),
            )
        ]
        if hidden:
            muon = torch.optim.Muon(
                hidden, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
            )
            self.parts.append(muon)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(number): part.state_dict() for number, part in enumerate(self.parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for number, part in enumerate(self.parts):
            part.load_state_dict(state[str(number)])


def set_rate(optimizer: Optimizers, rate: float, step: int, warm: int, done: float) -> None:
    """Sets the learning rate: linear warm-up, then cosine decay to a hundredth of ``rate``.

    Args:
        warm: Number of warm-up steps.
        done: Completed share of the training.
    """
    rate *= min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    for group in optimizer.param_groups:
        group["lr"] = rate
