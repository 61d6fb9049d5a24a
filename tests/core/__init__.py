"""Tests of `dialgate.core`: decisions as pure functions. Their cases are in `tests/cases/`."""
