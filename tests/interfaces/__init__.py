"""Tests of `dialgate.interfaces`. Tests that involve only one interface are in its subfolder."""
