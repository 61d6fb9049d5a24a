"""Tests of `dialgate.store`, on SQLite, Redis and Valkey."""
