"""The effect of one client's flood of requests on another client.

The measured client checks one call at a time and sometimes writes a revocation. It is measured three times: alone,
while the flooding client keeps ten batches of 10,000 calls in flight, and while that client keeps 400 streams open.
"""

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from dialgate.tools.bench import Figure, servers, world
from dialgate.tools.bench.world import CALLER_ID, CAMPAIGN
from tests.bench import COUNTRIES, background, compare_times

QUIET, FLOOD = "key-quiet", "key-flood"
BATCHES, BATCH = 10, 10_000
STREAMS, WINDOW = 400, 256
SECONDS: Final = 10.0
_FIRST: Final = 390_630_000_000


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        config = world.write_config(Path(folder), COUNTRIES, clients=_clients(), sip=None)
        with servers.gate(config) as gate:
            alone = asyncio.run(_probe(gate.port, SECONDS))
            for what, times in alone.items():
                yield from compare_times(f"fairness.alone.{what}", times, None)
            for kind in ("batches", "streams"):
                with background("-m", "tests.bench.fairness", str(gate.port), kind):
                    flooded = asyncio.run(_probe(gate.port, SECONDS))
                for what, times in flooded.items():
                    yield from compare_times(f"fairness.{kind}.{what}", times, alone[what])


def _clients() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "controllers": [world.CLIENT],
            "scopes": ["check", "revoke"],
            "key_sha256": sha256(key.encode()).hexdigest(),
        }
        for name, key in ((world.CLIENT, QUIET), ("flood", FLOOD))
    ]


# ---- measured client -------------------------------------------------------------------------------------------------


async def _probe(port: int, seconds: float) -> dict[str, list[float]]:
    """Return the duration of each check and each revocation, sent one at a time."""
    checks: list[float] = []
    stops: list[float] = []
    headers = {"Authorization": f"Bearer {QUIET}"}
    async with ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
        ends = time.monotonic() + seconds
        for turn in itertools.count():
            if time.monotonic() > ends and len(stops) > 1:
                break
            number = f"+{_FIRST + 50_000_000 + turn}"
            checks.append(await _timed(session, "/v1/check", _call(number)))
            if turn % 20 == 0:
                stop = {"number": number, "channel": "mail", "proof": f"mail/{turn}"}
                stops.append(await _timed(session, "/v1/revocations", stop))
    return {"check": checks, "stop": stops}


async def _timed(session: ClientSession, path: str, body: dict[str, str]) -> float:
    begun = time.perf_counter()
    async with session.post(path, json=body) as answer:
        await answer.read()
        assert answer.status in {200, 201}, await answer.text()
    return time.perf_counter() - begun


def _call(number: str) -> dict[str, str]:
    return {"to": number, "from": CALLER_ID, "campaign": CAMPAIGN}


# ---- flooding client, in a separate process --------------------------------------------------------------------------


async def _send(port: int, kind: str) -> None:
    headers = {"Authorization": f"Bearer {FLOOD}"}
    timeout, connector = ClientTimeout(total=None), TCPConnector(limit=0)
    url = f"http://127.0.0.1:{port}"
    async with ClientSession(url, headers=headers, timeout=timeout, connector=connector) as session:
        if kind == "batches":
            bodies = [_batch(place) for place in range(BATCHES)]
            print("begins", flush=True)  # noqa: T201 - to the process that measures
            await asyncio.gather(*(_repeat(session, body) for body in bodies))
        else:
            print("begins", flush=True)  # noqa: T201 - as above
            await asyncio.gather(*(_stream(session, place) for place in range(STREAMS)))


def _batch(place: int) -> bytes:
    calls = [_call(f"+{_FIRST + place * BATCH + number}") for number in range(BATCH)]
    return msgspec.json.encode({"calls": calls})


async def _repeat(session: ClientSession, body: bytes) -> None:
    while True:
        async with session.post("/v1/checks", data=body) as answer:
            await answer.read()


async def _stream(session: ClientSession, place: int) -> None:
    lines = b"".join(
        msgspec.json.encode(_call(f"+{_FIRST + place * WINDOW + number}")) + b"\n" for number in range(WINDOW)
    )

    async def endless() -> Any:
        while True:
            yield lines

    headers = {"Content-Type": "application/x-ndjson"}
    with suppress(ClientError):  # refused: the other streams continue
        async with session.post("/v1/checks", data=endless(), headers=headers) as answer:
            async for _ in answer.content.iter_any():
                pass


if __name__ == "__main__":
    asyncio.run(_send(int(sys.argv[1]), sys.argv[2]))
