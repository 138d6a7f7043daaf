"""Adapters of the model client port."""
