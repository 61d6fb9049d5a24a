"""Tests of `dialgate.interfaces.http` and of the Python client."""
