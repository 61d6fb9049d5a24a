"""Sign-in at an OpenID provider over HTTP: roles and controllers from claims, and answers that are refused."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar
from joserfc.jwk import RSAKey
from msgspec import Struct

from dialgate.people.schemas import AccountUpdate
from tests.support import people
from tests.support.console_world import running_console
from tests.support.openid_provider import CLIENT, Provider, running_provider
from tests.support.ports import free_port
from tests.support.world import World

ANNA = {"preferred_username": "Anna.Rossi@acme.example", "groups": ["staff", "dialgate-officers"]}


class Login(Struct):
    gate: World
    provider: Provider
    browser: ClientSession

    async def start(self) -> str:
        """Go to the provider, and return the URL to which it sends the browser back."""
        page = await self.text("/console/login")
        link = re.search(r'href="(/console/openid\?[^"]*)"', page)
        assert link
        async with self.browser.get(link[1], allow_redirects=False) as answer:
            assert answer.status == 303
            cookie = answer.headers["Set-Cookie"]
            assert {"HttpOnly", "SameSite=Lax", "Path=/console/openid"} <= {*cookie.split("; ")}
        async with self.browser.get(answer.headers["Location"], allow_redirects=False) as answer:
            return answer.headers["Location"]

    async def sign_in(self, status: int, **claims: Any) -> str:
        """Sign in with a new browser, whose cookies it keeps."""
        self.provider.claims = {**ANNA, **claims}
        self.browser.cookie_jar.clear()
        return await self.text(await self.start(), status)

    async def text(self, path: str, status: int = 200) -> str:
        headers = {"Sec-Fetch-Site": "cross-site"}
        async with self.browser.get(path, headers=headers, allow_redirects=False) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return text


@pytest.fixture
async def login(tmp_path: Path) -> AsyncIterator[Login]:
    port = free_port()
    async with running_provider() as provider:
        openid = {
            "issuer": provider.issuer,
            "client_id": CLIENT,
            "role_claim": "groups",
            "roles": {"dialgate-officers": "officer", "staff": "agent"},
            "controllers_claim": "titolari.telefonia",
            "contact": "helpdesk@acme.example",
        }
        url = f"http://127.0.0.1:{port}"
        settings = {"listen": {"host": "127.0.0.1", "port": port}, "accounts": {"url": url, "openid": openid}}
        ANNA["titolari"] = {"telefonia": ["acme"]}  # type: ignore[assignment]
        async with (
            running_console(tmp_path, **settings) as gate,
            ClientSession(url, cookie_jar=CookieJar(unsafe=True)) as browser,
        ):
            provider.now = lambda: gate.hand() / 1000
            yield Login(gate, provider, browser)


async def test_claims_give_role_and_controllers_at_each_sign_in(login: Login) -> None:
    page = await login.sign_in(200)
    assert '<meta http-equiv="refresh" content="0; url=/console">' in page
    people_here = login.gate.app.people
    info = await people_here.info("anna.rossi")
    assert (info.role, info.controllers, info.issuer) == ("officer", ("acme",), login.provider.issuer)
    assert "anna.rossi" in await login.text("/console/lookup")
    assert "account.current" not in await login.text("/console/account")
    await login.sign_in(200, groups="staff")
    assert (await people_here.info("anna.rossi")).role == "agent"
    await login.text("/console/lookup", 403)
    assert await people_here.has_person()


async def test_who_has_no_role_or_is_disabled_is_refused_and_told_whom_to_ask(login: Login) -> None:
    page = await login.sign_in(403, groups=["visitors"])
    assert "console.no_role" in page
    assert "helpdesk@acme.example" in page
    assert "console.no_name" in await login.sign_in(403, preferred_username="Anna Rossi")
    await login.sign_in(200)
    operator = people.OPERATOR
    await login.gate.app.people.update(operator, "anna.rossi", AccountUpdate(disabled=True))
    await login.text("/console/account", 303)
    assert "console.disabled" in await login.sign_in(403)


async def test_a_name_is_not_taken_over_from_another_account(login: Login) -> None:
    await people.join(login.gate.app.people, login.gate.hand(), "berta", "operator", "*")
    assert "console.name_taken" in await login.sign_in(403, preferred_username="berta")
    await login.sign_in(200)
    assert "console.name_taken" in await login.sign_in(403, sub="another")


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": [CLIENT, "another client"]},
        {"aud": [CLIENT, "another client"], "azp": "another client"},
        {"iss": "https://elsewhere.example"},
        {"exp": 1},
        {"sub": None},
    ],
)
async def test_a_token_that_is_not_for_this_sign_in_is_refused(login: Login, claims: dict[str, Any]) -> None:
    assert "console.openid" in await login.sign_in(403, **claims)
    assert login.provider.exchanged == 1
    await login.text("/console/account", 303)


async def test_an_answer_that_is_not_for_this_browser_or_provider_is_refused(login: Login) -> None:
    login.provider.claims = ANNA
    for answer in ({"iss": "https://elsewhere.example"}, {"state": "guessed"}):
        login.provider.answer = answer
        assert "console.openid" in await login.text(await login.start(), 403)
    login.provider.answer = {}
    url = await login.start()
    for wrong in (re.sub(r"&iss=[^&]*", "", url), re.sub(r"code=[^&]*", "error=access_denied", url)):
        assert "console.openid" in await login.text(wrong, 403)
    assert login.provider.exchanged == 0
    login.browser.cookie_jar.clear()
    assert "console.openid" in await login.text(url, 403)
    late = await login.start()
    login.gate.hand.at += 10 * 60_000
    assert "console.openid" in await login.text(late, 403)
    login.provider.signing = RSAKey.generate_key(2048, {"kid": "one"})
    assert "console.openid" in await login.text(await login.start(), 403)
    assert await login.gate.app.people.infos() == []


async def test_a_code_is_used_once(login: Login) -> None:
    login.provider.claims = ANNA
    url = await login.start()
    cookies = [*login.browser.cookie_jar]
    await login.text(url)
    login.browser.cookie_jar.clear()
    login.browser.cookie_jar.update_cookies({cookie.key: cookie.value for cookie in cookies})
    assert "console.openid" in await login.text(url, 403)
