"""Tests of `dialgate.interfaces.sip`."""
