"""Call decisions as pure functions: the data model, telephone numbers, a country's law, and the rules.

This package does no I/O and reads no clock. It also holds reason codes and types that several packages use.
"""
