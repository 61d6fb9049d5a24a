"""Tests of `dialgate.shipping`."""
