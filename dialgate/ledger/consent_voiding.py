"""Enrolment with the opposition registry voids every consent collected before it, to anyone, in whatever form
(L. 5/2018 art. 1 c. 5; D.P.R. 26/2022 art. 7 c. 6 and 7).

The rules void such a consent by the registry's answer itself, from the moment that is published. This writes it into
the ledger as well, with the receipt, so that it stays void and provably so when the answer has gone. Write it before the
answer is published: a void too early refuses a call, one too late allows it. Contracts are not touched.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Struct

from dialgate.core.ledger_events import ConsentsVoided, Draft
from dialgate.core.model import Instant, Known
from dialgate.crypto.keys import Keys, nonces
from dialgate.store import Ledger

_AT_ONCE = 1_000  # numbers: commits wait while the ledger is written


class Enrolled(Struct, frozen=True, kw_only=True):
    """The numbers that one consultation said are listed: digits of the E.164 form, as snapshots hold them."""

    controller: str
    registry: str
    consulted_at: Instant
    receipt: str
    actor: str
    numbers: Iterable[int]


async def void_consents(store: Ledger, keys: Keys, enrolled: Enrolled, now: Instant) -> int:
    """How many numbers had consents that this voids. Idempotent: what is void already is not voided again. Raises
    `StoreUnavailable`; then what was written stands, and the rest follows when it is called again.
    """
    voided = 0
    fresh = nonces()
    for numbers in _chunks(iter(enrolled.numbers)):
        subjects = [keys.subject(enrolled.controller, number) for number in numbers]
        known = (await store.read(subjects)).known
        drafts = [
            _draft(enrolled, subject, keys.ledger.seal(number, next(fresh)), now)
            for number, subject, held in zip(numbers, subjects, known, strict=True)
            if _holds(held, enrolled.consulted_at)
        ]
        if drafts:
            await store.append(drafts)
        voided += len(drafts)
    return voided


def _chunks(numbers: Iterator[int]) -> Iterator[list[str]]:
    while some := [f"+{number}" for number in islice(numbers, _AT_ONCE)]:
        yield list(dict.fromkeys(some))


def _holds(known: Known, before: Instant) -> bool:
    return any(given.collected_at <= before and not given.voided_at for given in known.consents)


def _draft(enrolled: Enrolled, subject: bytes, sealed: bytes, now: Instant) -> Draft:
    return Draft(
        at=now,
        controller=enrolled.controller,
        subject=subject,
        event=ConsentsVoided(
            before=enrolled.consulted_at, registry=enrolled.registry, receipt=enrolled.receipt
        ),
        actor=enrolled.actor,
        channel="registry",
        proof=enrolled.receipt,
        sealed=sealed,
    )
