"""Abandoned ("silent") calls and whether a later call made up for them. Pure.

The frequency rules deny by it, and the stores keep an attempt past its time by it.
"""

from collections.abc import Iterable

from dialgate.core.model import Attempt, Result

# Somebody picked up and was spoken to.
ANSWERED: frozenset[Result] = frozenset({"answered", "opt_out", "wrong_number"})


def open_silence(attempts: Iterable[Attempt]) -> Attempt | None:
    """Return the newest abandoned call, if no later call was answered."""
    newest: Attempt | None = None
    answered_at = -1
    for attempt in attempts:
        if attempt.result == "abandoned" and (newest is None or attempt.at > newest.at):
            newest = attempt
        elif attempt.result in ANSWERED:
            answered_at = max(answered_at, attempt.at)
    return newest if newest is not None and newest.at >= answered_at else None
