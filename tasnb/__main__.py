"""``python -m tasnb``: see ``tasnb.cli.arguments``."""

from __future__ import annotations

import sys

from tasnb.cli.arguments import main

if __name__ == "__main__":
    sys.exit(main())
