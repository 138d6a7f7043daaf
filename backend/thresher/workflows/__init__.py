"""The domain parts that stand on the engine."""
