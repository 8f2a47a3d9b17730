"""TAS: zero-shot referring image segmentation, without training.

Suo, Zhu, Yang: "Text Augmented Spatial-aware Zero-shot Referring Image Segmentation",
Findings of EMNLP 2023. The public API is small::

    import tasnb
    result = tasnb.segment("photo.jpg", "the left cat")     # one image, one expression
    results = tasnb.segment_many(pairs)                     # many pairs, a few images at a time
    tasnb.explore("photo.jpg", "the left cat")              # to look at, in a notebook
    settings = tasnb.make_settings("embedded", alpha=0.2)   # a profile with some settings changed
    pipeline = tasnb.Pipeline(settings)                     # whole datasets, stage by stage
    pipeline = tasnb.start(globals())                       # the same, in a notebook
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "Pipeline",
    "__version__",
    "explore",
    "make_settings",
    "segment",
    "segment_many",
    "start",
]

# Progress bars are text: a widget bar is an empty frame in a saved notebook. Libraries that prefer
# widgets (tqdm.auto, used by transformers) print a pink warning at the first computation.
warnings.filterwarnings("ignore", message="IProgress not found")

# Resolved on first use: torch and related packages take seconds to import, `import tasnb` must not.
_HOME = {
    "InputError": "settings",
    "make_settings": "settings",
    "Pipeline": "method.pipeline",
    "explore": "segmentation.explore",
    "segment": "segmentation.many",
    "segment_many": "segmentation.many",
    "start": "workbook.start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
