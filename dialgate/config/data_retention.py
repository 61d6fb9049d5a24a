"""The storage periods of each kind of data. The operator sets them; the defaults are safe."""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Days: TypeAlias = Annotated[int, Meta(ge=1, le=36_525)]


class Storage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Days for which each kind of data is stored after its last use. Data that forbids calls is not removed."""

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
    """Numbers of retired call lists. The record of the list itself is kept."""
    attempts_days: Annotated[int, Meta(ge=60, le=36_525)] = 90
    """Call attempts, which count towards the `limits` of country files, and are kept as long as these need them. A silent call is kept until a later call is answered."""
    lookups_days: Days = 731
    """Records of look-ups: client, time and number."""
    subject_requests_days: Days = 1826
    """Closed data-subject requests."""
