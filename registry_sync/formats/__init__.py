"""Formats of registry answers and lists."""
