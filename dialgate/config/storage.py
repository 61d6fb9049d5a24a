"""The settings for how long each kind of data is stored. A law can require a longer period."""

from collections.abc import Collection
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct, structs

from dialgate.core import record_terms
from dialgate.core.law import Law
from dialgate.core.local_time import day_in
from dialgate.core.model import Instant
from dialgate.core.record_terms import KeptKind

Days: TypeAlias = Annotated[int, Meta(ge=1, le=36_525)]


class Storage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Days for which each kind of data is stored after its last use.

    Data that forbids calls is not removed. If the `records` of a country file require a longer period, that period applies.
    """

    daily: bool = True
    """Whether the gate removes expired data once a day."""
    consents_days: Days = 1826
    """Consents that are withdrawn, void or expired."""
    contracts_days: Days = 3653
    """Contracts, after their last day."""
    call_requests_days: Days = 1826
    """Expired call requests."""
    restricted_days: Days = 1826
    """Data restricted by an erasure, after the last call that was based on it."""
    lists_days: Days = 731
    """Numbers in retired call lists. The record of the list itself is kept."""
    attempts_days: Annotated[int, Meta(ge=60, le=36_525)] = 90
    """Call attempts. They are kept longer if the `limits` of a country file count them, or if a call request from before them has not expired. A silent call is kept until a later call is answered."""
    lookups_days: Days = 731
    """Records of look-ups: client, time and number."""
    dead_letters_days: Annotated[int, Meta(ge=7, le=36_525)] = 90
    """Messages of platforms and CRMs that could not be applied. They can contain stops: replay them long before."""
    subject_requests_days: Days = 1826
    """Closed data-subject requests."""


_KINDS: Final[tuple[KeptKind, ...]] = ("consents", "contracts", "call_requests")


def terms(storage: Storage, laws: Collection[Law], now: Instant) -> Storage:
    """Return the periods to apply: for each kind of data, the configured period or, if longer, the one in a law.

    The ledger does not record which country a number belongs to, so every entry is kept for the longest period that
    any callable country requires.
    """
    required = {
        kind: max((record_terms.days(law.records, kind, day_in(law.zone, now)) for law in laws), default=0)
        for kind in _KINDS
    }
    return structs.replace(
        storage,
        consents_days=max(storage.consents_days, required["consents"]),
        contracts_days=max(storage.contracts_days, required["contracts"]),
        call_requests_days=max(storage.call_requests_days, required["call_requests"]),
        restricted_days=max(storage.restricted_days, *required.values()),
    )
