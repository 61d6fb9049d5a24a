"""The properties of a call that select the sections of a law."""

from collections.abc import Collection, Iterator
from typing import Final, Literal, NamedTuple, get_args

from dialgate.core.model import EPOCH, Callee, CallType, DialMode, Facts, Kind, Purpose

_ALL_KINDS: Final[frozenset[Kind]] = frozenset(get_args(Kind))


class Scope(NamedTuple):
    """The properties of a call that select the sections of a law. Some may be unknown."""

    first: int  # earliest day, counted from 1970-01-01, in the law's zone and where the person may be
    last: int  # latest such day, which differs from `first` around midnight
    purpose: Purpose
    call_type: CallType
    sector: str | None  # None if the law does not list the campaign's sector, which may then be any sector
    callee: Callee
    profiling: bool
    sistan: bool
    dial_mode: DialMode | Literal[""]
    traits: tuple[str, ...]
    kind: Kind
    region: str
    places: tuple[str, ...]

    @classmethod
    def from_facts(cls, facts: Facts, sectors: Collection[str]) -> "Scope":
        campaign, controller, number = facts.campaign, facts.controller, facts.number
        days = [facts.today.toordinal() - EPOCH, *local_days(facts)]
        return cls(
            min(days),
            max(days),
            campaign.purpose,
            facts.call_type,
            known_sector(campaign.sector, sectors),
            campaign.callee,
            campaign.profiling,
            is_sistan(facts),
            campaign.dial_mode,
            (*controller.adheres_to, *controller.traits),
            number.kind,
            number.region,
            number.places,
        )

    def may_be_in(self, place: str) -> bool:
        """Return whether the called person may be in a region or subdivision."""
        if not self.region or place == self.region:
            return True
        return any(
            place == known or place.startswith(f"{known}-") or known.startswith(f"{place}-")
            for known in self.places or (self.region,)
        )

    def possible_kinds(self) -> frozenset[Kind]:
        if self.kind == "unknown":
            return _ALL_KINDS
        kinds = frozenset({self.kind})
        return kinds | {"fixed", "mobile"} if self.kind == "fixed_or_mobile" else kinds


def is_sistan(facts: Facts) -> bool:
    """Return whether the call is for statistics of the national statistical system (D.Lgs. 322/1989)."""
    return facts.controller.sistan and facts.campaign.purpose == "statistics"


def known_sector(sector: str, sectors: Collection[str]) -> str | None:
    """Return a campaign's sector, or None if it is not one of the law's `sectors`.

    If `sectors` is empty, the law has no rules for sectors, and the sector is returned unchanged.
    """
    return sector if not sector or not sectors or sector in sectors else None


def local_days(facts: Facts) -> Iterator[int]:
    """Yield the local day, counted from 1970-01-01, in each place where the called person may be."""
    return (place.local(facts.at)[0] for place in facts.places)
