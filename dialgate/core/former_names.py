"""Campaigns and goods that stops name and that the controller's configuration no longer contains.

A campaign or its goods may have been renamed. A stop outlasts the new name (GDPR art. 21(3)), and the gate cannot know
which campaign it now concerns. So such a stop applies to all of the controller's campaigns.
"""

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from dialgate.core.model import Known


class _Campaign(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def goods(self) -> str: ...


class CurrentNames(Struct, frozen=True):
    """The ids and goods of a controller's campaigns."""

    campaigns: frozenset[str] = frozenset()
    goods: frozenset[str] = frozenset()

    @classmethod
    def from_campaigns(cls, campaigns: Iterable[_Campaign]) -> "CurrentNames":
        pairs = [(campaign.id, campaign.goods) for campaign in campaigns]
        return cls(frozenset(name for name, _ in pairs), frozenset(goods for _, goods in pairs))

    def former_campaigns(self, known: Known) -> tuple[str, ...]:
        """Return the campaigns of revocations that are not among the current ones."""
        if not known.revocations:
            return ()
        named = {stop.campaign for stop in known.revocations if stop.scope == "campaign"}
        return tuple(sorted(named - self.campaigns))

    def former_goods(self, known: Known) -> tuple[str, ...]:
        """Return the goods of withdrawn consents that are not among the current ones."""
        if not (known.consents or known.objections):
            return ()
        withdrawn = {goods for consent in known.consents if consent.withdrawn_at for goods in consent.goods}
        removed = {goods for objection in known.objections for goods in objection.goods}
        return tuple(sorted((withdrawn | removed) - self.goods))
