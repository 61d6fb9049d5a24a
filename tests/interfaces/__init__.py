"""Tests of `dialgate.interfaces`. This folder has the tests of several interfaces together."""
