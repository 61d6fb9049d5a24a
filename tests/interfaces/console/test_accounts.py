"""Accounts at the console over HTTP: invitation, sign-in, sessions, and the name in records."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar
from msgspec import structs

from dialgate.core.model import MINUTE
from dialgate.interfaces.console import routes
from dialgate.people.roles import ROLES
from tests.support.console_world import AGENT, NUMBERS, running_console
from tests.support.people import HOME, OPERATOR, PASSWORD, accept, code_in, code_of, join
from tests.support.world import CLEAR, World

BROWSER = {"Sec-Fetch-Site": "same-origin", "User-Agent": "Firefox on a desk"}


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with running_console(tmp_path) as built:
        yield built


@pytest.fixture
async def session(gate: World) -> AsyncIterator[ClientSession]:
    url = f"http://127.0.0.1:{gate.port}"
    async with ClientSession(url, cookie_jar=CookieJar(unsafe=True), headers=BROWSER) as session:
        yield session


async def get(session: ClientSession, path: str, status: int = 200) -> str:
    async with session.get(path, allow_redirects=False) as answer:
        assert answer.status == status, (path, answer.status)
        return await answer.text()


async def send(browser: ClientSession, path: str, status: int, **fields: str) -> str:
    async with browser.post(path, data=fields, allow_redirects=False) as answer:
        assert answer.status == status, (path, answer.status, await answer.text())
        return await answer.text()


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page)
    assert found, page
    return found[1]


async def enter(gate: World, session: ClientSession, name: str, role: str, *controllers: str) -> str:
    """Accept an invitation in the browser and return the token of the forms."""
    words = [part for controller in controllers for part in ("--controller", controller)]
    printed = await gate.output("account", "add", name, "--role", role, *words)
    link = re.search(r"/console/invitation/\S+", printed)
    assert link, printed
    page = await get(session, link[0])
    secret = field(page, "secret")
    assert f"<code>{secret}</code>" in page
    right = {"secret": secret, "code": code_of(secret, gate.hand()), "password": PASSWORD, "again": PASSWORD}
    assert "console.passwords_differ" in await send(session, link[0], 400, **right | {"again": "another"})
    codes = await send(session, link[0], 200, **right)
    assert len(re.findall(r"<li><code>[a-z2-7]{4}(-[a-z2-7]{4}){3}</code>", codes)) == 10
    assert "console.not_invited" in await get(session, link[0], 410)
    return field(await get(session, "/console/account"), "token")


async def test_what_a_person_does_is_recorded_under_their_name(gate: World, session: ClientSession) -> None:
    assert "login.key" not in await get(session, "/console/login")
    token = await enter(gate, session, "anna.rossi", "officer", "acme")
    number = NUMBERS[0]
    await send(
        session, "/console/revoke", 201, token=token, number=number, actor="somebody else", proof="a letter"
    )
    await send(session, "/console/lookup", 200, token=token, number=number, purpose="a letter of today")
    history = await gate.get(f"/v1/revocations?number={number.replace('+', '%2B')}&purpose=audit")
    assert [entry["actor"] for entry in history["entries"]] == ["person:anna.rossi"]
    report = f"/v1/subjects/{number}"
    data = await gate.get(f"{report}?purpose=audit")
    assert {lookup["client"] for lookup in data["lookups"]} == {"person:anna.rossi", "tests"}
    async with gate.client.get(report, params={"purpose": "audit", "language": "en"}) as answer:
        page = await answer.text()
    assert "anna.rossi" not in page


async def test_keys_no_longer_open_the_console_and_people_sign_in_and_out(
    gate: World, session: ClientSession
) -> None:
    await send(session, "/console/login", 303, key=AGENT)
    await get(session, "/console/try")
    anna = await join(gate.app.people, gate.hand(), "anna", "supervisor", "acme")
    await get(session, "/console/try", 303)
    assert "console.people_only" in await send(session, "/console/login", 403, key=AGENT)
    assert 'name="key"' not in await get(session, "/console/login")

    gate.hand.at += MINUTE
    right = {"name": " Anna", "password": PASSWORD, "code": anna.code(gate.hand()), "next": "/console/law"}
    async with session.post("/console/login", data=right, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/console/law")
        cookies = answer.headers.getall("Set-Cookie")
        assert len(cookies) == 2
        for cookie in cookies:
            assert {"HttpOnly", "SameSite=Strict", "Path=/console"} <= {*cookie.split("; ")}
    assert "console.wrong_sign_in" in await send(session, "/console/login", 401, **right)
    page = await get(session, "/console/account")
    assert "Firefox on a desk" in page
    assert "console.forged" in await send(session, "/console/logout", 403, token="guessed")
    await send(session, "/console/logout", 303, token=field(page, "token"))
    assert (await gate.app.people.info("anna")).sessions[0].browser == HOME.agent
    await get(session, "/console/account", 303)


async def test_one_ends_ones_own_sessions_and_changes_ones_password(
    gate: World, session: ClientSession
) -> None:
    token = await enter(gate, session, "anna", "agent", "acme")
    gate.hand.at += MINUTE
    assert "console.wrong_sign_in" in await send(
        session, "/console/account", 401, token=token, current="wrong", password="x" * 12, again="x" * 12
    )
    assert "console.weak_password" in await send(
        session, "/console/account", 400, token=token, current=PASSWORD, password="x" * 12, again="x" * 12
    )
    again = "a better password"
    await send(session, "/console/account", 200, token=token, current=PASSWORD, password=again, again=again)
    page = await get(session, "/console/account")
    own = re.search(r'name="session" value="(\w+)"', page)
    assert own
    await send(session, "/console/account", 303, token=token, session=own[1])
    await get(session, "/console/account", 303)


async def test_an_operator_adds_changes_and_disables_people(gate: World, session: ClientSession) -> None:
    token = await enter(gate, session, "root", "operator", "*")
    fields = {"token": token, "name": "anna", "role": "officer", "controllers": "acme beta"}
    page = await send(session, "/console/accounts", 201, **fields)
    link = re.search(r"/console/invitation/[\w~./-]+", page)
    assert link
    assert await gate.app.people.is_invited(*code_in(link[0]))
    assert "account.exists" in await send(session, "/console/accounts", 409, **fields)
    await send(session, "/console/accounts/anna", 303, token=token, role="auditor", controllers="acme")
    changed = await gate.app.people.info("anna")
    assert (changed.role, changed.controllers) == ("auditor", ("acme",))
    await send(session, "/console/accounts/anna", 201, token=token, do="invite")
    assert not await gate.app.people.is_invited(*code_in(link[0]))
    await send(session, "/console/accounts/anna", 303, token=token, do="disable")
    listed = await gate.output("account", "list")
    assert re.search(r"anna .*auditor .*disabled", listed)
    assert "account.own" in await send(session, "/console/accounts/root", 403, token=token, do="disable")


async def test_another_operator_confirms_whom_one_has_invited(gate: World, session: ClientSession) -> None:
    token = await enter(gate, session, "root", "operator", "*")
    fields = {"token": token, "name": "anna", "role": "officer", "controllers": "*"}
    page = await send(session, "/console/accounts", 201, **fields)
    link = re.search(r"/console/invitation/[\w~./-]+", page)
    assert link
    assert 'value="confirm"' not in page
    await accept(gate.app.people, gate.hand(), link[0])
    page = await get(session, "/console/accounts")
    assert ("Not confirmed" in page, 'value="confirm"' in page) == (True, False)
    assert "account.second_person" in await send(
        session, "/console/accounts/anna", 403, token=token, do="confirm"
    )

    session.cookie_jar.clear()
    token = await enter(gate, session, "quinn", "operator", "*")
    assert 'value="confirm"' in await get(session, "/console/accounts")
    await send(session, "/console/accounts/anna", 303, token=token, do="confirm")
    assert 'value="confirm"' not in await get(session, "/console/accounts")
    assert (await gate.app.people.info("anna")).confirmed_by == ("person:root", "person:quinn")


async def test_commands_change_end_and_invite(gate: World) -> None:
    anna = await join(gate.app.people, gate.hand(), "anna", "agent")
    assert "supervisor" in await gate.output("account", "change", "anna", "--role", "supervisor")
    await gate.output("account", "end", "anna")
    assert await gate.app.people.find(anna.signed_in.session) is None
    assert "valid once" in await gate.output("account", "invite", "anna")
    assert "disabled" in await gate.output("account", "disable", "anna")
    assert "account.unknown" in await gate.output("account", "disable", "berta", code=2)


async def test_an_auditor_sees_the_pages_of_others_without_their_forms(
    gate: World, session: ClientSession
) -> None:
    token = await enter(gate, session, "audit", "auditor", "*")
    for path in (
        "lists",
        "requests",
        "accounts",
        "keys",
        "campaigns",
        "campaigns/acme-fibre",
        "changes",
        "lookup",
    ):
        page = await get(session, f"/console/{path}")
        assert ('method="post" action="/console/' + path in page) is (path in {"changes", "lookup"})
    for route in routes._ROUTES:
        if route.method == "POST" and route.needs and not {*route.needs} & {*ROLES["auditor"]}:
            status = 400 if route.is_form_read else 403
            await send(session, route.path.replace("{id}", "x"), status, token=token, number=CLEAR, days="no")


async def test_a_board_goes_on_without_the_store_and_ends_with_the_session(
    gate: World, session: ClientSession
) -> None:
    for is_stored in (True, False):
        person = await join(gate.app.people, gate.hand(), f"anna-{is_stored}".lower(), "supervisor")
        cookie = {"dialgate-console": person.signed_in.session}
        async with session.get("/console/events", cookies=cookie) as stream:
            assert (await stream.content.readline()).startswith(b"data: ")
            if is_stored:
                await gate.app.people.end_sessions(OPERATOR, person.name)
                assert b"event: ended" in await stream.content.read()
            else:
                await gate.app._store.close()
                lines = [await stream.content.readline() for _ in range(4)]
                assert [line[:6] for line in lines] == [b"\n", b"data: ", b"\n", b"data: "]


async def test_a_person_whose_controllers_left_the_configuration_sees_no_data(
    gate: World, session: ClientSession
) -> None:
    anna = await join(gate.app.people, gate.hand(), "anna", "officer", "beta")
    config = gate.app.config
    former = structs.replace(config.settings, former_controllers=("beta",))
    gate.app.reload(
        structs.replace(config, settings=former, controllers={"acme": config.controllers["acme"]})
    )
    statuses = []
    for path in ("account", "records-of-processing", "reports/view", "history"):
        cookies = {"dialgate-console": anna.signed_in.session}
        async with session.get(f"/console/{path}", cookies=cookies, allow_redirects=False) as answer:
            statuses.append(answer.status)
    assert statuses == [200, 403, 403, 403]
