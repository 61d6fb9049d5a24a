"""Tests that a *listed* answer voids all earlier consents of the number, but no later consents.

The ledger records the receipt of the consultation.
"""

from datetime import UTC, date, datetime

import pytest

from dialgate.config.clients import Client
from dialgate.core.ledger_events import ConsentGiven, ConsentsVoided
from dialgate.core.model import DAY, Consent
from dialgate.ledger.consent_voiding import EnrolmentRequest
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import ConsentRequest, ContractRequest
from tests.support.world import NOW

ASKED = NOW - DAY
ONE, TWO, OTHER = "+390612345678", "+393331234567", "+390298765432"
JOB = Client(name="job", controllers=("acme",), scopes=("ledger",))


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1_000, UTC)


async def give(registrar: Registrar, number: str, at: int, key: str = "c") -> None:
    consent = ConsentRequest(
        number=number,
        id=key,
        collected_at=moment(at),
        purposes=("sale",),
        goods=("broadband",),
        call_types=("agent",),
    )
    await registrar.consents.record(JOB, consent)


async def consents(registrar: Registrar, number: str) -> dict[str, Consent]:
    access = registrar.access
    (known,) = (await access.store.read([access.keys.subject("acme", number)])).known
    return {consent.id: consent for consent in known.consents}


async def void(registrar: Registrar, at: int = ASKED, receipt: str = "RPO-1") -> int:
    request = EnrolmentRequest(
        registry="rpo", numbers=(ONE, TWO, ONE), listed_by=moment(at), proof=receipt, channel="registry"
    )
    return (await registrar.consents.void(JOB, request)).voided


@pytest.mark.parametrize(("collected_at", "voided"), [(ASKED - 1, 1), (ASKED, 1), (ASKED + 1, 0)])
async def test_consents_up_to_the_answer_are_voided(
    registrar: Registrar, collected_at: int, voided: int
) -> None:
    await give(registrar, ONE, collected_at)
    assert await void(registrar) == voided
    assert (await consents(registrar, ONE))["c"].voided_at == (ASKED if voided else 0)


async def test_an_answer_from_a_clock_that_is_ahead_voids_the_consents_until_now(
    registrar: Registrar,
) -> None:
    now = registrar.access.clock()
    await give(registrar, ONE, ASKED)
    assert await void(registrar, now + DAY) == 1
    assert (await consents(registrar, ONE))["c"].voided_at == now


async def test_other_numbers_and_contracts_are_not_affected(registrar: Registrar) -> None:
    await give(registrar, ONE, ASKED)
    await give(registrar, OTHER, ASKED)
    contract = ContractRequest(number=TWO, id="k", starts=date(2026, 1, 1))
    await registrar.consents.record(JOB, contract)
    assert await void(registrar) == 1
    assert not (await consents(registrar, OTHER))["c"].voided_at


async def test_number_outside_todays_numbering_plan_is_voided_too(registrar: Registrar) -> None:
    """Numbers leave the plan with updates of `phonenumbers`. Their consents remain in the ledger."""
    gone = "+39999999"
    access = registrar.access
    await give(registrar, ONE, ASKED)
    given = (await access.store.history(access.keys.subject("acme", ONE)))[-1].event
    assert isinstance(given, ConsentGiven)
    ask = ConsentRequest(
        number=gone, id="c", collected_at=moment(ASKED), purposes=("sale",), goods=("broadband",), call_types=("agent",)
    )  # fmt: skip
    await access.append_all([access.draft(JOB, ask, "acme", gone, given, ASKED)])
    request = EnrolmentRequest(
        registry="rpo", numbers=(gone, ONE), listed_by=moment(ASKED), proof="r", channel="registry"
    )
    assert (await registrar.consents.void(JOB, request)).voided == 2
    assert (await consents(registrar, gone))["c"].voided_at == ASKED


async def test_voiding_is_recorded_once_with_its_receipt(registrar: Registrar) -> None:
    await give(registrar, ONE, ASKED)
    await give(registrar, ONE, ASKED - DAY, "d")
    assert [await void(registrar), await void(registrar)] == [1, 0]
    access = registrar.access
    newest = (await access.store.history(access.keys.subject("acme", ONE)))[-1]
    assert newest.event == ConsentsVoided(before=ASKED, registry="rpo", receipt="RPO-1")
    assert (newest.actor, newest.channel, newest.proof) == ("job", "registry", "RPO-1")
    assert access.keys.ledger.unseal(newest.sealed) == ONE
    await give(registrar, ONE, ASKED + 1, "e")  # a new consent, which a later enrolment voids too
    assert await void(registrar, ASKED + 1, "RPO-2") == 1
