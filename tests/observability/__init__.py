"""Tests of `dialgate.observability`."""
