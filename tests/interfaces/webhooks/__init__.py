"""Tests of `dialgate.interfaces.webhooks`."""
