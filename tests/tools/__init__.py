"""Tests of `dialgate.tools`."""
