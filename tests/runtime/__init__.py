"""Tests of `dialgate.runtime`."""
