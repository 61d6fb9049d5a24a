"""The console over HTTP: sign-in, protection against other sites, and data that pages must not show."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Any, get_args
from urllib.parse import quote

import msgspec
import pytest
from aiohttp import ClientSession, CookieJar, FormData
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from dialgate.config import loader
from dialgate.config.listeners import Listen
from dialgate.core.model import HOUR, SECOND, Kind, Severity
from dialgate.core.reasons import REASONS
from dialgate.core.request_deadlines import KINDS
from dialgate.crypto.masking import mask_number
from dialgate.gate.upkeep import COMPONENTS
from dialgate.interfaces import http_application
from dialgate.interfaces.console import rendering, routes, words
from dialgate.interfaces.console.calls import CHANNELS
from dialgate.interfaces.console.live import Live, quantile
from dialgate.interfaces.console.sessions import FAILURES, IDLE, LONGEST, OF_ONE, SPAN
from dialgate.interfaces.http.error_codes import CODES
from dialgate.observability.metrics import Calls
from dialgate.texts import Language
from tests.subjects.test_consent_proofs import FORM, SHA256, record, stored, upload
from tests.support import world, yaml_files
from tests.support.console_world import (
    ADMINISTRATOR,
    AGENT,
    MARKUP,
    NUMBERS,
    OFFICER,
    STRANGER,
    SUPERVISOR,
    check,
    pause,
    running_console,
)
from tests.support.console_world import clients as console_clients
from tests.support.damage import flip
from tests.support.world import CALLER, CLEAR, LISTED, World

ROUTES = [(route.method, route.path, route.needs) for route in routes._ROUTES]
OWN = "/console/account"  # of a person: a key has none
PAGES = [
    path
    for method, path, _ in ROUTES
    if method == "GET" and not re.search(r"{|events|\.csv", path) and path != OWN
]
WHOLE_GATE = {route.path for route in routes._ROUTES if route.whole_gate}
HOME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[World]:
    async with running_console(tmp_path) as built:
        yield built


@asynccontextmanager
async def browser(gate: World, key: str = "") -> AsyncIterator[ClientSession]:
    """Open a session that keeps cookies like a browser; sign in if a key is given."""
    url = f"http://127.0.0.1:{gate.port}"
    async with ClientSession(url, cookie_jar=CookieJar(unsafe=True), headers=HOME) as session:
        if key:
            async with session.post("/console/login", data={"key": key}) as answer:
                assert answer.status == 200, answer.url
        yield session


async def get(session: ClientSession, path: str, status: int = 200) -> str:
    async with session.get(path, allow_redirects=False) as answer:
        assert answer.status == status, (path, answer.status)
        return await answer.text()


async def token(session: ClientSession, path: str = "/console/caller-ids") -> str:
    found = re.search(r'name="token" value="([^"]+)"', await get(session, path))
    assert found
    return found[1]


async def send(session: ClientSession, path: str, status: int, **fields: str) -> str:
    if "token" not in fields:
        fields["token"] = await token(session, "/console/try")
    async with session.post(path, data=fields, allow_redirects=False) as answer:
        assert answer.status == status, (path, answer.status, await answer.text())
        return await answer.text()


async def messages(session: ClientSession, wanted: int) -> list[dict[str, Any]]:
    received = []
    async with session.get("/console/events") as stream:
        assert stream.status == 200
        async for line in stream.content:
            if line.startswith(b"data: "):
                received.append(json.loads(line[6:]))
            if len(received) == wanted:
                break
    return received


# ---- sign-in and sign-out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("proto", "secure"), [("", False), ("https", True)])
async def test_scripts_and_other_sites_cannot_use_the_session_cookie(
    gate: World, proto: str, secure: bool
) -> None:
    async with (
        browser(gate) as session,
        session.post(
            "/console/login", data={"key": AGENT}, headers={"X-Forwarded-Proto": proto}, allow_redirects=False
        ) as answer,
    ):
        assert (answer.status, answer.headers["Location"]) == (303, "/console")
        cookie = answer.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age=43200"} <= set(cookie.split("; "))
        assert ("Secure" in cookie.split("; ")) is secure
        assert AGENT not in cookie


async def test_over_tls_the_session_cookie_is_secure(gate: World, tmp_path: Path) -> None:
    config = gate.app.config
    listen = msgspec.convert({"port": 0, **world.write_certificate(tmp_path)}, Listen)
    gate.app.gate.config = replace(config, settings=replace(config.settings, listen=listen))
    runner = await http_application.start(gate.app, CollectorRegistry())
    try:
        async with (
            ClientSession(f"https://127.0.0.1:{runner.addresses[0][1]}", headers=HOME) as session,
            session.post("/console/login", data={"key": AGENT}, ssl=False, allow_redirects=False) as answer,
        ):
            assert "Secure" in answer.headers["Set-Cookie"].split("; ")
    finally:
        await runner.cleanup()


async def log_in(session: ClientSession, key: str, forwarded: str = "") -> int:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    data = {"key": key}
    async with session.post("/console/login", data=data, headers=headers, allow_redirects=False) as answer:
        if answer.status == 429:
            assert 0 < int(answer.headers["Retry-After"]) <= SPAN // SECOND
        return answer.status


async def test_wrong_keys_are_throttled_for_a_time_but_a_valid_key_is_not(gate: World) -> None:
    async with browser(gate) as session:
        for _ in range(FAILURES):
            assert await log_in(session, "guessed") == 401
        assert await log_in(session, "guessed") == 429
        assert await log_in(session, AGENT) == 303
        for _ in range(FAILURES):  # the sign-in has cleared the count
            assert await log_in(session, "guessed") == 401
        assert await log_in(session, "guessed") == 429
        gate.hand.at += SPAN
        assert await log_in(session, "guessed") == 401


async def test_behind_a_trusted_proxy_each_address_is_throttled_separately(tmp_path: Path) -> None:
    listen = {"host": "127.0.0.1", "port": 0, "trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}
    async with running_console(tmp_path, listen=listen) as gate, browser(gate) as session:
        for _ in range(FAILURES):
            assert await log_in(session, "guessed", "1.2.3.4, 198.51.100.7, 10.0.0.1") == 401
        assert await log_in(session, "guessed", "5.6.7.8, 198.51.100.7") == 429, "the first address is forged"
        assert await log_in(session, "guessed", "198.51.100.8") == 401


async def test_a_forwarded_address_from_an_untrusted_client_is_ignored(gate: World) -> None:
    async with browser(gate) as session:
        for place in range(FAILURES):
            assert await log_in(session, "guessed", f"198.51.100.{place}") == 401
        assert await log_in(session, "guessed", "198.51.100.99") == 429


ONWARD = {
    "/console/lists": "/console/lists",
    "/console/decisions/0123abcd-1": "/console/decisions/0123abcd-1",
    "/console/campaigns/acme-fibre": "/console/campaigns/acme-fibre",
    "/console/campaigns/acme-fibre/lift": "/console",
    "/console/requests/5f0c2a9be41d7703": "/console/requests/5f0c2a9be41d7703",
    "/console/campaigns/\r\nX: y": "/console",
    "//evil.example/": "/console",
    "https://evil.example/": "/console",
    "/console/../v1": "/console",
    "/console/decisions/../../v1": "/console",
    "/console/decisions/\r\nX: y": "/console",
}


async def test_a_sign_in_redirects_only_to_pages_of_the_console(gate: World) -> None:
    async with browser(gate) as session:
        for onward, taken in ONWARD.items():
            fields = {"key": OFFICER, "next": onward}
            async with session.post("/console/login", data=fields, allow_redirects=False) as answer:
                assert answer.headers["Location"] == taken, onward


async def test_without_a_session_every_page_leads_to_the_sign_in(gate: World) -> None:
    """A form, such as an opt-out, is not lost without a word: the answer says that nothing was recorded."""
    async with browser(gate) as session:
        for method, path, _ in ROUTES:
            where = path.replace("{id}", "x").replace("{sha256}", "x")
            async with session.request(method, where, allow_redirects=False) as answer:
                if method == "POST" and path != "/console/logout":
                    assert answer.status == 403, path
                    assert "nothing was recorded" in await answer.text()
                else:
                    assert answer.status == 303, path
                    assert answer.headers["Location"].startswith("/console/login")


async def test_an_opt_out_after_the_session_ended_can_be_entered_again(gate: World) -> None:
    async with browser(gate, AGENT) as session:
        await send(session, "/console/logout", 303)
        shown = await send(session, "/console/revoke", 403, token="old", number=CLEAR)
        assert 'name="next" value="/console/revoke"' in shown
        fields = {"key": AGENT, "next": "/console/revoke"}
        async with session.post("/console/login", data=fields, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/console/revoke")


async def test_an_unknown_page_gets_404_in_the_console(gate: World) -> None:
    async with browser(gate, AGENT) as session:
        assert "This page does not exist." in await get(session, "/console/nothing", 404)
        assert "This page does not exist." in await get(session, "/console/requests/x/y", 404)


@pytest.mark.parametrize("key", [AGENT, SUPERVISOR])
async def test_a_key_gives_access_to_the_pages_of_its_scopes_only(gate: World, key: str) -> None:
    client = gate.app.config.keys[world.client("", key)["key_sha256"]]
    async with browser(gate, key) as session:
        own_token = await token(session, "/console/try")
        allowed = {route for route in ROUTES if set(route[2]) & set(client.scopes)}
        opened = {("GET", path) for method, path, _ in allowed if method == "GET" and path in PAGES}
        assert opened
        for _, path in opened:
            await get(session, path)
        forbidden = set(ROUTES) - allowed
        assert forbidden
        for method, path, _ in forbidden:
            data = {"token": own_token} if method == "POST" else None
            where = path.replace("{id}", "x").replace("{sha256}", "x")
            async with session.request(method, where, data=data) as answer:
                assert answer.status == 403, path
                assert "auth.scope" in await answer.text()


@pytest.mark.parametrize(("ahead", "still"), [(IDLE - 10 * SECOND, True), (IDLE, False)])
async def test_an_idle_session_ends(gate: World, ahead: int, still: bool) -> None:
    async with browser(gate, AGENT) as session:
        gate.hand.at += ahead
        await get(session, "/console/try", 200 if still else 303)


async def test_a_session_ends_after_twelve_hours_of_use(gate: World) -> None:
    async with browser(gate, AGENT) as session:
        for _ in range(LONGEST // (IDLE // 2) - 1):
            gate.hand.at += IDLE // 2
            await get(session, "/console/try")
        gate.hand.at += IDLE // 2
        await get(session, "/console/try", 303)


async def test_after_sign_out_the_old_cookie_is_invalid(gate: World) -> None:
    async with browser(gate, AGENT) as session:
        cookies = {cookie.key: cookie.value for cookie in session.cookie_jar}
        await send(session, "/console/logout", 303)
        await get(session, "/console/try", 303)
        async with session.get("/console/try", cookies=cookies, allow_redirects=False) as answer:
            assert answer.status == 303


async def test_a_withdrawn_key_ends_its_sessions(gate: World) -> None:
    async with browser(gate, AGENT) as session:
        await get(session, "/console/try")
        path = gate.folder / "dialgate.yaml"
        written = yaml_files.read(path)
        written["clients"] = [client for client in written["clients"] if client["name"] != "agent-7"]
        yaml_files.write(path, written)
        gate.app.reload(loader.load(path))
        await get(session, "/console/try", 303)


async def test_too_many_sessions_of_a_client_end_only_its_own(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as other, browser(gate, AGENT) as first, browser(gate) as again:
        for _ in range(OF_ONE):
            gate.hand.at += 1
            async with again.post("/console/login", data={"key": AGENT}, allow_redirects=False) as answer:
                assert answer.status == 303
        await get(other, "/console/try")
        await get(again, "/console/try")
        await get(first, "/console/try", 303)


# ---- other sites -----------------------------------------------------------------------------------------------------


async def test_a_write_needs_the_token_of_its_own_session(gate: World) -> None:
    fields = {"number": CLEAR, "to": CLEAR, "from": CALLER, "campaign": "acme-fibre", "purpose": "a letter"}
    decision_id = (await check(gate, LISTED))["decision_id"]
    writes = [path for method, path, _ in ROUTES if method == "POST"]
    async with browser(gate, ADMINISTRATOR) as session, browser(gate, ADMINISTRATOR) as other:
        for path, wrong in product(writes, ("", "guessed", await token(other))):
            body = FormData({**fields, "token": wrong})
            if path == "/console/lists" or path.endswith("/attachments"):
                body.add_field("file", b"+390612345678\n", filename="list.csv")
            where = path.replace("{id}", decision_id if "evidence" in path else "rome")
            async with session.post(where, data=body) as answer:
                text = await answer.text()
                assert answer.status == 403, path
                assert "console.forged" in text
    async with gate.client.get("/v1/revocations", params={"number": CLEAR, "purpose": "to look"}) as answer:
        assert (await answer.json())["entries"] == []


FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "", "Origin": "null"},
]


async def test_a_form_from_another_site_is_rejected_even_with_the_token(gate: World) -> None:
    async with browser(gate, AGENT) as session:
        fields = {"number": CLEAR, "token": await token(session, "/console/try")}
        paths = ("/console/revoke", "/console/login", "/console/logout", "/console/preferences")
        for headers, path in product(FOREIGN, paths):
            async with session.post(path, data=fields, headers=headers) as answer:
                assert answer.status == 403, path
        await send(session, "/console/revoke", 201, number=CLEAR)


async def test_every_page_loads_only_own_files_and_contains_no_script(gate: World) -> None:
    async with browser(gate, ADMINISTRATOR) as session:
        decision_id = (await check(gate, LISTED))["decision_id"]
        pages = [path for path in PAGES if path != "/console/reports/view"]  # a document with its own styles
        for path in ("/console/login", *pages, f"/console/decisions/{decision_id}"):
            async with session.get(path) as answer:
                text = await answer.text()
                assert answer.status == 200, path
                assert answer.headers["Content-Security-Policy"] == rendering.POLICY
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", text), path
            targets = re.findall(r'(?:src|href|action)="([^"]*)"', text)
            assert "/console/logout" in targets or path == "/console/login"
            for target in targets:
                assert target.startswith(("/console", "#")), target


async def test_an_asset_is_revalidated_by_its_tag(gate: World) -> None:
    async with browser(gate) as session:
        assert {Path(name).suffix for name in rendering.assets()} >= {".css", ".js"}
        for name, asset in rendering.assets().items():
            async with session.get(f"/console/assets/{name}") as answer:
                assert (answer.status, await answer.read()) == (200, asset.body)
            async with session.get(f"/console/assets/{name}", headers={"If-None-Match": asset.tag}) as answer:
                assert answer.status == 304
        await get(session, "/console/assets/..%2f__init__.py", 404)


# ---- data that pages must not show -----------------------------------------------------------------------------------


async def test_markup_in_entered_data_is_escaped(gate: World) -> None:
    body = {
        **world.LIST,
        "id": "marked",
        "origin": "public_directory",
        "collected_by": MARKUP,
        "source": MARKUP,
        "actor": MARKUP,
    }
    await gate.post("/v1/lists", body)
    await gate.post(
        "/v1/revocations", {"number": LISTED, "proof": MARKUP, "actor": MARKUP, "channel": MARKUP}
    )
    case = {"kind": "access", "identified": MARKUP, "channel": MARKUP}
    await gate.post(f"/v1/subjects/{LISTED}/requests", case)
    async with browser(gate, ADMINISTRATOR) as session:
        pages = [await get(session, path) for path in PAGES]
        pages.append(
            await send(session, "/console/try", 200, to=MARKUP, campaign="acme-fibre", **{"from": MARKUP})
        )
        fields = {"number": LISTED, "purpose": MARKUP, "controller": "acme"}
        pages.append(await send(session, "/console/lookup", 200, **fields))
        async with session.get("/console/login", params={"next": f'"{MARKUP}'}) as answer:
            pages.append(await answer.text())
        assert all("<img src=x" not in text for text in pages)
        assert sum("&lt;img src=x" in text for text in pages) >= 4


async def test_board_and_decision_page_contain_no_called_number(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as session:
        decision_ids = [(await check(gate, to))["decision_id"] for to in (CLEAR, LISTED, "+390699999999")]
        received = await messages(session, 3)
        assert {row["id"] for row in received[-1]["rows"]} == set(decision_ids)
        assert {row["to"] for row in received[-1]["rows"]} == {
            "+39 ••••••••78",
            "+39 ••••••••79",
            "+39 ••••••••99",
        }
        text = json.dumps(received) + "".join(
            [await get(session, f"/console/decisions/{name}") for name in decision_ids]
        )
        for number in (CLEAR, LISTED, "+390699999999"):
            assert number.removeprefix("+39") not in text


async def test_the_board_counts_decisions_by_campaign_and_reason(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as session:
        stream = asyncio.create_task(messages(session, 3))
        await gate.client.get("/healthz")
        for to in (CLEAR, LISTED, LISTED):
            await check(gate, to)
        last = (await stream)[-1]
        assert last["campaigns"] == [["acme-fibre", 1, 2]]
        assert last["reasons"] == [["registry.listed", 2]]
        assert last["ready"] is True
        days_left = {
            registry["controller"]: registry["days_left"] for registry in last["standing"]["registries"]
        }
        assert days_left == {"acme": pytest.approx(12, abs=0.01)}
        states = {caller_id["number"]: caller_id["state"] for caller_id in last["standing"]["caller_ids"]}
        assert states == {CALLER: "class", "+390245678901": "ends", "+390245678902": "missing"}
        assert [request["kind"] for request in last["standing"]["requests"]] == ["access", "erasure"]


async def test_the_board_shows_readiness_problems(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as session:
        gate.hand.at -= HOUR
        await gate.app.tick()
        message = (await messages(session, 1))[0]
        assert message["ready"] is False
        assert list(message["problems"]) == ["clock"]


async def test_a_key_sees_only_its_own_controllers(gate: World) -> None:
    decision_id = (await check(gate, CLEAR))["decision_id"]
    async with browser(gate, STRANGER) as session:
        message = (await messages(session, 2))[-1]
        assert (message["campaigns"], message["reasons"], message["rows"]) == ([], [], [])
        assert {caller_id["controller"] for caller_id in message["standing"]["caller_ids"]} == {"beta"}
        assert message["standing"]["requests"] == []
        await get(session, f"/console/decisions/{decision_id}", 404)
        page_text = await send(session, "/console/lookup", 200, number=CLEAR, purpose="a letter")
        assert decision_id not in page_text
        for path in PAGES:  # what would change concerns the whole gate
            status = (
                403
                if path in {"/console/changes", "/console/accounts", "/console/keys", *WHOLE_GATE}
                else 200
            )
            assert "acme" not in await get(session, path, status), path
        assert "/console/changes" not in await get(session, "/console/campaigns")
        await send(session, "/console/lists/rome/preview", 404, campaign="acme-fibre")
        await send(session, "/console/revoke", 404, number=CLEAR, controller="acme")


async def test_a_preview_counts_a_long_list_for_a_client_that_may_simulate(tmp_path: Path) -> None:
    loader_key = world.client("loader", "key-loader", "lists", "revoke")
    lists = {"short": [LISTED], "long": [CLEAR, LISTED, *(f"+390612344{at:03}" for at in range(60))]}
    async with running_console(tmp_path, clients=[*console_clients(), loader_key]) as gate:
        for name, numbers in lists.items():
            await gate.post("/v1/lists", {**world.LIST, "id": name, "numbers": numbers})
        fields = {"campaign": "acme-fibre"}
        async with browser(gate, "key-loader") as session:
            fields["token"] = await token(session, "/console/lists")
            assert "preview" not in await get(session, "/console/lists")
            assert "registry.listed" not in await send(session, "/console/lists/long/preview", 403, **fields)
        async with browser(gate, SUPERVISOR) as session:
            fields["token"] = await token(session, "/console/lists")
            assert "at least 50 numbers" in await send(session, "/console/lists/short/preview", 409, **fields)
            await send(session, "/console/lists/long/preview", 303, **fields)
            page_text = await get(session, "/console/lists/long/preview?campaign=acme-fibre")
    assert "registry.listed" in page_text
    assert "of 62 can be called now" in page_text


async def test_another_clients_check_of_a_campaign_is_not_shown_to_its_controller(gate: World) -> None:
    fields = {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre"}
    headers = {"Authorization": f"Bearer {STRANGER}"}
    async with gate.client.post("/v1/check", json=fields, headers=headers) as answer:
        assert (await answer.json())["reasons"][0]["code"] == "campaign.unknown"
    async with browser(gate, SUPERVISOR) as owner, browser(gate, STRANGER) as stranger:
        message = (await messages(owner, 2))[-1]
        assert (message["campaigns"], message["rows"]) == ([], [])
        assert [row["code"] for row in (await messages(stranger, 1))[0]["rows"]] == ["campaign.unknown"]


# ---- look-ups --------------------------------------------------------------------------------------------------------


async def test_a_look_up_needs_a_reason_and_the_access_report_shows_it(gate: World) -> None:
    await check(gate, CLEAR)
    async with browser(gate, OFFICER) as session:
        fields = {"number": CLEAR, "controller": "acme"}
        for purpose in ("", "   ", "x"):
            page_text = await send(session, "/console/lookup", 400, purpose=purpose, **fields)
            assert "console.purpose" in page_text
            assert "panel whose" not in page_text
        page_text = await send(session, "/console/lookup", 200, purpose="letter of 24 November", **fields)
        assert "No opt-out in force" in page_text
        assert "a call to this number on behalf of Acme" in page_text
    async with gate.client.get(f"/v1/subjects/{CLEAR}", params={"purpose": "access"}) as answer:
        lookups = (await answer.json())["lookups"]
    assert [(lookup["client"], lookup["what"], lookup["purpose"]) for lookup in lookups][:1] == [
        ("dpo", "account", "letter of 24 November")
    ]


async def test_a_look_up_offers_the_file_that_proves_a_consent(tmp_path: Path) -> None:
    reader = world.client("reader", "key-reader", "watch", "read", "simulate")
    async with running_console(tmp_path, clients=[*console_clients(), reader]) as gate:
        await record(gate)
        fields = {"number": CLEAR, "controller": "acme", "purpose": "letter of 24 November"}
        wanted = {**fields, "sha256": SHA256}
        async with browser(gate, OFFICER) as session:
            page_text = await send(session, "/console/lookup", 200, **fields)
            assert 'aria-label="Download the file: forms/1.pdf"' in page_text
            assert await send(session, "/console/lookup/proof", 200, **wanted) == FORM.decode()
            unknown = await send(session, "/console/lookup/proof", 404, **{**wanted, "number": LISTED})
            assert "This gate no longer keeps the file." in unknown
            await send(session, "/console/lookup/proof", 400, **{**wanted, "purpose": ""})
            flip(stored(gate)[0])
            damaged = await send(session, "/console/lookup/proof", 500, **wanted)
            assert "The file is damaged on this gate." in damaged
            stored(gate)[0].unlink()
            assert "Download the file" not in await send(session, "/console/lookup", 200, **fields)
        await upload(gate)
        async with browser(gate, "key-reader") as session:  # may see the consent, and not its file
            assert "Download the file" not in await send(session, "/console/lookup", 200, **fields)
            await send(session, "/console/lookup/proof", 403, **wanted)
        async with browser(gate, STRANGER) as session:
            await send(session, "/console/lookup/proof", 404, **wanted)
        found = (await gate.get(f"/v1/subjects/{CLEAR}?purpose=access"))["lookups"]
    assert ("dpo", "consent", fields["purpose"]) in [
        (lookup["client"], lookup["what"], lookup["purpose"]) for lookup in found
    ]


async def test_the_look_up_limit_holds_in_the_console(tmp_path: Path) -> None:
    async with (
        running_console(tmp_path, limits={"lookups_an_hour": 2}) as gate,
        browser(gate, OFFICER) as session,
    ):
        for status, to in ((200, CLEAR), (200, LISTED), (429, "+390612345601")):
            await send(session, "/console/try", status, to=to, campaign="acme-fibre", **{"from": CALLER})
        fields = {"number": "+390612345602", "purpose": "curious", "controller": "acme"}
        assert "panel whose" not in await send(session, "/console/lookup", 429, **fields)


async def test_evidence_needs_a_reason_and_all_controllers_of_the_gate(tmp_path: Path) -> None:
    async with running_console(tmp_path, checkpoint_seconds=0.001) as gate:
        decision_id = (await check(gate, CLEAR))["decision_id"]
        await gate.app.tick()
        path = f"/console/decisions/{decision_id}/evidence"
        async with browser(gate, OFFICER) as session:
            assert "console.purpose" in await send(session, path, 400, purpose="")
            bundle = json.loads(await send(session, path, 200, purpose="Garante, case 4711"))
            assert bundle["evidence"]["decisions"][0]["number"] == CLEAR
        async with browser(gate, STRANGER) as session:
            await send(session, path, 403, purpose="curious")
        async with gate.client.get(f"/v1/subjects/{CLEAR}", params={"purpose": "access"}) as answer:
            lookups = (await answer.json())["lookups"]
        assert ("dpo", "evidence", "Garante, case 4711") in [
            (lookup["client"], lookup["what"], lookup["purpose"]) for lookup in lookups
        ]


# ---- data subject requests -------------------------------------------------------------------------------------------


async def open_requests(gate: World) -> dict[str, dict[str, Any]]:
    async with gate.client.get("/v1/subject-requests") as answer:
        return {case["kind"]: case for case in (await answer.json())["requests"]}


async def test_a_closed_request_shows_who_when_and_the_response(gate: World) -> None:
    access, erasure = (await open_requests(gate))["access"], (await open_requests(gate))["erasure"]
    path = f"/console/requests/{access['id']}"
    async with browser(gate, OFFICER) as session:
        page_text = await get(session, "/console/requests")
        assert "Open: 2" in page_text
        assert "87% of the time to respond has elapsed" in page_text
        await send(session, path, 400, outcome="answered", reason="x")
        assert "Open: 2" in await get(session, "/console/requests")
        await send(session, path, 303, outcome="answered", reason="a copy by PEC", actor="A. Bianchi")
        assert "a copy by PEC" in await get(session, f"{path}?done=answered")
        page_text = await get(session, "/console/requests")
        assert "Open: 1" in page_text
        row = page_text.partition('id="h-closed"')[2]
        assert all(
            word in row
            for word in ("Answered", "24/11/2026 10:", "A. Bianchi", "a copy by PEC", access["id"])
        )
        assert "subject.closed" in await send(session, path, 409, outcome="refused", reason="twice")
        path = f"/console/requests/{erasure['id']}"
        await send(session, path, 303, outcome="extended", reason="many files")
        assert "Extended by two months." in await get(session, f"{path}?done=extended")
        await send(session, path, 303, outcome="refused", reason="not identified")
        assert "dpo" in (await get(session, "/console/requests")).partition('id="h-closed"')[2]
    assert await open_requests(gate) == {}


async def test_a_number_is_on_the_page_of_a_request_for_an_hour_after_a_look_up(gate: World) -> None:
    case = (await open_requests(gate))["erasure"]
    path = f"/console/requests/{case['id']}"
    async with browser(gate, OFFICER) as session:
        page_text = await get(session, path)
        assert CLEAR not in page_text
        assert "+39 ••••••••78" in page_text
        await send(session, f"{path}/look-up", 400, purpose="x")
        await send(session, f"{path}/look-up", 303, purpose="to answer the request")
        page_text = await get(session, path)
        assert CLEAR in page_text
        assert "call list" in page_text  # what the erasure would do
    async with browser(gate, ADMINISTRATOR) as session:
        assert CLEAR not in await get(session, path)
    gate.hand.at += HOUR
    async with browser(gate, OFFICER) as session:
        assert CLEAR not in await get(session, path)


async def test_an_erasure_needs_the_last_digits_of_the_number(gate: World) -> None:
    case = (await open_requests(gate))["erasure"]
    path = f"/console/requests/{case['id']}"
    async with browser(gate, OFFICER) as session:
        for digits in ("5678", ""):  # the number was not shown yet
            assert "console.confirm" in await send(session, f"{path}/execution", 400, confirm=digits)
        await send(session, f"{path}/look-up", 303, purpose="to answer the request")
        for digits in ("5679", "", "12345678"):
            assert "console.confirm" in await send(session, f"{path}/execution", 400, confirm=digits)
        await send(session, f"{path}/execution", 303, confirm="5678")
        await send(session, f"{path}/execution", 303, confirm="5678")  # repeated
        assert "Done. Now write the letter." in await get(session, f"{path}?done=executed")
    assert (await open_requests(gate))["erasure"]["executed"] is True


async def test_an_officer_rectifies_an_entry_on_the_page_of_the_request(gate: World) -> None:
    contract = {
        "number": CLEAR,
        "id": "C-1",
        "starts": "2026-01-01",
        "sector": "telecommunications",
        "controller": "acme",
    }
    seq = (await gate.post("/v1/contracts", contract))["seq"]
    ask = {"kind": "rectification", "identified": "code read back"}
    case = await gate.post(f"/v1/subjects/{quote(CLEAR)}/requests", ask)
    path = f"/console/requests/{case['id']}"
    async with browser(gate, OFFICER) as session:
        await send(session, f"{path}/look-up", 303, purpose="to answer the request")
        assert "C-1" in await get(session, path)
        wrong = {"of": str(seq), "field": "colour", "value": "red"}
        assert "request.invalid" in await send(session, f"{path}/execution", 400, **wrong)
        right = {"of": str(seq), "field": "starts", "value": "2026-02-01"}
        await send(session, f"{path}/execution", 303, **right)
        letter = await send(session, f"{path}/letter", 200, kind="rectification", language="en", form="html")
    assert "01/02/2026" in letter


async def test_the_register_and_portable_data_are_files(gate: World) -> None:
    case = await gate.post(
        f"/v1/subjects/{quote(CLEAR)}/requests", {"kind": "portability", "identified": "id card"}
    )
    async with browser(gate, OFFICER) as session:
        register = await get(session, "/console/requests.csv")
        assert case["id"] in register
        assert CLEAR not in register
        portable = json.loads(await send(session, f"/console/requests/{case['id']}/portability", 200))
    assert portable["number"] == CLEAR


async def test_a_request_of_another_controller_cannot_be_seen_or_closed(gate: World) -> None:
    case = (await open_requests(gate))["access"]
    async with browser(gate, STRANGER) as session:
        assert "No open requests." in await get(session, "/console/requests")
        fields = {"outcome": "answered", "reason": "sent"}
        assert "subject.unknown" in await send(session, f"/console/requests/{case['id']}", 404, **fields)
    assert (await open_requests(gate))["access"] == case


async def test_the_time_limit_of_a_request_begins_on_the_day_it_was_received(gate: World) -> None:
    fields = {"number": CLEAR, "controller": "acme", "kind": "portability", "channel": "letter"}
    fields |= {"identified": "a copy of a document", "received_at": "2026-11-20T09:30"}
    async with browser(gate, OFFICER) as session:
        await send(session, "/console/requests", 303, **fields)
        page_text = await get(session, "/console/requests")
        assert "20/12/2026 09:30" in page_text
        assert CLEAR not in page_text
        for wrong in ({"number": "12"}, {"received_at": "2026-12-20T09:30"}, {"identified": ""}):
            await send(session, "/console/requests", 400, **{**fields, **wrong})
    assert len(await open_requests(gate)) == 3


# ---- reports ---------------------------------------------------------------------------------------------------------


async def test_a_report_has_an_address_and_is_of_own_controllers_only(gate: World) -> None:
    await check(gate, LISTED)
    view = "/console/reports/view?day=2026-11-24"
    async with browser(gate, SUPERVISOR) as session:
        assert 'value="2026-11-23"' in await get(session, "/console/reports")
        report = await get(session, f"{view}&form=csv")
        assert "registry.listed" in report
        assert LISTED[3:] not in report
        async with session.get(view) as answer:
            policy = answer.headers["Content-Security-Policy"]
            page = await answer.text()
        assert "registry.listed" in page
        assert not re.search(r"<script|\son\w+=|\sstyle=|(?:src|href|action)=", page)
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert "2026-11-23" in await get(session, "/console/reports/view")
        assert "2026-11" in await get(session, f"{view}&span=month")
        assert 'role="alert"' in await get(session, f"{view}&controller=beta", 404)
        for wrong in ("day=yesterday", f"{view.partition('?')[2]}&form=exe"):
            assert "request.invalid" in await get(session, f"/console/reports/view?{wrong}", 400)


# ---- the stream ------------------------------------------------------------------------------------------------------


async def test_an_administrator_sees_what_would_change_before_a_reload(gate: World) -> None:
    decision = await check(gate, CLEAR)
    async with browser(gate, ADMINISTRATOR) as session:
        assert "Nothing changes." in await send(session, "/console/changes", 200, days="7")
        path = gate.folder / "controllers/acme.yaml"
        owner = yaml_files.read(path)
        owner["campaigns"][0]["paused"] = True
        yaml_files.write(path, owner)
        shown = await send(session, "/console/changes", 200, days="7")
        assert "acme-fibre: of the calls that were allowed, 1 would be denied: campaign.inactive (1)" in shown
        assert f"/console/decisions/{gate.records()[-1].id}" in shown
        assert decision["decision"] == "allow"
        assert (await check(gate, CLEAR))["decision"] == "allow"  # nothing was loaded
        assert "1 to 366" not in await send(session, "/console/changes", 400, days="0")
        path.write_text("no: controller")
        assert "dialgate config check" in await send(session, "/console/changes", 409, days="7")


async def test_the_law_page_shows_the_law_of_a_day_and_what_changes(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as session:
        today = await get(session, "/console/law")
        assert '<option value="IT" selected>Italy</option>' in today
        assert "2026-11-24" in today
        assert "Banned sectors" in today
        assert "What changes between the two days" not in today
        before = await get(session, "/console/law?country=IT&day=2026-06-18")
        assert "Banned sectors" not in before
        changed = await get(session, "/console/law?country=IT&day=2026-06-19&since=2026-06-18")
        assert changed.count('19/06/2026</time> <span class="badge">begins</span>') == 2
        same = await get(session, "/console/law?country=IT&day=2026-06-18&since=2026-06-17")
        assert "The law on file is the same on both days." in same
        async with session.get("/console/law", headers={"Accept-Language": "it"}) as answer:
            italian = await answer.text()
        assert "Settori vietati" in italian
        assert "iscrizione e il suo rinnovo" in italian


@pytest.mark.parametrize("query", ["country=XX", "country=IT&day=2026-02-30", "country=IT&since=yesterday"])
async def test_the_law_page_refuses_what_is_no_country_or_day(gate: World, query: str) -> None:
    async with browser(gate, SUPERVISOR) as session:
        assert "request.invalid" in await get(session, f"/console/law?{query}", 400)


async def test_only_an_officer_of_the_controller_lifts_the_pause_of_a_campaign(gate: World) -> None:
    path = "/console/campaigns/acme-mobile/lift"
    async with browser(gate, OFFICER) as session:
        assert "campaign.not_paused" in await send(session, path, 409, ground="corrected")
    await pause(gate, "acme-mobile", NUMBERS)
    async with browser(gate, SUPERVISOR) as session:
        shown = await get(session, "/console/campaigns")
        assert "4 per 0" in shown
        assert "24/11/2026 10:00" in shown
        assert "/lift" not in shown
        assert "auth.scope" in await send(session, path, 403, ground="corrected")
    async with browser(gate, STRANGER) as session:
        assert "acme-mobile" not in await get(session, "/console/campaigns")
        assert "campaign.unknown" in await send(session, path, 404, ground="corrected")
    async with browser(gate, OFFICER) as session:
        assert "request.invalid" in await send(session, path, 400, ground="")
        assert MARKUP not in await send(session, path, 201, ground=MARKUP, actor="counsel", proof="ticket 7")
        shown = await get(session, "/console/campaigns")
        assert "counsel: &lt;img" in shown
        assert "(ticket 7)" in shown
        assert "/lift" not in shown
    assert (await check(gate, NUMBERS[9], "acme-mobile"))["decision"] == "allow"


async def test_a_campaign_paused_in_the_configuration_is_shown_and_cannot_be_lifted(gate: World) -> None:
    owner = yaml_files.read(gate.folder / "controllers/acme.yaml")
    changed = [campaign | {"paused": campaign["id"] == "acme-mobile"} for campaign in owner["campaigns"]]
    yaml_files.write(gate.folder / "controllers/acme.yaml", owner | {"campaigns": changed})
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))
    async with browser(gate, OFFICER) as session:
        shown = await get(session, "/console/campaigns")
        assert "Paused in the configuration" in shown
        assert "/lift" not in shown
        (message,) = await messages(session, 1)
        assert [(one["id"], one["paused_by"]) for one in message["standing"]["paused"]] == [
            ("acme-mobile", ["configuration"])
        ]


async def test_a_campaign_is_paused_and_resumed_by_those_who_may(gate: World) -> None:
    page = "/console/campaigns/acme-mobile"
    async with browser(gate, OFFICER) as session:
        assert "request.invalid" in await send(session, f"{page}/pause", 400, reason="")
        assert await send(session, f"{page}/pause", 303, reason=MARKUP, actor="anna") == ""
        assert "&lt;img" in await get(session, page)
        assert "anna" in await get(session, "/console/campaigns")
        assert "acme-mobile: Paused" in await get(session, "/console/lists")
    denied = await check(gate, NUMBERS[9], "acme-mobile")
    assert [reason["code"] for reason in denied["reasons"]] == ["campaign.inactive"]
    async with browser(gate, STRANGER) as session:
        assert "anna" not in await get(session, "/console/campaigns")
        assert "anna" not in await get(session, page, 404)
        assert "anna" not in await send(session, f"{page}/resume", 404)
    async with browser(gate, OFFICER) as session:
        await send(session, f"{page}/resume", 303, reason="corrected")
        assert "campaign.not_paused" in await send(session, f"{page}/resume", 409)
    assert (await check(gate, NUMBERS[9], "acme-mobile"))["decision"] == "allow"


async def test_the_page_of_a_campaign_shows_its_day(gate: World) -> None:
    for number in (*NUMBERS[:3], LISTED):
        await check(gate, number)
    await pause(gate, "acme-fibre", NUMBERS[4:8])
    async with browser(gate, SUPERVISOR) as session:
        await messages(session, 3)  # the live board counts once a second
        shown = await get(session, "/console/campaigns/acme-fibre")
        (row,) = re.findall(r'<th scope="row">10:00</th>(.*?)</tr>', shown, re.DOTALL)
        assert re.findall(r"data-head=\"(\w+)\">(\d+)</td>", row) == [
            ("Allowed", "7"), ("Denied", "1"), ("Answered", "0"), ("Silent", "4"),
        ]  # fmt: skip
        assert "133 % of the limit used" in shown
        assert "4 per 0" in shown
        assert f'<span class="number">{CALLER}</span>' in shown
        assert "rome" in shown
        assert "Monday to Sunday 00:00-24:00" in shown
        assert "No calls today" in await get(session, "/console/campaigns/acme-survey")
    async with browser(gate, AGENT) as session:
        await get(session, "/console/campaigns/acme-fibre", 403)


async def test_a_board_shows_the_paused_campaigns_of_its_controllers_only(gate: World) -> None:
    await pause(gate, "acme-mobile", NUMBERS)
    for key, wanted in ((SUPERVISOR, ["acme-mobile"]), (STRANGER, [])):
        async with browser(gate, key) as session:
            (message,) = await messages(session, 1)
            assert [campaign["id"] for campaign in message["standing"]["paused"]] == wanted


async def test_a_board_says_that_shadow_mode_is_on_for_its_controllers_only(gate: World) -> None:
    owner = yaml_files.read(gate.folder / "controllers/acme.yaml")
    changed = [campaign | {"shadow_until": date(2026, 11, 30)} for campaign in owner["campaigns"]]
    yaml_files.write(
        gate.folder / "controllers/acme.yaml", owner | {"campaigns": changed[:1] + owner["campaigns"][1:]}
    )
    gate.app.reload(loader.load(gate.folder / "dialgate.yaml"))
    answer = await check(gate, LISTED)
    assert (answer["decision"], answer["would"]) == ("allow", "deny")
    campaign = {"kind": "campaign", "name": "acme-fibre", "last_day": "2026-11-30"}
    async with browser(gate, SUPERVISOR) as session:
        page = f"/console/decisions/{answer['decision_id']}"
        assert "let through in shadow mode" in await get(session, page)
        fields = {"span": "day", "day": "2026-11-24", "controller": "acme"}
        assert f'<a href="{page}">' in await send(session, "/console/shadow", 200, **fields)
    for key, scopes, count in ((SUPERVISOR, [campaign], 1), (STRANGER, [], 0)):
        async with browser(gate, key) as session:
            (message,) = await messages(session, 1)
            standing = message["standing"]
            assert (standing["shadow"], standing["let_through"]) == (scopes, count)


async def test_a_board_shows_neither_problems_nor_response_times_of_other_controllers(gate: World) -> None:
    live = Live(gate.app)
    gate.app.gate._upkeep.report("snapshot", "rpo.acme.1b339a6b34514bd9.numbers: body checksum differs")
    async with live.watching(("beta",)) as stranger, live.watching(("acme", "beta")) as owner:
        await check(gate, CLEAR)
        await live.tick()
        seen, whole = json.loads(live.first(stranger, ("watch",))), json.loads(live.first(owner, ("watch",)))
        assert seen["problems"] == {"snapshot": ""}
        assert "checksum" in whole["problems"]["snapshot"]
        assert seen["seconds"][-1][1:] == [0, 0, -1, -1]
        assert (whole["seconds"][-1][1], whole["seconds"][-1][3] >= 0) == (1, True)


@pytest.mark.parametrize("path", ["/console/login", "/console/preferences"])
async def test_a_form_of_a_stranger_is_refused_before_a_large_body_arrives(gate: World, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: gate\r\nContent-Length: 65537\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 413 Request Entity Too Large\r\n"
    writer.close()


@pytest.mark.parametrize(("here", "then"), [
    ("/console/login?next=%2Fconsole%2Frequests", "/console/login?next=%2Fconsole%2Frequests"),
    ("/console/lists/autumn%20days/preview?campaign=acme-fibre", "/console/lists/autumn%20days/preview?campaign=acme-fibre"),
    ("/console/requests/5f0c2a9be41d7703", "/console/requests/5f0c2a9be41d7703"),
    ("//example.org/console", "/console"),
    ("/console/login\r\nSet-Cookie: a=b", "/console"),
    ("/console/unknown", "/console"),
])  # fmt: skip
async def test_another_language_keeps_the_page_also_before_signing_in(
    gate: World, here: str, then: str
) -> None:
    async with browser(gate) as session:
        fields = {"next": here, "language": "it"}
        async with session.post("/console/preferences", data=fields, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, then)


async def test_boards_of_the_same_controllers_share_one_message(gate: World) -> None:
    live = Live(gate.app)
    async with live.watching(("acme", "beta")) as view, live.watching(("beta", "acme")) as same:
        await check(gate, LISTED)
        await live.tick()
        assert view == same
        assert live.watchers == 2
        assert live.message(view, ("watch",)) is live.message(same, ("watch",))
        assert json.loads(live.message(view, ("watch",)))["rows"][0]["code"] == "registry.listed"
        await live.tick()
        assert len(json.loads(live.first(view, ("watch",)))["seconds"]) == 2
    assert live.watchers == 0


async def test_one_tenant_cannot_open_all_boards(gate: World) -> None:
    """Keys for the same controllers share a limit of twenty boards. Keys for other controllers have their own limit."""
    async with (
        browser(gate, SUPERVISOR) as session,
        browser(gate, OFFICER) as other,
        AsyncExitStack() as boards,
    ):
        for _ in range(20):
            stream = await boards.enter_async_context(session.get("/console/events"))
            assert stream.status == 200
        async with session.get("/console/events") as stream:
            assert stream.status == 503
        async with other.get("/console/events") as stream:
            assert stream.status == 200


async def test_the_stream_ends_with_its_session(gate: World) -> None:
    async with browser(gate, SUPERVISOR) as session, session.get("/console/events") as stream:
        await anext(aiter(stream.content))
        await send(session, "/console/logout", 303)
        async with asyncio.timeout(5):
            rest = await stream.content.read()
        assert rest.endswith(b"event: ended\ndata: {}\n\n")


async def test_an_open_board_does_not_delay_the_shutdown(tmp_path: Path) -> None:
    async with asyncio.timeout(10), AsyncExitStack() as watching:
        async with running_console(tmp_path) as gate:
            session = await watching.enter_async_context(browser(gate, SUPERVISOR))
            stream = await watching.enter_async_context(session.get("/console/events"))
            await anext(aiter(stream.content))
        assert b"event: ended" in await stream.content.read()


# ---- texts and figures -----------------------------------------------------------------------------------------------


def test_both_languages_have_the_same_keys_and_names() -> None:
    english, italian = (words.words_in(language).texts for language in ("en", "it"))
    assert english.keys() == italian.keys()
    for key, text in english.items():
        assert _names(text) == _names(italian[key]), key


def _names(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize(("language", "days_left", "wanted"), [
    ("en", -2, "2 days overdue"), ("en", -1, "1 day overdue"), ("en", 0, "0 days"), ("en", 1, "1 day"), ("en", 2, "2 days"),
    ("it", -2, "in ritardo di 2 giorni"), ("it", -1, "in ritardo di 1 giorno"), ("it", 1, "1 giorno"), ("it", 2, "2 giorni"),
])  # fmt: skip
def test_one_day_is_in_the_singular(language: Language, days_left: int, wanted: str) -> None:
    parts = rendering._environment().get_template("parts.html").make_module({"say": words.words_in(language)})
    assert f">{wanted}<" in parts.days(days_left)  # type: ignore[attr-defined]


def test_every_code_kind_and_channel_has_a_text() -> None:
    texts = words.words_in("en").texts
    wanted = {
        *(f"code.{code}" for code in REASONS),
        *(f"severity.{name}" for name in get_args(Severity)),
        *(f"number.{name}" for name in get_args(Kind)),
        *(f"kind.{name}" for name in KINDS),
        *(f"channel.{name}" for name in CHANNELS),
        *(f"problem.{name}" for name in COMPONENTS),
    }
    assert wanted <= texts.keys()
    errors = {key.removeprefix("error.") for key in texts if key.startswith("error.")} - {"other"}
    assert {code for code in errors if not code.startswith("console.")} <= CODES.keys()


@given(st.integers(10**6, 10**14))
def test_a_masked_number_keeps_five_characters(number: int) -> None:
    hidden = mask_number(f"+{number}").replace("•", "").replace(" ", "")
    assert len(hidden) in {0, 5}


@pytest.mark.parametrize(("counts", "share", "wanted"), [
    ({}, 0.5, -1.0), ({0: 10}, 0.5, 0.25), ({1: 4}, 0.5, 0.75), ({0: 99, 3: 1}, 0.99, 0.5), ({13: 1}, 0.5, 2500.0),
])  # fmt: skip
def test_quantile_of_response_times(counts: dict[int, int], share: float, wanted: float) -> None:
    every = [counts.get(at, 0) for at in range(len(Calls.BOUNDS) + 1)]
    assert quantile(every, share) == wanted
