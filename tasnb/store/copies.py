"""Copies parts of a store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path


def copy_shards(store: Path, names: Iterable[str], target: Path) -> None:
    """Copies finished shards to another store, each with its data files and its stage's record.

    Args:
        store: The folder of the store.
        names: JSON files of shards, as paths relative to the store.
        target: The folder of the other store; created if necessary.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in sorted(set(names)):
        file = store / name
        parts = json.loads(file.read_bytes())["parts"].values()
        folder = (target / name).parent
        folder.mkdir(parents=True, exist_ok=True)
        # The shard's JSON marks it as finished, so it comes last.
        for one in (*parts, "stage.json", file.name):
            if not (folder / one).exists():
                shutil.copyfile(file.parent / one, folder / one)
