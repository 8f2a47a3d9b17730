"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# No test may wait for a model hub, and none may depend on the draw of the day.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
settings.register_profile("tasnb", deadline=None, derandomize=True)
settings.load_profile("tasnb")
