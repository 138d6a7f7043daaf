"""``python -m thresher`` and the command ``thresher``."""

from __future__ import annotations

import gc
import sys

from thresher.cli.app import run

YOUNG_OBJECTS = 50_000  # before the garbage collector looks at them; Python's own 700 costs an eighth of the start


def main() -> None:
    """Runs the command line."""
    gc.set_threshold(YOUNG_OBJECTS)
    sys.exit(run())


if __name__ == "__main__":
    main()
