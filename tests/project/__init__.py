"""Tests of the repository: layers, documentation, the test suite, mutants and the quick start."""
