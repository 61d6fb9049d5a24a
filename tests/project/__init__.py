"""Tests of the repository itself: layers, documentation, the test suite, mutants, the first minute of a new user."""
