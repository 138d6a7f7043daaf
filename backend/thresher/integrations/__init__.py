"""Doors to other systems: metrics for Prometheus, spans for OpenTelemetry. Imported only where they are asked for."""
