"""Thresher: facts from every subtree of a large XML document, proved by their path in the source."""
