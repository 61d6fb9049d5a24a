"""Tests of accounts: invitations, sign-in, codes that are valid once on both stores, and sessions."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, structs
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.core.model import HOUR, MINUTE, SECOND
from dialgate.core.refusal import Refused
from dialgate.people.account_directory import INVITED, AccountDirectory
from dialgate.people.credentials import RECOVERY_CODES, make_totp_secret
from dialgate.people.roles import ROLES
from dialgate.people.schemas import AccountRequest, AccountUpdate
from tests.support import redis_servers, world
from tests.support.people import HOME, OPERATOR, PASSWORD, Person, code_in, code_of, join


class Gate(Struct):
    app: App
    hand: world.Hand

    @property
    def people(self) -> AccountDirectory:
        return self.app.people

    async def join(self, name: str = "anna", *controllers: str) -> Person:
        return await join(self.people, self.hand.at, name, "officer", *controllers)

    async def sign_in(self, person: Person, *, code: str = "", **changes: Any) -> str:
        password = changes.pop("password", PASSWORD)
        browser = structs.replace(HOME, **changes)
        code = code or person.code(self.hand.at)
        return (await self.people.sign_in(person.name, password, code, browser)).session


# What two requests may do at once depends on the store; other tests use the embedded one.
BOTH_STORES = pytest.mark.parametrize("gate", ["sqlite", "redis"], indirect=True)


@pytest.fixture
async def gate(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Gate]:
    store: dict[str, Any] = {}
    if getattr(request, "param", "") == "redis":
        store = {"store": {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}}
    path = world.write_folder(tmp_path, **store)
    hand = world.Hand()
    app = await App.open(loader.load(path), registry=CollectorRegistry(), clock=hand)
    yield Gate(app, hand)
    await app.close()


async def refused(code: str, attempt: Any) -> None:
    with pytest.raises(Refused) as error:
        await attempt
    assert error.value.code == code


@BOTH_STORES
async def test_an_invitation_is_valid_once_and_for_72_hours(gate: Gate) -> None:
    invitation = await gate.people.add(
        OPERATOR, AccountRequest(name="anna", role="agent", controllers=("acme",))
    )
    name, code = code_in(invitation.link)
    secret = make_totp_secret()
    gate.hand.at += INVITED - 1
    right = (secret, code_of(secret, gate.hand.at))
    await refused("console.weak_password", gate.people.accept(name, code, "annaannaanna", right, HOME))
    for wrong in ((secret, "000000"), ("", "000000"), ("AAAA", "000000")):
        await refused("console.wrong_code", gate.people.accept(name, code, PASSWORD, wrong, HOME))
    await refused("console.not_invited", gate.people.accept(name, "guessed", PASSWORD, right, HOME))
    first, second = await asyncio.gather(
        *(gate.people.accept(name, code, PASSWORD, right, HOME) for _ in range(2)), return_exceptions=True
    )
    assert [isinstance(answer, Refused) for answer in (first, second)].count(True) == 1
    await refused("account.exists", gate.people.add(OPERATOR, AccountRequest(name="anna", role="auditor", controllers=("*",))))  # fmt: skip
    late = await gate.people.invite(OPERATOR, "anna")
    gate.hand.at += INVITED
    assert not await gate.people.is_invited(*code_in(late.link))


@BOTH_STORES
async def test_each_code_opens_one_session(gate: Gate) -> None:
    anna = await gate.join()
    await refused("console.wrong_sign_in", gate.sign_in(anna))  # the code that accepted the invitation
    gate.hand.at += 30 * SECOND
    attempts = await asyncio.gather(*(gate.sign_in(anna) for _ in range(2)), return_exceptions=True)
    assert sum(isinstance(attempt, str) for attempt in attempts) == 1
    recovery = anna.signed_in.recovery
    assert len({*recovery}) == RECOVERY_CODES
    assert await gate.sign_in(anna, code=recovery[0].upper())
    await refused("console.wrong_sign_in", gate.sign_in(anna, code=recovery[0]))
    assert (await gate.people.info("anna")).recovery_codes == RECOVERY_CODES - 1
    gate.hand.at += 30 * SECOND
    await refused("console.wrong_sign_in", gate.sign_in(anna, password=PASSWORD + "!"))


async def test_a_session_ends_after_its_time_without_use_and_on_each_change_of_the_account(
    gate: Gate,
) -> None:
    anna = await gate.join("anna", "acme")
    first = anna.signed_in.session
    client = await gate.people.find(first)
    assert client is not None
    assert (client.name, client.controllers, client.scopes) == ("person:anna", ("acme",), ROLES["officer"])
    assert client.actor("somebody else") == "person:anna"
    for _ in range(12):  # used each 59 minutes, it lasts 12 hours
        assert await gate.people.find(first)
        gate.hand.at += 59 * MINUTE
    assert await gate.people.find(first)
    gate.hand.at += 12 * MINUTE
    assert await gate.people.find(first) is None

    second = await gate.sign_in(anna)
    gate.hand.at += HOUR
    assert await gate.people.find(second) is None
    kept, ended = await gate.sign_in(anna), await gate.sign_in(anna, code=anna.signed_in.recovery[0])
    await refused("console.wrong_sign_in", gate.people.change_password(kept, "wrong", "a new password"))
    await gate.people.change_password(kept, PASSWORD, "a new password")
    assert (await gate.people.find(kept), await gate.people.find(ended)) == (client, None)
    await gate.people.update(OPERATOR, "anna", AccountUpdate(role="auditor", controllers=("*",)))
    assert (await gate.people.find(kept)) == structs.replace(client, scopes=ROLES["auditor"])
    (listed,) = (await gate.people.info("anna")).sessions
    await gate.people.end_sessions(OPERATOR, "anna", listed.id)
    assert await gate.people.find(kept) is None
    assert await gate.people.find("anna~guessed") is None


async def test_who_left_can_do_nothing_and_comes_back_with_a_new_invitation(gate: Gate) -> None:
    anna = await gate.join()
    await gate.people.update(OPERATOR, "anna", AccountUpdate(disabled=True))
    assert await gate.people.find(anna.signed_in.session) is None
    gate.hand.at += MINUTE
    await refused("console.wrong_sign_in", gate.sign_in(anna))
    await refused("console.wrong_sign_in", gate.sign_in(anna, code=anna.signed_in.recovery[0]))
    invitation = await gate.people.invite(OPERATOR, "anna")
    secret = make_totp_secret()
    code = code_of(secret, gate.hand.at)
    await gate.people.accept(*code_in(invitation.link), PASSWORD, (secret, code), HOME)
    gate.hand.at += MINUTE
    assert await gate.sign_in(Person("anna", secret, anna.signed_in))
    assert [info.state for info in await gate.people.infos()] == ["active"]


async def test_nobody_changes_their_own_role_or_unknown_controllers(gate: Gate) -> None:
    await gate.join()
    own = structs.replace(OPERATOR, name="person:anna")
    await refused("account.own", gate.people.update(own, "anna", AccountUpdate(role="operator")))
    await refused("account.own", gate.people.invite(own, "anna"))
    await refused("controller.unknown", gate.people.update(OPERATOR, "anna", AccountUpdate(controllers=("nobody",))))  # fmt: skip
    await refused("account.unknown", gate.people.update(OPERATOR, "berta", AccountUpdate(role="agent")))


async def test_keys_open_the_console_until_the_first_person_accepts_an_invitation(gate: Gate) -> None:
    invitation = await gate.people.add(
        OPERATOR, AccountRequest(name="anna", role="operator", controllers=("*",))
    )
    assert not await gate.people.has_person()
    secret = make_totp_secret()
    right = (secret, code_of(secret, gate.hand.at))
    await gate.people.accept(*code_in(invitation.link), PASSWORD, right, HOME)
    await gate.people.update(OPERATOR, "anna", AccountUpdate(disabled=True))
    restarted = AccountDirectory(
        gate.app._store, gate.app._upkeep.gatherer.keys, gate.hand, lambda: gate.app.config
    )
    assert await restarted.has_person()
    restarted.close()


async def test_guessing_at_one_address_locks_out_neither_other_addresses_nor_a_known_browser(
    gate: Gate,
) -> None:
    anna = await gate.join()
    gate.hand.at += MINUTE
    attacker = structs.replace(HOME, address="203.0.113.7", device="forged.device")
    limits = gate.people._limits
    for _ in range(10):
        limits.begin("anna", attacker.address, "")
    await refused("console.throttled", gate.people.sign_in("anna", "guess", "000000", attacker))
    await refused("console.throttled", gate.sign_in(anna, address=attacker.address))
    assert await gate.sign_in(anna, address=attacker.address, device=anna.signed_in.device)
    gate.hand.at += MINUTE
    assert await gate.sign_in(anna)
    await refused("console.wrong_sign_in", gate.people.sign_in("a" * 1_000_000, "guess", "000000", HOME))
    assert max(len(part) for key in limits._failures for part in key) < 100
    other = await gate.join("berta")
    gate.hand.at += MINUTE
    await refused("console.throttled", gate.sign_in(anna, address=attacker.address, device=other.signed_in.device))  # fmt: skip
