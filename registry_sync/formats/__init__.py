"""Formats for registry answers and lists."""
