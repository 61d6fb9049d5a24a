"""The section of a country's law about what a revocation bars."""

from dialgate.core.law_sections import Section


class StopSection(Section, frozen=True, kw_only=True):
    """The source that a denial cites if the person said stop and the call is in the section's scope.

    A call that no section covers is barred by GDPR art. 21(2) and (3). A campaign with `stops: marketing` may make the
    calls that only sections of severity `operator` cover.
    """
