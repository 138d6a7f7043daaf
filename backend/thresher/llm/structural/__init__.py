"""The deterministic reading of a subtree: any JSON Schema answered from its leaves, without a model."""
