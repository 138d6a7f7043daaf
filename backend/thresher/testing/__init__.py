"""Tools for tests and benchmarks that ship with Thresher."""
