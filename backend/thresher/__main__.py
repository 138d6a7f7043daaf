"""``python -m thresher`` and the command ``thresher``."""

from __future__ import annotations

import sys

from thresher.cli.app import run


def main() -> None:
    """Runs the command line."""
    sys.exit(run())


if __name__ == "__main__":
    main()
