"""Decisions as pure functions over values: the model, telephone numbers, a country's law, the rules.

No I/O, no clock, no files. A fact, a rule, a reason code or a type that several packages use belongs here. Code that reads
or waits does not.
"""
