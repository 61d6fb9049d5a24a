"""Tests that send raw bytes on one connection.

The body of each response is as long as its headers say, so a client never reads its last bytes as the next response.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dialgate.interfaces import http_application
from tests.support import console_world, world
from tests.support.world import CALLER, CLEAR, KEY, World

SCOPES = (*world.SCOPES, "stream", "subjects", "watch", "admin")
NEXT = b"GET /healthz HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"
QUERIES = {
    "/v1/decisions": f"?number=%2B{CLEAR[1:]}&purpose=test",
    "/v1/check.txt": f"?to=%2B{CLEAR[1:]}&from=%2B{CALLER[1:]}&campaign=acme-fibre",
    "/v1/check.form": f"?to=%2B{CLEAR[1:]}&from=%2B{CALLER[1:]}&campaign=acme-fibre",
    "/v1/revocations/stream": "?after=0",
}
PROOF = b'{"caller_id": "%b", "kind": "probe", "evidence": "called back"}' % CALLER.encode()


@pytest.fixture
async def open_gate(tmp_path: Path) -> AsyncIterator[World]:
    clients = [world.client("tests", KEY, *SCOPES)]
    async with world.running(tmp_path, clients=clients, operations={"port": 0}) as made:
        await world.load_list(made)
        yield made


def paths(made: World) -> Iterator[str]:
    """Return one example path for each route, whatever its method."""
    for resource in http_application.build(made.app, CollectorRegistry()).router.resources():
        path = resource.canonical
        names = {
            "id": "x",
            "node": "x",
            "seq": "1",
            "profile": "generic",
            "number": CLEAR,
            "name": "console.css",
            "path": "no",
            "code": "no",
            "sha256": "a" * 64,
        }
        for name, value in (*names.items(), ("rest", "no")):
            path = path.replace(f"{{{name}}}", value)
        assert "{" not in path, path
        yield path


async def exchange(port: int, *requests: bytes) -> bytes:
    """Send the requests at once. Return all bytes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.writelines(requests)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


def head(path: str, *headers: str, version: str = "1.1") -> bytes:
    lines = (f"HEAD {path} HTTP/{version}", "Host: gate", f"Authorization: Bearer {KEY}", *headers, "", "")
    return "\r\n".join(lines).encode()


def second(raw: bytes) -> bytes:
    """Return the bytes after the head of the first response."""
    first, found, rest = raw.partition(b"\r\n\r\n")
    assert found
    assert first.startswith(b"HTTP/1.1 ")
    return rest


async def test_no_route_answers_head_with_a_body(open_gate: World) -> None:
    tested = sorted(set(paths(open_gate)))
    assert {"/v1/decisions", "/metrics", "/console/login", "/v1/revocations/stream"} <= set(tested)
    for path in tested:
        raw = await exchange(open_gate.port, head(path + QUERIES.get(path, "")), NEXT)
        follows = second(raw)
        assert follows.startswith(b"HTTP/1.1 200 OK\r\n"), (path, raw)
        assert follows.endswith(b"\r\n\r\nok"), (path, raw)


async def test_no_response_names_the_versions_of_the_server(open_gate: World) -> None:
    operations = await http_application.start_operations(open_gate.app, open_gate.registry)
    try:
        for port, asked in (
            *((open_gate.port, head(path)) for path in sorted(set(paths(open_gate)))),
            (open_gate.port, head("/v1/check", "Expect: x")),
            (open_gate.port, b"no HTTP\r\n\r\n"),
            (open_gate.port, b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n"),
            (operations.addresses[0][1], head("/metrics")),
        ):
            first = (await exchange(port, asked, NEXT)).partition(b"\r\n\r\n")[0]
            assert first.startswith(b"HTTP/1."), asked
            assert b"aiohttp" not in first, first
            assert b"python" not in first.lower(), first
    finally:
        await operations.cleanup()


async def test_head_has_the_content_length_of_get(open_gate: World) -> None:
    """The handler creates the body, and the server omits it."""
    path = "/v1/lists"
    first = (await exchange(open_gate.port, head(path), NEXT)).partition(b"\r\n\r\n")[0]
    get = head(path, "Connection: close").replace(b"HEAD ", b"GET ", 1)
    body = (await exchange(open_gate.port, get)).partition(b"\r\n\r\n")[2]
    assert b"Content-Length: %d\r\n" % len(body) in first + b"\r\n"
    assert body


async def test_errors_and_pages_of_a_signed_in_visitor_have_no_body_for_head(tmp_path: Path) -> None:
    async with console_world.running_console(tmp_path) as made:
        cookie = await consoleworld_cookie(made)
        for path in ("/console", "/console/board", "/console/events", "/console/no", "/console/lookup"):
            raw = await exchange(made.port, head(path, f"Cookie: {cookie}"), NEXT)
            assert second(raw).startswith(b"HTTP/1.1 200 OK\r\n"), (path, raw)


async def consoleworld_cookie(made: World) -> str:
    url = f"http://127.0.0.1:{made.port}/console/login"
    body = {"key": console_world.OFFICER, "next": ""}
    async with made.client.post(url, data=body, allow_redirects=False) as answer:
        assert answer.status == 303
        return f"dialgate-console={answer.cookies['dialgate-console'].value}"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/caller-ids/proofs", PROOF, b"204"),
        ("GET", "/console/assets/console.css", b"", b"304"),
        ("POST", "/v1/check", b"{", b"400"),
        ("POST", "/v1/checks", b'{"calls":[]}', b"200"),
    ],
)
async def test_a_response_ends_where_its_head_says(
    open_gate: World, method: str, path: str, body: bytes, status: bytes
) -> None:
    async with open_gate.client.get("/console/assets/console.css") as asset:
        tag = asset.headers.get("ETag", "")
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: gate",
        f"Authorization: Bearer {KEY}",
        f"If-None-Match: {tag}",
    )
    asked = "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body
    raw = await exchange(open_gate.port, asked, NEXT)
    first, _, rest = raw.partition(b"\r\n\r\n")
    assert first.split()[1] == status
    headers = dict(line.lower().split(b": ", 1) for line in first.split(b"\r\n")[1:])
    rest = rest[0 if status in {b"204", b"304"} else int(headers[b"content-length"]) :]
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n"), raw
