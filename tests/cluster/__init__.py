"""Tests of `dialgate.cluster`."""
