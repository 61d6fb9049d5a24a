"""For how long each kind of data is stored: what is not confirmed by law is the operator's to set, with a safe default."""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

Days: TypeAlias = Annotated[int, Meta(ge=1, le=36_525)]


class Storage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Days for which each kind is stored after its use is over (GDPR 5(1)(e)); the decision log has its own rule. What
    forbids calls, revocations first, is kept for as long as calls may be made (GDPR 21(3)).

    Five years: the prescription of administrative sanctions (L. 689/1981 art. 28); ten: that of contracts (c.c. art.
    2946); two: for as long as the registry keeps its own log of consultations (D.P.R. 26/2022 art. 8 c. 5)."""

    daily: bool = True
    consents_days: Days = 1826
    contracts_days: Days = 3653
    call_requests_days: Days = 1826
    restricted_days: Days = 1826
    lists_days: Days = 731
    # No less than any rule of frequency or rest looks back.
    attempts_days: Annotated[int, Meta(ge=60, le=36_525)] = 90
    lookups_days: Days = 731
    subject_requests_days: Days = 1826
