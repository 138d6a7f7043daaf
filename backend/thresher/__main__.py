"""``python -m thresher`` and the command ``thresher``."""

from __future__ import annotations

from thresher.cli.app import app


def main() -> None:
    """Runs the command line."""
    app()


if __name__ == "__main__":
    main()
