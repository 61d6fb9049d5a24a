"""Tests of `dialgate.audit`."""
