"""Tests of `dialgate.interfaces.http` and of the client in Python."""
