"""A web page in a browser on a machine that needs no key changes nothing and reads nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from dialgate.interfaces import http_application
from tests.support import world
from tests.support.chromium import needs_chromium, running_chromium
from tests.support.world import CALL, KEY, LISTED, SCOPES, World

EVIL = "evil.example"
STOP = {"number": LISTED, "channel": "mail", "proof": "mail/1"}


@pytest.fixture
async def open_gate(tmp_path: Path) -> AsyncIterator[World]:
    """Run a gate whose client on this machine needs no key."""
    clients: list[Any] = [
        {"name": "local", "controllers": ["acme"], "scopes": list(SCOPES), "sources": ["127.0.0.1/32"]},
        world.client("keyed", KEY, *SCOPES),
    ]
    async with world.running(
        tmp_path, clients=clients, hosts=["gate.example"], operations={"port": 0}
    ) as made:
        yield made


OWN: list[dict[str, str]] = [
    {},
    {"Host": "127.0.0.1"},
    {"Host": "[::1]:8080"},
    {"Host": "LOCALHOST:8080"},
    {"Host": "gate.example:8080"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Host": "gate.example", "Origin": "https://gate.example"},
]
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Host": EVIL, "Origin": f"http://{EVIL}", "Sec-Fetch-Site": "same-origin"},
    {"Host": f"{EVIL}:8080"},
    {"Host": "gate.example.evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "127.0.0.1@evil.example"},
    {"Host": "[::1"},
    {"Host": ""},
]


@pytest.mark.parametrize(
    ("headers", "status"), [*((sent, 200) for sent in OWN), *((sent, 403) for sent in FOREIGN)]
)
async def test_a_request_without_a_key_comes_from_no_page_of_another_site(
    open_gate: World, headers: dict[str, str], status: int
) -> None:
    url = f"http://127.0.0.1:{open_gate.port}"
    async with ClientSession(url, headers=headers) as plain:
        async with plain.post("/v1/check", json=CALL) as answer:
            assert (answer.status, b"auth.web_page" in await answer.read()) == (status, status == 403)
        async with plain.get("/readyz") as answer:
            assert (await answer.json()).keys() == ({"ready"} if status == 403 else ALL_OF_READYZ)
    keyed = {**headers, "Authorization": f"Bearer {KEY}"}  # which a page cannot have
    async with ClientSession(url, headers=keyed) as session, session.post("/v1/check", json=CALL) as answer:
        assert answer.status == 200


ALL_OF_READYZ = {
    "ready", "problems", "node", "version", "config", "laws", "snapshot", "records", "nodes"
}  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "status"), [*((sent, 200) for sent in OWN), *((sent, 403) for sent in FOREIGN)]
)
async def test_the_operations_listener_serves_no_page_of_another_site(
    open_gate: World, headers: dict[str, str], status: int
) -> None:
    runner = await http_application.start_operations(open_gate.app, open_gate.registry)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with ClientSession(url, headers={**headers, "Authorization": "Bearer x"}) as plain:
            for path in ("/metrics", "/openapi.json"):
                async with plain.get(path) as answer:
                    assert answer.status == status
            async with plain.get("/readyz") as answer:
                detailed = len(await answer.json()) > 1
                assert (answer.status, detailed) == (200, status == 200)
            async with plain.get("/healthz") as answer:
                assert answer.status == 200
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v1/check.txt?to=1&from=1&campaign=x HTTP/1.0\r\n", b"200"),
        (b"GET /v1/check.txt?to=1&from=1&campaign=x HTTP/1.1\r\n", b"400"),
        (b"GET /v1/check.txt?to=1&from=1&campaign=x HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n", b"400"),
    ],
)  # fmt: skip
async def test_only_old_clients_may_leave_out_the_host(open_gate: World, head: bytes, status: bytes) -> None:
    """Every browser sends `Host`, and HTTP/1.1 demands it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", open_gate.port)
    writer.write(head + b"Connection: close\r\n\r\n")
    assert (await reader.read()).split()[1] == status
    writer.close()
    await writer.wait_closed()


PAGE = """<script>
const calls = [
  fetch(GATE + "/v1/revocations/1/lift", {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"},
                                         body: JSON.stringify({ground: "error", reason: "a reason"})}),
  fetch(GATE + "/v1/revocations", {method: "POST", mode: "no-cors", body: JSON.stringify(STOP)}),
  fetch(GATE + "/v1/check.txt?to=x&from=x&campaign=x", {mode: "no-cors"}),
  fetch(OPERATIONS + "/metrics").then(answer => answer.text()),
];
Promise.allSettled(calls).then(ended => fetch("/done", {method: "POST", body: JSON.stringify(ended.map(one => one.value || ""))}));
</script>"""


@needs_chromium
@pytest.mark.parametrize("rebound", [False, True])
async def test_a_page_in_a_real_browser_lifts_no_stop(open_gate: World, rebound: bool) -> None:
    """The page either calls the gate's address, or is on a host name that leads to the gate."""
    receipt = await open_gate.post("/v1/revocations", STOP)
    operations = await http_application.start_operations(open_gate.app, open_gate.registry)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ports = {"GATE": open_gate.port, "OPERATIONS": operations.addresses[0][1]}

    async def page(_: web.Request) -> web.Response:
        text = PAGE.replace("/revocations/1/", f"/revocations/{receipt['seq']}/")
        text = text.replace("STOP", str({**STOP, "proof": "from a page"}))
        for name, port in ports.items():
            text = text.replace(name, f"'http://{EVIL if rebound else '127.0.0.1'}:{port}'")
        return web.Response(text=text, content_type="text/html")

    async def done(request: web.Request) -> web.Response:
        ended.set_result(await request.text())
        return web.Response()

    site = web.Application()
    site.add_routes([web.get("/", page), web.post("/done", done)])
    runner = web.AppRunner(site)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    port = runner.addresses[0][1]
    rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
    try:
        async with running_chromium(rules) as browser:
            await (await browser.new_page()).goto(f"http://{EVIL}:{port}/")
            assert "dialgate_" not in await asyncio.wait_for(ended, 20)
    finally:
        await runner.cleanup()
        await operations.cleanup()
    query = f"number=%2B{LISTED[1:]}&purpose=test&controller=acme"
    entries = (await open_gate.get(f"/v1/revocations?{query}"))["entries"]
    assert [(entry["seq"], entry["kind"]) for entry in entries] == [(receipt["seq"], "revoked")]
    assert open_gate.records() == []
