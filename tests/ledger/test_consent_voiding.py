"""Tests that a *listed* answer voids all earlier consents of the number, but no later consents.

The ledger records the receipt of the consultation.
"""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest
from msgspec import structs

from dialgate.core.ledger_events import ConsentGiven, ConsentsVoided, ContractMade, Draft, Event
from dialgate.core.model import DAY, Consent
from dialgate.crypto.keys import Keys, nonces
from dialgate.ledger.consent_voiding import Enrolled, void_consents
from dialgate.store.sqlite import SqliteStore
from tests.support.world import NOW

ASKED = NOW - DAY
ONE, TWO, OTHER = 390612345678, 393331234567, 390298765432
ENROLLED = Enrolled(
    controller="acme", registry="rpo", listed_by=ASKED, receipt="RPO-1", actor="job", numbers=(ONE, TWO)
)


class LedgerFixture:
    def __init__(self, folder: Path) -> None:
        self.keys = Keys.open(folder / "keys.json")
        self.store = SqliteStore.open(folder / "store.db")
        self._nonces = nonces()

    async def give(self, number: int, at: int, key: str = "c", controller: str = "acme") -> None:
        given = ConsentGiven(
            id=key, collected_at=at, purposes=("sale",), goods=("broadband",), call_types=("agent",)
        )
        await self.enter(number, given, controller)

    async def enter(self, number: int, event: Event, controller: str = "acme") -> None:
        subject = self.keys.subject(controller, f"+{number}")
        await self.store.append(
            [Draft(at=NOW, controller=controller, subject=subject, event=event, actor="a", channel="web")]
        )

    async def consents(self, number: int, controller: str = "acme") -> dict[str, Consent]:
        known = (await self.store.read([self.keys.subject(controller, f"+{number}")])).known[0]
        return {consent.id: consent for consent in known.consents}

    async def void(self, enrolled: Enrolled = ENROLLED) -> int:
        return await void_consents(self.store, self.keys, enrolled, NOW)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[LedgerFixture]:
    fixture = LedgerFixture(tmp_path)
    yield fixture
    await fixture.store.close()


@pytest.mark.parametrize(("collected_at", "voided"), [(ASKED - 1, 1), (ASKED, 1), (ASKED + 1, 0)])
async def test_consents_up_to_the_answer_are_voided(
    ledger: LedgerFixture, collected_at: int, voided: int
) -> None:
    await ledger.give(ONE, collected_at)
    assert await ledger.void() == voided
    assert (await ledger.consents(ONE))["c"].voided_at == (ASKED if voided else 0)


async def test_other_numbers_and_controllers_are_not_affected(ledger: LedgerFixture) -> None:
    await ledger.give(ONE, ASKED)
    await ledger.give(OTHER, ASKED)
    await ledger.give(ONE, ASKED, controller="partner")
    await ledger.enter(TWO, ContractMade(id="k", starts=date(2026, 1, 1)))
    assert await ledger.void() == 1
    assert not (await ledger.consents(OTHER))["c"].voided_at
    assert not (await ledger.consents(ONE, "partner"))["c"].voided_at


async def test_voiding_is_recorded_once_with_its_receipt(ledger: LedgerFixture) -> None:
    await ledger.give(ONE, ASKED)
    await ledger.give(ONE, ASKED - DAY, "d")
    assert [await ledger.void(), await ledger.void()] == [1, 0]
    newest = (await ledger.store.history(ledger.keys.subject("acme", f"+{ONE}")))[-1]
    assert newest.event == ConsentsVoided(before=ASKED, registry="rpo", receipt="RPO-1")
    assert (newest.actor, newest.channel, newest.proof) == ("job", "registry", "RPO-1")
    assert ledger.keys.ledger.unseal(newest.sealed) == f"+{ONE}"
    await ledger.give(ONE, ASKED + 1, "e")  # a new consent, which a later enrolment voids too
    assert await ledger.void(structs.replace(ENROLLED, listed_by=ASKED + 1, receipt="RPO-2")) == 1


async def test_duplicate_numbers_in_several_parts_are_voided_once(ledger: LedgerFixture) -> None:
    for number in (ONE, TWO):
        await ledger.give(number, ASKED)
    many = (*range(390600000000, 390600005000), ONE, TWO, ONE)
    assert await ledger.void(structs.replace(ENROLLED, numbers=many)) == 2
