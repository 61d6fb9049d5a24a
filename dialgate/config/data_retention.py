"""For how long each kind of data is stored: what is not confirmed by law is the operator's to set, with a safe default."""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Days: TypeAlias = Annotated[int, Meta(ge=1, le=36_525)]


class Storage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Days for which each kind of data is stored after its use is over. What forbids calls stays."""

    daily: bool = True
    """Whether the gate removes expired data once a day."""
    consents_days: Days = 1826
    """Consents, once withdrawn, void or expired."""
    contracts_days: Days = 3653
    """Contracts, after their last day."""
    call_requests_days: Days = 1826
    """Requests to be called, once expired."""
    restricted_days: Days = 1826
    """Data restricted by an erasure, after the last call that was based on it."""
    lists_days: Days = 731
    """Numbers of retired call lists. The list itself stays on record."""
    # No less than any rule of frequency or rest looks back.
    attempts_days: Annotated[int, Meta(ge=60, le=36_525)] = 90
    """Attempts to call, which the frequency limits count. A silent call stays until a later call was answered."""
    lookups_days: Days = 731
    """Who looked at what."""
    subject_requests_days: Days = 1826
    """Data-subject requests, once closed."""
