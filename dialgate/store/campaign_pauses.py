"""Supervisors' pauses of campaigns."""

from msgspec import Struct

from dialgate.core.model import Instant


class CampaignPause(Struct, frozen=True, kw_only=True):
    """The newest pause of a campaign, also if it has ended. It is in force while `resumed_at` is 0."""

    controller: str
    campaign: str
    at: Instant
    reason: str
    actor: str
    proof: str = ""
    resumed_at: Instant = 0  # later than `at`
    resumed_by: str = ""

    @property
    def changed_at(self) -> Instant:
        """The instant by which the newer of two versions is known. Each change makes it later."""
        return self.resumed_at or self.at
