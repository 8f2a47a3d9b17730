"""What all tests share."""

from __future__ import annotations

import os
import signal

from hypothesis import settings
from loopback import site

__all__ = ["site"]  # a fixture

# No test may wait for a model hub, and none may depend on the draw of the day.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A job in the background ignores Ctrl-C, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("tasnb", deadline=None, derandomize=True)
settings.load_profile("tasnb")
