"""A pipeline over three images of one column, with one encoder."""

from __future__ import annotations

from pathlib import Path

from tasnb.method.pipeline import Pipeline
from tasnb.settings import make_settings

ENCODER = "open_clip:embedded/clip-vit"
QUICK = {
    "limit": 3,
    "shard_size": 1,
    "encoders": [ENCODER],
    "datasets": ["refscenes"],
    "splits": ["val"],
}


def pipeline(store: Path, **overrides) -> Pipeline:
    return Pipeline(make_settings(store=store, out=store / "out", **{**QUICK, **overrides}))
