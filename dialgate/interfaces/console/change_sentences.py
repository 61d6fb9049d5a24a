"""Sentences about what a draft of the configuration changes, for the console and `dialgate config diff`."""

from collections.abc import Sequence

from dialgate.audit.configuration_diff import ConfigurationChange, ConfigurationDiff, ReasonCount
from dialgate.interfaces.console.rendering import count, day
from dialgate.interfaces.console.words import Words


def summary(diff: ConfigurationDiff, words: Words, zone: str = "UTC") -> str:
    """Return how many decisions of which days were compared, and how many could not be judged."""
    language = words.language
    text = words(
        "changes.compared",
        decisions=count(diff.decisions, language),
        since=day(diff.since, zone),
        until=day(diff.until, zone),
        zone=zone,
    )
    if diff.unjudged:
        text += " " + words("changes.unjudged", calls=count(diff.unjudged, language))
    return text if diff.changes else f"{text} {words('changes.none')}"


def sentence(change: ConfigurationChange, words: Words) -> str:
    language = words.language
    return words(
        f"changes.{change.was}.{change.becomes}",
        campaign=change.campaign,
        calls=count(change.calls, language),
        now=_listed(change.now, language),
        no_longer=_listed(change.no_longer, language),
        doubt=words(f"changes.doubt.{change.doubt}") if change.doubt else "",
    )


def _listed(reasons: Sequence[ReasonCount], language: str) -> str:
    return ", ".join(f"{reason.code} ({count(reason.calls, language)})" for reason in reasons) or "-"
