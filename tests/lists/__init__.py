"""Tests of `dialgate.lists`."""
