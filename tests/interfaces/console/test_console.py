"""The console over plain HTTP: who comes in, what a foreign page cannot do, and what nobody is shown."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Any, get_args

import msgspec
import pytest
import yaml
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
from dialgate.interfaces import http_application
from dialgate.interfaces.console import page, routes, words
from dialgate.interfaces.console.calls import CHANNELS
from dialgate.interfaces.console.live import Live, Second, Share, WorkerData, quantile
from dialgate.interfaces.console.masks import masked
from dialgate.interfaces.console.sessions import FAILURES, IDLE, LONGEST, OF_ONE, SPAN
from dialgate.interfaces.http.errors import CODES
from dialgate.observability.metrics import Calls
from tests.support import world
from tests.support.console_world import AGENT, MARKUP, OFFICER, STRANGER, SUPERVISOR, check, looked_at, post
from tests.support.paths import ROOT
from tests.support.world import CALLER, CLEAR, LISTED, World

ROUTES = [(route.method, route.path, route.needs) for route in routes._ROUTES]
PAGES = [path for method, path, _ in ROUTES if method == "GET" and "{" not in path and "events" not in path]
HOME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with looked_at(tmp_path) as built:
        yield built


@asynccontextmanager
async def browser(made: World, key: str = "") -> AsyncIterator[ClientSession]:
    """Keeps cookies as a browser does; logged in, if with a key."""
    url = f"http://127.0.0.1:{made.port}"
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
    fields.setdefault("token", await token(session, "/console/try"))
    async with session.post(path, data=fields, allow_redirects=False) as answer:
        assert answer.status == status, (path, answer.status, await answer.text())
        return await answer.text()


async def messages(session: ClientSession, wanted: int) -> list[dict[str, Any]]:
    told = []
    async with session.get("/console/events") as stream:
        assert stream.status == 200
        async for line in stream.content:
            if line.startswith(b"data: "):
                told.append(json.loads(line[6:]))
            if len(told) == wanted:
                break
    return told


# ---- in and out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("proto", "secure"), [("", False), ("https", True)])
async def test_the_session_is_out_of_the_reach_of_scripts_and_of_other_sites(
    made: World, proto: str, secure: bool
) -> None:
    async with (
        browser(made) as session,
        session.post(
            "/console/login", data={"key": AGENT}, headers={"X-Forwarded-Proto": proto}, allow_redirects=False
        ) as answer,
    ):
        assert (answer.status, answer.headers["Location"]) == (303, "/console")
        cookie = answer.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age=43200"} <= set(cookie.split("; "))
        assert ("Secure" in cookie.split("; ")) is secure
        assert AGENT not in cookie


async def test_over_tls_the_session_never_leaves_it(made: World, tmp_path: Path) -> None:
    config = made.app.config
    listen = msgspec.convert({"port": 0, **world.write_certificate(tmp_path)}, Listen)
    made.app.gate.config = replace(config, settings=replace(config.settings, listen=listen))
    runner = await http_application.start(made.app, CollectorRegistry())
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


async def test_wrong_keys_are_throttled_and_a_right_key_never(made: World) -> None:
    async with browser(made) as session:
        for _ in range(FAILURES):
            assert await log_in(session, "guessed") == 401
        assert await log_in(session, "guessed") == 429
        assert await log_in(session, AGENT) == 303


async def test_the_throttle_ends_with_its_time(made: World) -> None:
    async with browser(made) as session:
        for _ in range(FAILURES):
            assert await log_in(session, "guessed") == 401
        assert await log_in(session, "guessed") == 429
        made.hand.at += SPAN
        assert await log_in(session, "guessed") == 401


async def test_behind_a_trusted_proxy_each_address_is_throttled_alone(tmp_path: Path) -> None:
    listen = {"host": "127.0.0.1", "port": 0, "trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}
    async with looked_at(tmp_path, listen=listen) as made, browser(made) as session:
        for _ in range(FAILURES):
            assert await log_in(session, "guessed", "1.2.3.4, 198.51.100.7, 10.0.0.1") == 401
        assert await log_in(session, "guessed", "5.6.7.8, 198.51.100.7") == 429, "the first is made up"
        assert await log_in(session, "guessed", "198.51.100.8") == 401


async def test_an_address_that_a_stranger_names_is_not_believed(made: World) -> None:
    async with browser(made) as session:
        for place in range(FAILURES):
            assert await log_in(session, "guessed", f"198.51.100.{place}") == 401
        assert await log_in(session, "guessed", "198.51.100.99") == 429


ONWARD = {
    "/console/lists": "/console/lists",
    "/console/decisions/0123abcd-1": "/console/decisions/0123abcd-1",
    "//evil.example/": "/console",
    "https://evil.example/": "/console",
    "/console/../v1": "/console",
    "/console/decisions/../../v1": "/console",
    "/console/decisions/\r\nX: y": "/console",
}


async def test_a_login_leads_to_a_page_of_ours_and_nowhere_else(made: World) -> None:
    async with browser(made) as session:
        for onward, taken in ONWARD.items():
            asked = {"key": OFFICER, "next": onward}
            async with session.post("/console/login", data=asked, allow_redirects=False) as answer:
                assert answer.headers["Location"] == taken, onward


async def test_without_a_session_every_page_leads_to_the_login(made: World) -> None:
    async with browser(made) as session:
        for method, path, _ in ROUTES:
            where = path.replace("{id}", "x")
            async with session.request(method, where, allow_redirects=False) as answer:
                assert answer.status == 303, path
                assert answer.headers["Location"].startswith("/console/login")


async def test_a_page_that_there_is_not_says_so_in_the_console(made: World) -> None:
    async with browser(made, AGENT) as session:
        assert "This page does not exist." in await get(session, "/console/nothing", 404)
        assert "This page does not exist." in await get(session, "/console/requests/x/y", 404)


@pytest.mark.parametrize("key", [AGENT, SUPERVISOR])
async def test_a_key_opens_what_its_scopes_allow_and_nothing_else(made: World, key: str) -> None:
    client = made.app.config.keys[world.client("", key)["key_sha256"]]
    async with browser(made, key) as session:
        given = await token(session, "/console/try")
        allowed = {route for route in ROUTES if set(route[2]) & set(client.scopes)}
        opened = {("GET", path) for method, path, _ in allowed if method == "GET" and path in PAGES}
        assert opened
        for _, path in opened:
            await get(session, path)
        refused = set(ROUTES) - allowed
        assert refused
        for method, path, _ in refused:
            data = {"token": given} if method == "POST" else None
            async with session.request(method, path.replace("{id}", "x"), data=data) as answer:
                assert answer.status == 403, path
                assert "auth.scope" in await answer.text()


@pytest.mark.parametrize(("ahead", "still"), [(IDLE - 10 * SECOND, True), (IDLE, False)])
async def test_a_session_that_nobody_uses_ends(made: World, ahead: int, still: bool) -> None:
    async with browser(made, AGENT) as session:
        made.hand.at += ahead
        await get(session, "/console/try", 200 if still else 303)


async def test_a_session_ends_after_a_shift_however_busy(made: World) -> None:
    async with browser(made, AGENT) as session:
        for _ in range(LONGEST // (IDLE // 2) - 1):
            made.hand.at += IDLE // 2
            await get(session, "/console/try")
        made.hand.at += IDLE // 2
        await get(session, "/console/try", 303)


async def test_who_has_logged_out_cannot_come_back_with_the_old_cookie(made: World) -> None:
    async with browser(made, AGENT) as session:
        held = {cookie.key: cookie.value for cookie in session.cookie_jar}
        await send(session, "/console/logout", 303)
        await get(session, "/console/try", 303)
        async with session.get("/console/try", cookies=held, allow_redirects=False) as answer:
            assert answer.status == 303


async def test_a_withdrawn_key_ends_its_sessions(made: World) -> None:
    async with browser(made, AGENT) as session:
        await get(session, "/console/try")
        path = made.folder / "dialgate.yaml"
        written = yaml.safe_load(path.read_text())
        written["clients"] = [each for each in written["clients"] if each["name"] != "agent-7"]
        path.write_text(yaml.safe_dump(written))
        made.app.reload(loader.load(path))
        await get(session, "/console/try", 303)


async def test_who_logs_in_again_and_again_ends_nobodys_sessions_but_the_own(made: World) -> None:
    async with browser(made, SUPERVISOR) as other, browser(made, AGENT) as first, browser(made) as again:
        for _ in range(OF_ONE):
            made.hand.at += 1
            async with again.post("/console/login", data={"key": AGENT}, allow_redirects=False) as answer:
                assert answer.status == 303
        await get(other, "/console/try")
        await get(again, "/console/try")
        await get(first, "/console/try", 303)


# ---- what a foreign page cannot do -----------------------------------------------------------------------------------


async def test_a_write_needs_the_token_of_its_own_session(made: World) -> None:
    fields = {"number": CLEAR, "to": CLEAR, "from": CALLER, "campaign": "acme-fibre", "purpose": "a letter"}
    decided = (await check(made, LISTED))["decision_id"]
    writes = [path for method, path, _ in ROUTES if method == "POST"]
    async with browser(made, OFFICER) as session, browser(made, OFFICER) as other:
        for path, wrong in product(writes, ("", "guessed", await token(other))):
            body = FormData({**fields, "token": wrong})
            if path == "/console/lists":
                body.add_field("file", b"+390612345678\n", filename="list.csv")
            where = path.replace("{id}", decided if "evidence" in path else "rome")
            async with session.post(where, data=body) as answer:
                text = await answer.text()
                assert answer.status == 403, path
                assert "console.forged" in text
    async with made.client.get("/v1/revocations", params={"number": CLEAR, "purpose": "to look"}) as answer:
        assert (await answer.json())["entries"] == []


FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "", "Origin": "null"},
]


async def test_a_form_from_elsewhere_does_nothing_even_with_the_token(made: World) -> None:
    async with browser(made, AGENT) as session:
        fields = {"number": CLEAR, "token": await token(session, "/console/try")}
        paths = ("/console/revoke", "/console/login", "/console/logout", "/console/preferences")
        for headers, path in product(FOREIGN, paths):
            async with session.post(path, data=fields, headers=headers) as answer:
                assert answer.status == 403, path
        await send(session, "/console/revoke", 201, number=CLEAR)


async def test_every_page_loads_its_own_files_only_and_holds_no_script(made: World) -> None:
    async with browser(made, OFFICER) as session:
        decided = (await check(made, LISTED))["decision_id"]
        for path in ("/console/login", *PAGES, f"/console/decisions/{decided}"):
            async with session.get(path) as answer:
                text = await answer.text()
                assert answer.status == 200, path
                assert answer.headers["Content-Security-Policy"] == page.POLICY
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", text), path
            targets = re.findall(r'(?:src|href|action)="([^"]*)"', text)
            assert "/console/logout" in targets or path == "/console/login"
            for target in targets:
                assert target.startswith(("/console", "#")), target


async def test_an_asset_is_served_once_and_then_by_its_tag(made: World) -> None:
    async with browser(made) as session:
        assert {Path(name).suffix for name in page.assets()} >= {".css", ".js"}
        for name, asset in page.assets().items():
            async with session.get(f"/console/assets/{name}") as answer:
                assert (answer.status, await answer.read()) == (200, asset.body)
            async with session.get(f"/console/assets/{name}", headers={"If-None-Match": asset.tag}) as answer:
                assert answer.status == 304
        await get(session, "/console/assets/..%2f__init__.py", 404)


# ---- what nobody is shown --------------------------------------------------------------------------------------------


async def test_markup_that_somebody_entered_is_shown_as_text(made: World) -> None:
    body = {**world.LIST, "id": "marked", "collected_by": MARKUP, "source": MARKUP, "actor": MARKUP}
    await post(made, "/v1/lists", body)
    await post(
        made, "/v1/revocations", {"number": LISTED, "proof": MARKUP, "actor": MARKUP, "channel": MARKUP}
    )
    case = {"kind": "access", "identified": MARKUP, "channel": MARKUP}
    await post(made, f"/v1/subjects/{LISTED}/requests", case)
    async with browser(made, OFFICER) as session:
        shown = [await get(session, path) for path in PAGES]
        shown.append(
            await send(session, "/console/try", 200, to=MARKUP, campaign="acme-fibre", **{"from": MARKUP})
        )
        asked = {"number": LISTED, "purpose": MARKUP, "controller": "acme"}
        shown.append(await send(session, "/console/lookup", 200, **asked))
        async with session.get("/console/login", params={"next": f'"{MARKUP}'}) as answer:
            shown.append(await answer.text())
        assert all("<img src=x" not in text for text in shown)
        assert sum("&lt;img src=x" in text for text in shown) >= 4


async def test_the_board_and_the_explanation_hold_no_called_number(made: World) -> None:
    async with browser(made, SUPERVISOR) as session:
        decided = [(await check(made, to))["decision_id"] for to in (CLEAR, LISTED, "+390699999999")]
        told = await messages(session, 3)
        assert {row["id"] for row in told[-1]["rows"]} == set(decided)
        assert {row["to"] for row in told[-1]["rows"]} == {
            "+39 ••••••••78",
            "+39 ••••••••79",
            "+39 ••••••••99",
        }
        shown = json.dumps(told) + "".join(
            [await get(session, f"/console/decisions/{each}") for each in decided]
        )
        for number in (CLEAR, LISTED, "+390699999999"):
            assert number.removeprefix("+39") not in shown


async def test_the_board_counts_and_names_what_was_decided(made: World) -> None:
    async with browser(made, SUPERVISOR) as session:
        stream = asyncio.create_task(messages(session, 3))
        await made.client.get("/healthz")
        for to in (CLEAR, LISTED, LISTED):
            await check(made, to)
        last = (await stream)[-1]
        assert last["campaigns"] == [["acme-fibre", 1, 2]]
        assert last["reasons"] == [["registry.listed", 2]]
        assert last["ready"] is True
        fresh = {each["controller"]: each["days_left"] for each in last["standing"]["registries"]}
        assert fresh == {"acme": pytest.approx(12, abs=0.01)}
        states = {each["number"]: each["state"] for each in last["standing"]["caller_ids"]}
        assert states == {CALLER: "class", "+390245678901": "ends", "+390245678902": "missing"}
        assert [each["kind"] for each in last["standing"]["requests"]] == ["access", "erasure"]


async def test_the_board_names_what_is_broken(made: World) -> None:
    async with browser(made, SUPERVISOR) as session:
        made.hand.at -= HOUR
        await made.app.tick()
        told = (await messages(session, 1))[0]
        assert told["ready"] is False
        assert list(told["problems"]) == ["clock"]


async def test_a_key_sees_its_own_controllers_and_nothing_of_another(made: World) -> None:
    decided = (await check(made, CLEAR))["decision_id"]
    async with browser(made, STRANGER) as session:
        told = (await messages(session, 2))[-1]
        assert (told["campaigns"], told["reasons"], told["rows"]) == ([], [], [])
        assert {each["controller"] for each in told["standing"]["caller_ids"]} == {"beta"}
        assert told["standing"]["requests"] == []
        await get(session, f"/console/decisions/{decided}", 404)
        looked = await send(session, "/console/lookup", 200, number=CLEAR, purpose="a letter")
        assert decided not in looked
        for path in PAGES:
            assert "acme" not in await get(session, path), path
        await send(session, "/console/lists/rome/preview", 404, campaign="acme-fibre")
        await send(session, "/console/revoke", 404, number=CLEAR, controller="acme")


async def test_what_a_stranger_asks_for_a_campaign_is_not_shown_to_its_owner(made: World) -> None:
    asked = {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre"}
    headers = {"Authorization": f"Bearer {STRANGER}"}
    async with made.client.post("/v1/check", json=asked, headers=headers) as answer:
        assert (await answer.json())["reasons"][0]["code"] == "campaign.unknown"
    async with browser(made, SUPERVISOR) as owner, browser(made, STRANGER) as stranger:
        told = (await messages(owner, 2))[-1]
        assert (told["campaigns"], told["rows"]) == ([], [])
        assert [row["code"] for row in (await messages(stranger, 1))[0]["rows"]] == ["campaign.unknown"]


# ---- look-ups --------------------------------------------------------------------------------------------------------


async def test_a_number_is_looked_up_for_a_reason_that_the_person_can_read(made: World) -> None:
    await check(made, CLEAR)
    async with browser(made, OFFICER) as session:
        asked = {"number": CLEAR, "controller": "acme"}
        for purpose in ("", "   ", "x"):
            refused = await send(session, "/console/lookup", 400, purpose=purpose, **asked)
            assert "console.purpose" in refused
            assert "panel whose" not in refused
        shown = await send(session, "/console/lookup", 200, purpose="letter of 24 November", **asked)
        assert "No opt-out in force" in shown
        assert "a call to this number on behalf of Acme" in shown
    async with made.client.get(f"/v1/subjects/{CLEAR}", params={"purpose": "access"}) as answer:
        seen = (await answer.json())["lookups"]
    assert [(each["client"], each["what"], each["purpose"]) for each in seen][:1] == [
        ("dpo", "account", "letter of 24 November")
    ]


async def test_who_enumerates_by_the_console_is_stopped(tmp_path: Path) -> None:
    async with looked_at(tmp_path, limits={"lookups_an_hour": 2}) as made, browser(made, OFFICER) as session:
        for status, to in ((200, CLEAR), (200, LISTED), (429, "+390612345601")):
            await send(session, "/console/try", status, to=to, campaign="acme-fibre", **{"from": CALLER})
        asked = {"number": "+390612345602", "purpose": "curious", "controller": "acme"}
        assert "panel whose" not in await send(session, "/console/lookup", 429, **asked)


async def test_evidence_is_given_for_a_reason_and_to_who_may_see_the_whole_gate(tmp_path: Path) -> None:
    async with looked_at(tmp_path, checkpoint_seconds=0.001) as made:
        decided = (await check(made, CLEAR))["decision_id"]
        await made.app.tick()
        path = f"/console/decisions/{decided}/evidence"
        async with browser(made, OFFICER) as session:
            assert "console.purpose" in await send(session, path, 400, purpose="")
            bundle = json.loads(await send(session, path, 200, purpose="Garante, case 4711"))
            assert bundle["evidence"]["decisions"][0]["number"] == CLEAR
        async with browser(made, STRANGER) as session:
            await send(session, path, 403, purpose="curious")
        async with made.client.get(f"/v1/subjects/{CLEAR}", params={"purpose": "access"}) as answer:
            seen = (await answer.json())["lookups"]
        assert ("dpo", "evidence", "Garante, case 4711") in [
            (each["client"], each["what"], each["purpose"]) for each in seen
        ]


# ---- requests of people ----------------------------------------------------------------------------------------------


async def open_requests(made: World) -> dict[str, dict[str, Any]]:
    async with made.client.get("/v1/subject-requests") as answer:
        return {each["kind"]: each for each in (await answer.json())["requests"]}


async def test_a_request_is_closed_with_who_when_and_what_the_person_was_told(made: World) -> None:
    late, other = (await open_requests(made))["access"], (await open_requests(made))["erasure"]
    path = f"/console/requests/{late['id']}"
    async with browser(made, OFFICER) as session:
        shown = await get(session, "/console/requests")
        assert "Open: 2" in shown
        assert "87 % of the time has elapsed" in shown
        await send(session, path, 400, outcome="answered", reason="x")
        assert "Open: 2" in await get(session, "/console/requests")
        told = await send(session, path, 200, outcome="answered", reason="a copy by PEC", actor="A. Bianchi")
        assert "Closed." in told
        shown = await get(session, "/console/requests")
        assert "Open: 1" in shown
        row = shown.partition('id="h-closed"')[2]
        assert all(
            word in row for word in ("Answered", "24/11/2026 10:", "A. Bianchi", "a copy by PEC", late["id"])
        )
        assert "subject.closed" in await send(session, path, 409, outcome="refused", reason="twice")
        path = f"/console/requests/{other['id']}"
        assert "Extended by two months." in await send(
            session, path, 200, outcome="extended", reason="many files"
        )
        await send(session, path, 200, outcome="refused", reason="not identified")
        assert "dpo" in (await get(session, "/console/requests")).partition('id="h-closed"')[2]
    assert await open_requests(made) == {}


async def test_a_request_of_another_controller_cannot_be_seen_or_closed(made: World) -> None:
    case = (await open_requests(made))["access"]
    async with browser(made, STRANGER) as session:
        assert "No open requests." in await get(session, "/console/requests")
        fields = {"outcome": "answered", "reason": "sent"}
        assert "subject.unknown" in await send(session, f"/console/requests/{case['id']}", 404, **fields)
    assert (await open_requests(made))["access"] == case


async def test_a_request_is_noted_from_the_day_on_which_it_came_in(made: World) -> None:
    asked = {"number": CLEAR, "controller": "acme", "kind": "portability", "channel": "letter"}
    asked |= {"identified": "a copy of a document", "received_at": "2026-11-20T09:30"}
    async with browser(made, OFFICER) as session:
        noted = await send(session, "/console/requests", 201, **asked)
        assert "Request recorded. The one-month time limit applies." in noted
        assert "20/12/2026 09:30" in noted
        assert CLEAR not in noted
        for wrong in ({"number": "12"}, {"received_at": "2026-12-20T09:30"}, {"identified": ""}):
            await send(session, "/console/requests", 400, **{**asked, **wrong})
    assert len(await open_requests(made)) == 3


# ---- reports -----------------------------------------------------------------------------------------------------------


async def test_a_report_is_taken_along_of_ones_own_controllers_only(made: World) -> None:
    await check(made, LISTED)
    asked = {"span": "day", "day": "2026-11-24", "form": "csv", "controller": "acme"}
    async with browser(made, SUPERVISOR) as session:
        assert 'value="2026-11-23"' in await get(session, "/console/reports")
        told = await send(session, "/console/reports", 200, **asked)
        assert "registry.listed" in told
        assert LISTED[3:] not in told
        assert "<title>" in await send(
            session, "/console/reports", 200, **{**asked, "span": "month", "form": "html"}
        )
        await send(session, "/console/reports", 404, **{**asked, "controller": "beta"})
        for wrong in ({"day": "yesterday"}, {"form": "exe"}):
            assert "request.invalid" in await send(session, "/console/reports", 400, **{**asked, **wrong})


# ---- the stream ------------------------------------------------------------------------------------------------------


async def test_ten_boards_of_the_same_controllers_are_sent_one_and_the_same_message(made: World) -> None:
    live = Live(made.app)
    async with live.watching(("acme", "beta")) as view, live.watching(("beta", "acme")) as same:
        await check(made, LISTED)
        await live.tick()
        assert view == same
        assert live.watchers == 2
        assert live.message(view) is live.message(same)
        assert json.loads(live.message(view))["rows"][0]["code"] == "registry.listed"
        await live.tick()
        assert len(json.loads(live.first(view))["seconds"]) == 2
    assert live.watchers == 0


async def test_one_tenant_cannot_take_all_boards(made: World) -> None:
    """Twenty of the same controllers, whichever of their keys opened them."""
    async with (
        browser(made, SUPERVISOR) as session,
        browser(made, OFFICER) as other,
        AsyncExitStack() as boards,
    ):
        for _ in range(20):
            stream = await boards.enter_async_context(session.get("/console/events"))
            assert stream.status == 200
        async with session.get("/console/events") as stream:
            assert stream.status == 503
        async with other.get("/console/events") as stream:
            assert stream.status == 200


async def test_a_board_ends_with_its_session(made: World) -> None:
    async with browser(made, SUPERVISOR) as session, session.get("/console/events") as stream:
        await anext(aiter(stream.content))
        await send(session, "/console/logout", 303)
        async with asyncio.timeout(5):
            rest = await stream.content.read()
        assert rest.endswith(b"event: ended\ndata: {}\n\n")


async def test_an_open_board_does_not_keep_the_gate_from_stopping(tmp_path: Path) -> None:
    async with asyncio.timeout(10), AsyncExitStack() as watching:
        async with looked_at(tmp_path) as made:
            session = await watching.enter_async_context(browser(made, SUPERVISOR))
            stream = await watching.enter_async_context(session.get("/console/events"))
            await anext(aiter(stream.content))
        assert b"event: ended" in await stream.content.read()


@pytest.mark.torture
async def test_what_ten_boards_cost_can_be_measured() -> None:
    words = [sys.executable, "-m", "tests.bench", "console", "--requests", "200", "--rounds", "1"]
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    assert process.returncode == 0
    figures = [json.loads(line) for line in told.splitlines()]
    assert [each["name"].rpartition(".")[2] for each in figures] == [
        "requests",
        "p99",
        "server_cpu",
        "resting_cpu",
    ]


# ---- words and figures -----------------------------------------------------------------------------------------------


def test_both_languages_say_the_same_things() -> None:
    english, italian = (words.of(language).texts for language in ("en", "it"))
    assert english.keys() == italian.keys()
    for key, text in english.items():
        assert _names(text) == _names(italian[key]), key


def _names(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_there_is_a_word_for_everything_that_can_be_shown() -> None:
    texts = words.of("en").texts
    wanted = {
        *(f"code.{code}" for code in REASONS),
        *(f"severity.{name}" for name in get_args(Severity)),
        *(f"number.{name}" for name in get_args(Kind)),
        *(f"kind.{name}" for name in KINDS),
        *(f"channel.{name}" for name in CHANNELS),
    }
    assert wanted <= texts.keys()
    errors = {key.removeprefix("error.") for key in texts if key.startswith("error.")} - {"other"}
    assert {code for code in errors if not code.startswith("console.")} <= CODES.keys()


@given(st.integers(10**6, 10**14))
def test_of_a_masked_number_five_characters_are_left(number: int) -> None:
    hidden = masked(f"+{number}").replace("•", "").replace(" ", "")
    assert len(hidden) in {0, 5}


@pytest.mark.parametrize(("counts", "share", "wanted"), [
    ({}, 0.5, -1.0), ({0: 10}, 0.5, 0.25), ({1: 4}, 0.5, 0.75), ({0: 99, 3: 1}, 0.99, 0.5), ({13: 1}, 0.5, 2500.0),
])  # fmt: skip
def test_a_share_of_the_answers_came_within(counts: dict[int, int], share: float, wanted: float) -> None:
    every = [counts.get(at, 0) for at in range(len(Calls.BOUNDS) + 1)]
    assert quantile(every, share) == wanted


def test_what_another_worker_tells_twice_counts_once() -> None:
    data = WorkerData()
    for at in (1_500, 1_500, 2_500):
        share = Share([Second(at, {("allow", "", "spring"): 2}, [2])], {}, {})
        data.update(msgspec.msgpack.encode(share))
    assert [second.at for second in data.seconds] == [1_500, 2_500]
