"""Ledger entries that void consents when a number is enrolled in the opposition registry.

Enrolment voids every consent collected before it, by any controller and in any form (L. 5/2018 art. 1 c. 5;
D.P.R. 26/2022 art. 7 c. 6 and 7). Contracts are not affected.

The rules treat the consents as void as soon as the registry's answer is published. The ledger entry keeps the
consents void after the answer has expired. It contains the receipt of the registry consultation as proof.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated

from msgspec import Meta, Struct

from dialgate.core.ledger_events import ConsentsVoided, Draft
from dialgate.core.model import Instant, Known
from dialgate.crypto.keys import Keys, nonces
from dialgate.ledger.schemas import Name, Request, Telephone, When, described
from dialgate.store import Ledger

_AT_ONCE = 1_000  # numbers in one write, which delays commits


class EnrolmentRequest(Request, frozen=True, kw_only=True):
    """Numbers that a registry reported as enrolled. Every consent that was collected up to then is void."""

    registry: Annotated[Name, described("The registry, such as `rpo`.")]
    numbers: Annotated[
        tuple[Telephone, ...], Meta(max_length=1_000, description="The enrolled numbers, at most 1,000.")
    ]
    listed_by: Annotated[When, described("When the numbers were enrolled at the latest.")]


class VoidedConsents(Struct, frozen=True):
    """How many of the numbers had a consent that is void now."""

    voided: int


class Enrolled(Struct, frozen=True, kw_only=True):
    """The numbers (E.164 digits, as in snapshots) that a registry consultation reported as listed.

    They were enrolled at `listed_by` at the latest.
    """

    controller: str
    registry: str
    listed_by: Instant
    receipt: str
    actor: str
    numbers: Iterable[int]


async def void_consents(store: Ledger, keys: Keys, enrolled: Enrolled, now: Instant) -> int:
    """Void the consents for the enrolled numbers and return how many numbers had consents. Idempotent.

    Raises `StoreUnavailable`. After an error, the entries already written remain, and a retry writes the others.
    """
    voided = 0
    fresh = nonces()
    for numbers in _chunks(iter(enrolled.numbers)):
        subjects = [keys.subject(enrolled.controller, number) for number in numbers]
        known = (await store.read(subjects)).known
        drafts = [
            _draft(enrolled, subject, keys.ledger.seal(number, next(fresh)), now)
            for number, subject, state in zip(numbers, subjects, known, strict=True)
            if _has_consent(state, enrolled.listed_by)
        ]
        if drafts:
            await store.append(drafts)
        voided += len(drafts)
    return voided


def _chunks(numbers: Iterator[int]) -> Iterator[list[str]]:
    while chunk := [f"+{number}" for number in islice(numbers, _AT_ONCE)]:
        yield list(dict.fromkeys(chunk))


def _has_consent(known: Known, before: Instant) -> bool:
    return any(consent.collected_at <= before and not consent.voided_at for consent in known.consents)


def _draft(enrolled: Enrolled, subject: bytes, sealed: bytes, now: Instant) -> Draft:
    return Draft(
        at=now,
        controller=enrolled.controller,
        subject=subject,
        event=ConsentsVoided(before=enrolled.listed_by, registry=enrolled.registry, receipt=enrolled.receipt),
        actor=enrolled.actor,
        channel="registry",
        proof=enrolled.receipt,
        sealed=sealed,
    )
