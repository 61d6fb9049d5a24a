"""Tests of `dialgate.texts`."""
