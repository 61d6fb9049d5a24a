"""Tests of `dialgate.crypto`."""
