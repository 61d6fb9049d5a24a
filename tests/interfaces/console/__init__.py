"""Tests of `dialgate.interfaces.console`."""
