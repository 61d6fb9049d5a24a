"""Call decisions as pure functions: the data model, telephone numbers, a country's law, and the rules.

This package reads no clock, and no file but the data of installed packages. It also holds reason codes and types that several packages use.
"""
