"""Tests of `dialgate.report`."""
