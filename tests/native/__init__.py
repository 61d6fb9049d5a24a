"""Tests of `dialgate.native`."""
