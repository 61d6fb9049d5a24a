"""Signs that a number has a new holder. Earlier legal bases then have no effect."""

from dialgate.core.model import Facts, Instant


def changed_at(facts: Facts) -> Instant:
    """Return the last time at which the number may have passed to another person, or -1."""
    return max(reported_wrong_at(facts), disconnected_at(facts))


def reported_wrong_at(facts: Facts) -> Instant:
    """Return the instant of the last wrong-number report in force, or -1."""
    return max((wrong.at for wrong in facts.known.wrong_numbers if not wrong.lifted), default=-1)


def disconnected_at(facts: Facts) -> Instant:
    """Return the instant of the newest consultation that found the number disconnected, or -1."""
    return max(
        (answer.listed_at for answer in facts.registries if answer.asked_since and answer.listed_at),
        default=-1,
    )
