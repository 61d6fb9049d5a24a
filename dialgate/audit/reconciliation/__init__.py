"""Calls that left the trunk, matched against decisions."""
