"""Tests of `dialgate.decision_log`."""
