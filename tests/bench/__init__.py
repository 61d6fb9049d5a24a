"""Benchmarks that a user does not run: `python -m tests.bench NAME --json`."""
