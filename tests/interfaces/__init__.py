"""Tests of `dialgate.interfaces`; here those of several interfaces at once."""
