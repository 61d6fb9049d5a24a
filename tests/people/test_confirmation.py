"""Histories of accounts that count, or do not, where two people must act: invited, accepted, confirmed, invited again, restored."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, structs
from prometheus_client import CollectorRegistry

from dialgate.app import App
from dialgate.config import loader
from dialgate.config.clients import Client
from dialgate.core.refusal import Refused
from dialgate.people.account_directory import AccountDirectory
from dialgate.people.openid_claims import OpenIdPerson
from dialgate.people.schemas import AccountUpdate
from dialgate.store.accounts import PersonAccount
from tests.support import redis_servers, world
from tests.support.people import HOME, OPERATOR, Person, accept, join

KEY = Client(name="root", controllers=("acme",), scopes=("admin",))
AT_PROVIDER = OpenIdPerson(
    name="oda", identity=("https://login.example", "7"), role="officer", controllers=("*",)
)


def client(name: str) -> Client:
    return Client(name=f"person:{name}", controllers=("acme",), scopes=("admin",))


class Gate(Struct):
    """One gate, and the accounts as another gate on the same store sees them."""

    app: App
    hand: world.Hand
    other: AccountDirectory

    @property
    def people(self) -> AccountDirectory:
        return self.app.people

    async def join(self, name: str, by: Client) -> Person:
        return await join(self.people, self.hand.at, name, "operator", "*", by=by)

    async def invite_and_accept(self, name: str, by: Client) -> None:
        await accept(self.people, self.hand.at, (await self.people.invite(by, name)).link)

    async def counted(self, *names: str) -> str:
        """Return which of the accounts count, on either gate."""
        here = [name for name in names if await self.people.is_person(client(name))]
        assert here == [name for name in names if await self.other.is_person(client(name))]
        assert here == [name for name in names if (await self.other.info(name)).confirmed]
        return " ".join(here)


@pytest.fixture(params=["sqlite", "redis"])
async def gate(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Gate]:
    store = {"store": {"url": redis_servers.alone(), "name": tmp_path.name, "patience": 5}}
    path = world.write_folder(tmp_path, **(store if request.param == "redis" else {}))
    hand = world.Hand()
    app = await App.open(loader.load(path), registry=CollectorRegistry(), clock=hand)
    other = AccountDirectory(app._store, app._upkeep.gatherer.keys, hand, lambda: app.config)
    yield Gate(app, hand, other)
    other.close()
    await app.close()


async def refused(code: str, attempt: Any) -> None:
    with pytest.raises(Refused) as error:
        await attempt
    assert error.value.code == code


async def test_one_operator_alone_makes_no_second_person(gate: Gate) -> None:
    """Xavier, the first operator, tries each way to act as two people."""
    await gate.join("xavier", OPERATOR)
    xavier = client("xavier")
    assert await gate.counted("xavier") == "xavier"
    await gate.join("yara", xavier)  # in truth xavier, who has the link
    await refused("account.second_person", gate.people.confirm(xavier, "yara"))
    await refused("account.second_person", gate.people.confirm(client("yara"), "yara"))
    await gate.join("zoe", client("yara"))
    await refused("account.second_person", gate.people.confirm(client("yara"), "zoe"))
    await gate.people.confirm(xavier, "zoe")
    await refused("account.second_person", gate.people.confirm(xavier, "zoe"))
    await gate.join("kay", KEY)
    await refused("account.second_person", gate.people.confirm(KEY, "kay"))
    await gate.people.confirm(xavier, "kay")
    await refused("account.second_person", gate.people.confirm(client("zoe"), "kay"))
    await gate.people.update(xavier, "kay", AccountUpdate(role="officer"))
    assert await gate.counted("xavier", "yara", "zoe", "kay") == "xavier"
    assert not await gate.people.is_person(KEY)
    assert not await gate.people.is_person(client("nobody"))
    await gate.people.confirm(OPERATOR, "yara")  # on the gate's machine
    assert await gate.counted("xavier", "yara", "zoe", "kay") == "xavier yara"
    await gate.people.confirm(client("yara"), "zoe")  # now yara answers for herself
    assert await gate.counted("xavier", "yara", "zoe", "kay") == "xavier yara zoe"


async def test_a_new_invitation_takes_the_confirmation_away(gate: Gate) -> None:
    for name in ("xavier", "quinn"):
        await gate.join(name, OPERATOR)
    xavier, quinn = client("xavier"), client("quinn")
    await refused("account.unknown", gate.people.confirm(quinn, "anna"))
    await gate.join("anna", xavier)
    assert (await gate.people.confirm(quinn, "anna")).confirmed_by == ("person:xavier", "person:quinn")
    assert (await gate.people.confirm(xavier, "quinn")).confirmed_by == (OPERATOR.name,)  # was confirmed
    assert (await gate.people.confirm(quinn, "anna")).confirmed  # a second click changes nothing
    assert await gate.counted("anna") == "anna"

    link = (await gate.people.invite(xavier, "anna")).link
    await refused("account.not_active", gate.people.confirm(quinn, "anna"))  # the link is with xavier
    await accept(gate.people, gate.hand.at, link)
    assert await gate.counted("anna") == ""
    await refused("account.second_person", gate.people.confirm(xavier, "anna"))
    await gate.people.confirm(quinn, "anna")
    await gate.people.update(xavier, "anna", AccountUpdate(disabled=True))
    await refused("account.not_active", gate.people.confirm(quinn, "anna"))
    await gate.invite_and_accept("anna", quinn)
    assert await gate.counted("anna") == ""
    await asyncio.gather(gate.people.confirm(xavier, "anna"), gate.other.confirm(xavier, "anna"))
    assert (await gate.people.info("anna")).confirmed_by == ("person:quinn", "person:xavier")

    # Xavier takes the accounts of all others over. Only somebody on the gate's machine is left.
    for name in ("anna", "quinn"):
        await gate.invite_and_accept(name, xavier)
    for by, name in ((quinn, "anna"), (client("anna"), "quinn")):
        await refused("account.second_person", gate.people.confirm(by, name))
    assert await gate.counted("xavier", "quinn", "anna") == "xavier"
    await gate.invite_and_accept("quinn", OPERATOR)
    assert await gate.counted("xavier", "quinn", "anna") == "xavier quinn"


async def test_an_older_copy_of_the_store_brings_its_passwords_and_its_confirmations_back(gate: Gate) -> None:
    for name in ("xavier", "quinn"):
        await gate.join(name, OPERATOR)
    anna = await gate.join("anna", client("xavier"))
    await gate.people.confirm(client("quinn"), "anna")
    older = await gate.app._store.account("anna")
    assert older is not None
    await gate.invite_and_accept("anna", client("xavier"))
    assert await gate.people.find(anna.signed_in.session) is None
    await gate.app._store.change_account("anna", lambda _: older)
    assert await gate.counted("anna") == "anna"
    assert await gate.people.find(anna.signed_in.session)  # of anna herself: xavier's password is gone, too


async def test_accounts_of_a_provider_and_of_older_versions_count_until_they_are_invited(gate: Gate) -> None:
    for name in ("xavier", "quinn"):
        await gate.join(name, OPERATOR)
    await gate.people.sign_in_elsewhere(AT_PROVIDER, HOME)
    earlier = await gate.join("eva", KEY)
    await gate.app._store.change_account("eva", _as_older_versions_stored)
    assert await gate.counted("oda", "eva") == "oda eva"
    for name in ("oda", "eva"):
        await gate.invite_and_accept(name, client("xavier"))
    assert await gate.counted("oda", "eva") == ""
    assert await gate.people.find(earlier.signed_in.session) is None

    oda = await gate.people.sign_in_elsewhere(
        AT_PROVIDER, HOME
    )  # who does not see that xavier has a password
    await gate.people.confirm(client("quinn"), "oda")
    stored = await gate.app._store.account("oda")
    assert stored is not None
    assert (stored.password, stored.sessions, await gate.people.find(oda.session)) == ("", (), None)
    await gate.people.sign_in_elsewhere(AT_PROVIDER, HOME)
    assert await gate.counted("oda", "eva") == "oda"


def _as_older_versions_stored(account: PersonAccount | None) -> PersonAccount | None:
    return account and structs.replace(account, confirmed_by=None)
