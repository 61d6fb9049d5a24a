"""Tests of `dialgate.subjects`."""
