"""Tests of `dialgate.interfaces.cli`, as real processes."""
