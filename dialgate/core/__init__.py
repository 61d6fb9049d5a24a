"""Decisions as pure functions over values: the model, telephone numbers, a country's law, the rules. No I/O, no clock, no file.

A fact, a rule, a reason code or a type that crosses packages belongs here. Anything that reads or waits does not.
"""
