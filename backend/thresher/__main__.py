"""``python -m thresher``."""
