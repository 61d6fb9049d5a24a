"""Called numbers never appear in log lines, metrics, spans, or on any console page except the look-up of a number.

The test sends numbers of every kind to every listener, and opens the pages as a user of every role. It then searches
all output for the numbers.
"""

import asyncio
import gzip
import json
import re
import signal
import sys
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession, CookieJar, FormData, web
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dialgate.core.model import DAY
from dialgate.interfaces.console import routes
from dialgate.runtime.clock import wall_clock
from dialgate.tools.conformance.asterisk import Channel, agi
from tests.observability.test_metrics import OPEN, check
from tests.support.paths import ROOT
from tests.support.world import CALL, CALLER, KEY, LIST, SCOPES, client, publish_answers, write_folder

CLEAR, LISTED = "+390687651204", "+390687651205"  # numbers that no example has
STRANGE = ["+390612349912", "06 1234 9913", "+39 333 1234567 ext. 5", "tel:+393331234567", "0039061234991x"]
NUMBERS = (CLEAR, LISTED, *STRANGE)
ROLES = {
    "agent": ("simulate", "revoke"),
    "supervisor": ("simulate", "revoke", "watch", "lists"),
    "officer": ("simulate", "revoke", "watch", "lists", "read", "subjects", "officer"),
}
DOORS = {"name": "sbc", "controllers": ["acme"], "scopes": ["check", "revoke"], "sources": ["127.0.0.1/32"]}


class Collector:
    """An OpenTelemetry collector that records spans."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        return web.Response(body=b"", content_type="application/x-protobuf")

    def exported_spans(self) -> str:
        parts = [gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body for body in self.bodies]
        return "\n".join(str(ExportTraceServiceRequest.FromString(part)) for part in parts)


def digits_of(text: str) -> str:
    """Return the text without the separators between its digits, and with the digits of every script in ASCII."""
    if not text.isascii():
        text = "".join(
            str(unicodedata.digit(character)) if character.isdigit() else character for character in text
        )
    return re.sub(r"(?<=\d)[\W_]+(?=\d)", "", text)


def has_number(digits: str, number: str) -> bool:
    """Return whether a text contains the number, with any separators and in any script. `digits` is its `digits_of`."""
    return re.sub(r"\D", "", number)[-9:] in digits


def list_spellings(number: str) -> list[str]:
    """Generate the number in the ways that people and programs write it."""
    digits = re.sub(r"\D", "", number)
    parts = [digits[:2], digits[2:5], digits[5:8], digits[8:]]
    zero_width = "\u200b".join(parts)
    arabic = digits.translate({ord("0") + value: chr(0x660 + value) for value in range(10)})
    return [
        *(mark.join(parts) for mark in " .-/_"),
        f"+({parts[0]}) {parts[1]}/{parts[2]}--{parts[3]}",
        zero_width,
        arabic,
    ]


def stored(data: Path) -> dict[str, str]:
    """Return the text of each file in the data folder, by path.

    Call lists and registry answers are excluded, because they contain numbers by design.
    """
    found = [
        path for path in data.rglob("*") if path.is_file() and not {"lists", "snapshots"} & set(path.parts)
    ]
    return {
        str(path.relative_to(data)): path.read_bytes().decode("utf-8", "backslashreplace") for path in found
    }


class Running(Struct, frozen=True):
    """A running gate. `lines` contains the output so far; once the gate has ended, all output."""

    ready: dict[str, str]
    lines: list[bytes]

    def port(self, door: str) -> int:
        return int(self.ready[door].rpartition(":")[2])


@asynccontextmanager
async def gate(folder: Path, traces_to: str) -> AsyncIterator[Running]:
    """Run a gate with all listeners and the most verbose log."""
    path = write_folder(
        folder,
        clients=[
            client("tests", KEY, *SCOPES, "subjects"),
            DOORS,
            *(client(role, f"key-{role}", *scopes) for role, scopes in ROLES.items()),
        ],
        service_log={"format": "json", "level": "debug"},
        traces={"endpoint": traces_to, "share": 1.0},
        fastagi={"port": 0, "deadline_seconds": 5},
        checkpoint_seconds=0.001,
    )
    publish_answers(folder / "data", {CLEAR: False, LISTED: True}, wall_clock() - DAY)
    words = (sys.executable, "-m", "dialgate", "serve", "--config", str(path))
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    lines: list[bytes] = []
    async for line in process.stderr:
        lines.append(line)
        if json.loads(line)["event"] == "ready":
            break
    reading = asyncio.create_task(process.stderr.read())
    try:
        yield Running(json.loads(lines[-1]), lines)
    finally:
        process.send_signal(signal.SIGTERM)
        lines.append(await reading)
        assert await process.wait() == 0


# ---- listeners and users ---------------------------------------------------------------------------------------------


async def by_http(url: str) -> None:
    """Send calls of every kind, valid and malformed, to every HTTP endpoint."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with ClientSession(url, headers=headers) as session:
        async with session.post("/v1/lists", json=LIST | {"numbers": [CLEAR, LISTED]}) as answer:
            assert answer.status == 201, await answer.text()
        for number in NUMBERS:
            response = await check(session, to=number, call_id=number)
            if response.get("decision") == "allow":
                report = {"decision_id": response["decision_id"], "outcome": "opt_out"}
                await (await session.post("/v1/outcomes", json=report)).read()
            await (await session.post("/v1/check", json={**CALL, "campaign": number, "from": number})).read()
            await (await session.get("/v1/check.txt", params={**CALL, "to": number})).read()
            await (await session.post("/v1/check", data=f'{{"to": "{number}"')).read()
            await (await session.get(f"/v1/subjects/{number}", params={"purpose": number})).read()
            await (await session.get("/v1/decisions", params={"number": number, "purpose": "x"})).read()
            await (await session.post("/v1/revocations", json={"number": number, "channel": "call"})).read()
            await (await session.post("/v1/consents", json={"number": number, "id": number})).read()
            await (await session.get(f"/{number}")).read()
            await send_swapped(session, number)
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(f"{number} is not HTTP\r\n\r\n".encode())
            await writer.drain()
            writer.close()


async def send_swapped(session: ClientSession, number: str) -> None:
    """Send requests with the called number and the caller ID swapped, and with the number in free-text fields."""
    mistaken = {**CALL, "to": CALLER, "from": number}
    for text in [number, *list_spellings(number)]:
        await (await session.post("/v1/check", json={**mistaken, "call_id": text[:256]})).read()
        await (await session.post("/v1/check", json={**mistaken, "campaign": text})).read()
        await (await session.post("/v1/check", json={**CALL, "to": number, "call_id": text})).read()
        words = {"number": number, "actor": text, "proof": text, "channel": text, "campaign": text}
        await (await session.post("/v1/revocations", json=words)).read()
        await (
            await session.post("/v1/lists", json=LIST | {"id": text, "source": text, "numbers": [number]})
        ).read()


async def of_operations(url: str) -> str:
    async with ClientSession(url, headers={"Authorization": f"Bearer {KEY}"}) as session:
        paths = ("/metrics", "/readyz", "/healthz", "/openapi.json")
        return "\n".join([await (await session.get(path, headers=OPEN)).text() for path in paths])


async def by_agi(port: int) -> None:
    for number in NUMBERS:
        for script, more in (("check", ("acme-fibre",)), ("check", (number,)), ("revoke", ()), (number, ())):
            channel = Channel(extension=number, caller=CALLER)
            await agi(channel, f"agi://127.0.0.1:{port}/{script}", number, CALLER, *more)


async def by_console(url: str, role: str) -> dict[str, str]:
    """Return all pages and form responses that a user of the role can see, except the look-up of a number."""
    pages: dict[str, str] = {}
    jar, headers = CookieJar(unsafe=True), {"Sec-Fetch-Site": "same-origin"}
    async with ClientSession(url, cookie_jar=jar, headers=headers) as session:
        await (await session.post("/console/login", data={"key": f"key-{role}"})).read()
        token = re.search(r'name="token" value="([^"]+)', await (await session.get("/console/try")).text())
        assert token
        for number in NUMBERS:
            await _forms(session, number, token[1])
        response = ""
        if "watch" in ROLES[role]:
            async with asyncio.timeout(10), session.get("/console/events") as stream:
                while '"rows":[{' not in response:
                    response += (await stream.content.readuntil(b"\n\n")).decode()
            pages["events"] = response
        ids = re.findall(r'"id":"([0-9a-f]{8}-[0-9]+)"', response)
        assert bool(ids) == bool(response)
        paths = [
            route.path for route in routes._ROUTES if route.method == "GET" and "events" not in route.path
        ]
        for path in [
            *paths,
            "/console/nothing",
            *(f"/console/decisions/{decision_id}" for decision_id in ids),
        ]:
            async with session.get(path.replace("{id}", "0")) as page:
                pages[path] = await page.text()
    return pages


async def _forms(session: ClientSession, number: str, token: str) -> None:
    """Submit every form. Ignore the responses, because a form can show users their own input."""
    fields = {
        "token": token,
        "number": number,
        "to": number,
        "from": CALLER,
        "campaign": "acme-fibre",
        "id": number,
    }
    fields |= {
        "purpose": number,
        "kind": "access",
        "identified": number,
        "outcome": "answered",
        "reason": number,
    }
    for route in routes._ROUTES:
        if route.method == "POST":
            body = FormData(fields)
            if route.path == "/console/lists":
                body.add_field("file", f"{number}\n".encode(), filename=f"{number}.csv")
            await (await session.post(route.path.replace("{id}", "0"), data=body)).read()


async def looked_up(url: str) -> str:
    """Look up a number as an officer, and return the result page. The other roles have no access to look-ups."""
    jar, headers = CookieJar(unsafe=True), {"Sec-Fetch-Site": "same-origin"}
    async with ClientSession(url, cookie_jar=jar, headers=headers) as session:
        await (await session.post("/console/login", data={"key": "key-officer"})).read()
        token = re.search(r'name="token" value="([^"]+)', await (await session.get("/console/lookup")).text())
        assert token
        fields = {"token": token[1], "number": CLEAR, "purpose": "a letter"}
        async with session.post("/console/lookup", data=fields) as page:
            return await page.text()


# ---- the output ------------------------------------------------------------------------------------------------------


async def test_called_numbers_are_not_shown_without_permission(tmp_path: Path) -> None:
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with gate(tmp_path, f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces") as running:
        url = running.ready["url"]
        await by_http(url)
        await by_agi(running.port("fastagi"))
        said: dict[str, str] = {}
        for role in ROLES:
            said |= {f"{role}: {path}": text for path, text in (await by_console(url, role)).items()}
        said["metrics"] = await of_operations(url)
        assert has_number(digits_of(await looked_up(url)), CLEAR), "to an officer, who said why"
    await runner.cleanup()
    said |= {"log": b"".join(running.lines).decode(), "traces": collector.exported_spans()}
    for interface in ("http", "fastagi"):
        assert f'interface="{interface}"' in said["metrics"], "it was asked by this door"
    assert said["log"].count('"decided"') > 30
    assert said["traces"].count('name: "check"') > 30
    said |= stored(tmp_path / "data")
    found = [
        (where, number)
        for where, text in said.items()
        for digits in [digits_of(text)]
        for number in NUMBERS
        if has_number(digits, number)
    ]
    assert found == []


def test_a_number_is_found_in_any_notation() -> None:
    texts = [f"said {CLEAR[:6]} {CLEAR[6:]} and more", *(f"a {text} b" for text in list_spellings(CLEAR))]
    assert all(has_number(digits_of(text), CLEAR) for text in texts)
    assert not has_number(digits_of("4711 and 4712"), CLEAR)
