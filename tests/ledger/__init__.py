"""Tests of `dialgate.ledger`."""
