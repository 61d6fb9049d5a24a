"""Tests of `dialgate.config`."""
