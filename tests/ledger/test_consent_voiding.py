"""An answer *listed* voids every earlier consent, and no other, in the ledger and with its receipt."""

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
    controller="acme", registry="rpo", consulted_at=ASKED, receipt="RPO-1", actor="job", numbers=(ONE, TWO)
)


class Held:
    def __init__(self, folder: Path) -> None:
        self.keys = Keys.open(folder / "keys.json")
        self.store = SqliteStore.open(folder / "store.db")
        self._nonces = nonces()

    async def give(self, number: int, at: int, key: str = "c", controller: str = "acme") -> None:
        given = ConsentGiven(id=key, collected_at=at, purposes=("sale",), call_types=("agent",))
        await self.enter(number, given, controller)

    async def enter(self, number: int, event: Event, controller: str = "acme") -> None:
        subject = self.keys.subject(controller, f"+{number}")
        await self.store.append(
            [Draft(at=NOW, controller=controller, subject=subject, event=event, actor="a", channel="web")]
        )

    async def consents(self, number: int, controller: str = "acme") -> dict[str, Consent]:
        known = (await self.store.read([self.keys.subject(controller, f"+{number}")])).known[0]
        return {each.id: each for each in known.consents}

    async def void(self, enrolled: Enrolled = ENROLLED) -> int:
        return await void_consents(self.store, self.keys, enrolled, NOW)


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Held]:
    made = Held(tmp_path)
    yield made
    await made.store.close()


@pytest.mark.parametrize(("collected_at", "voided"), [(ASKED - 1, 1), (ASKED, 1), (ASKED + 1, 0)])
async def test_what_was_collected_up_to_the_consultation_is_void(
    held: Held, collected_at: int, voided: int
) -> None:
    await held.give(ONE, collected_at)
    assert await held.void() == voided
    assert (await held.consents(ONE))["c"].voided_at == (ASKED if voided else 0)


async def test_only_listed_numbers_of_this_controller_are_touched(held: Held) -> None:
    await held.give(ONE, ASKED)
    await held.give(OTHER, ASKED)
    await held.give(ONE, ASKED, controller="partner")
    await held.enter(TWO, ContractMade(id="k", starts=date(2026, 1, 1)))
    assert await held.void() == 1
    assert not (await held.consents(OTHER))["c"].voided_at
    assert not (await held.consents(ONE, "partner"))["c"].voided_at


async def test_each_void_is_an_entry_with_its_receipt_and_is_written_once(held: Held) -> None:
    await held.give(ONE, ASKED)
    await held.give(ONE, ASKED - DAY, "d")
    assert [await held.void(), await held.void()] == [1, 0]
    newest = (await held.store.history(held.keys.subject("acme", f"+{ONE}")))[-1]
    assert newest.event == ConsentsVoided(before=ASKED, registry="rpo", receipt="RPO-1")
    assert (newest.actor, newest.channel, newest.proof) == ("job", "registry", "RPO-1")
    assert held.keys.ledger.unseal(newest.sealed) == f"+{ONE}"
    await held.give(ONE, ASKED + 1, "e")  # given again since: a later enrolment voids it too
    assert await held.void(structs.replace(ENROLLED, consulted_at=ASKED + 1, receipt="RPO-2")) == 1


async def test_any_number_of_numbers_is_gone_through_in_parts(held: Held) -> None:
    """A number that occurs twice is voided once."""
    for number in (ONE, TWO):
        await held.give(number, ASKED)
    many = (*range(390600000000, 390600005000), ONE, TWO, ONE)
    assert await held.void(structs.replace(ENROLLED, numbers=many)) == 2
