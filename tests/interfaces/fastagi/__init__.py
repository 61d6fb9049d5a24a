"""Tests of `dialgate.interfaces.fastagi`."""
