"""The search for an abandoned ("silent") call that was not followed by an answered call.

Until a later call to the number is answered, a frequency rule may permit only some call types. So the stores keep the
abandoned call longer than other attempts.
"""

from collections.abc import Iterable

from dialgate.core.model import Attempt, Result

# Results of calls in which an agent spoke to the called person.
ANSWERED: frozenset[Result] = frozenset({"answered", "refused", "opt_out", "wrong_number"})


def open_silence(attempts: Iterable[Attempt]) -> Attempt | None:
    """Return the newest abandoned call, or None if there is none or a later call was answered."""
    newest: Attempt | None = None
    answered_at = -1
    for attempt in attempts:
        if attempt.result == "abandoned" and (newest is None or attempt.at > newest.at):
            newest = attempt
        elif attempt.result in ANSWERED:
            answered_at = max(answered_at, attempt.at)
    return newest if newest is not None and newest.at >= answered_at else None
