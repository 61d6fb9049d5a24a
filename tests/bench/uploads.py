"""The speed of checks while clients upload call lists.

One client checks one call at a time: first alone, then while two others keep eight uploads of 6.5 MB in flight.
Meanwhile an enrolment is published, a revocation is recorded and a list is retired. For each change, the benchmark
measures the time until a check is denied because of it.
"""

import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from dialgate.core.model import DAY, HOUR
from dialgate.runtime.clock import wall_clock
from dialgate.tools.bench import Figure, servers
from tests.bench import background, compare_times
from tests.support.world import CALLER, KEY, SCOPES, client, publish_answers, write_folder

SECONDS: Final = 10.0
UPLOADS, ROWS = 8, 500_000  # each row has 13 bytes
LOADERS: Final = ("key-of-one", "key-of-another")
_NUMBERS: Final = [f"+3906{number}" for number in range(10_000_000, 10_002_000)]
_ENROLLED, _STOPPED, _RETIRED = "+390298765431", "+390298765432", "+390298765433"
_ORIGIN: Final = {
    "campaigns": ["acme-fibre"],
    "basis": "directory",
    "collected_by": "Acme",
    "collected_on": "2026-10-01",
}


def run() -> Iterator[Figure]:
    clients = [client("tests", KEY, *SCOPES)]
    clients += [client(f"loader-{place}", key, "lists") for place, key in enumerate(LOADERS)]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        config = write_folder(Path(folder), clients=clients)
        publish_answers(
            data, dict.fromkeys([*_NUMBERS, _ENROLLED, _STOPPED, _RETIRED], False), wall_clock() - DAY
        )
        with servers.gate(config) as gate:
            alone = asyncio.run(_alone(gate.port))
            yield from compare_times("uploads.quiet_check", alone, None)
            with background("-m", "tests.bench.uploads", str(gate.port)):
                busy, bound = asyncio.run(_busy(gate.port, data))
            yield from compare_times("uploads.uploads_check", busy, alone)
            for what, seconds in bound.items():
                yield Figure(f"uploads.bind_{what}", round(seconds, 3), "s")
            yield Figure("uploads.gate_memory", _peak(gate.pid), "MB")


def _peak(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


# ---- measured client -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _session(port: int) -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
        yield session


async def _alone(port: int) -> list[float]:
    async with _session(port) as session:
        for name, numbers in (("all", [*_NUMBERS, _ENROLLED, _STOPPED]), ("short", [_RETIRED])):
            await _post(session, "/v1/lists", {**_ORIGIN, "id": name, "numbers": numbers})
        return await _checks(session, time.monotonic() + SECONDS)


async def _busy(port: int, data: Path) -> tuple[list[float], dict[str, float]]:
    async with _session(port) as session:
        measuring = asyncio.create_task(_checks(session, time.monotonic() + 3 * SECONDS))
        enrolment = await _bound(session, _ENROLLED, "registry.listed", lambda: _enrol(data))
        stop = {"number": _STOPPED, "channel": "mail", "proof": "mail/1"}
        revocation = await _bound(
            session, _STOPPED, "revocation.", lambda: _post(session, "/v1/revocations", stop)
        )
        retired = await _bound(
            session, _RETIRED, "list.unknown", lambda: _post(session, "/v1/lists/short/retire", {})
        )
        return await measuring, {"enrolment": enrolment, "stop": revocation, "retirement": retired}


async def _bound(
    session: ClientSession, number: str, code: str, act: Callable[[], Awaitable[object]]
) -> float:
    """Call `act`. Return the seconds until a check of `number` is denied with a reason that begins with `code`.

    The time is measured from the `perf_counter` value that `act` returns, or from the call to `act` if it returns no
    float.
    """
    begun = time.perf_counter()
    published = await act()
    begun = published if isinstance(published, float) else begun
    while True:
        answer = await _post(session, "/v1/check", _call(number))
        if any(reason["code"].startswith(code) for reason in answer.get("reasons", ())):
            return time.perf_counter() - begun


async def _enrol(data: Path) -> float:
    """Publish an enrolment in a thread. Return the time after publication, so that publishing is not measured."""
    answers = {_ENROLLED: True}
    await asyncio.to_thread(publish_answers, data, answers, wall_clock() - 3 * HOUR)
    return time.perf_counter()


async def _checks(session: ClientSession, ends: float) -> list[float]:
    times: list[float] = []
    for number in itertools.cycle(_NUMBERS):
        if time.monotonic() > ends:
            return times
        begun = time.perf_counter()
        await _post(session, "/v1/check", _call(number))
        times.append(time.perf_counter() - begun)
    return times


async def _post(session: ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(path, json=body) as answer:
        result: dict[str, Any] = await answer.json()
        assert answer.status in {200, 201}, result
        return result


def _call(number: str) -> dict[str, str]:
    return {"to": number, "from": CALLER, "campaign": "acme-fibre"}


# ---- uploads, in a separate process ----------------------------------------------------------------------------------


async def _send(port: int) -> None:
    rows = "".join(f"+3902{number}\n" for number in range(10_000_000, 10_000_000 + ROWS)).encode()
    print("begins", flush=True)  # noqa: T201 - to the process that measures
    timeout, connector = ClientTimeout(total=None), TCPConnector(limit=0)
    async with ClientSession(f"http://127.0.0.1:{port}", timeout=timeout, connector=connector) as session:
        await asyncio.gather(*(_repeat(session, rows, place) for place in range(UPLOADS)))


async def _repeat(session: ClientSession, rows: bytes, place: int) -> None:
    headers = {"Content-Type": "text/csv", "Authorization": f"Bearer {LOADERS[place % len(LOADERS)]}"}
    for turn in itertools.count():
        query = {**_ORIGIN, "id": f"list-{place}-{turn}"}
        async with session.post("/v1/lists", params=query, data=BytesIO(rows), headers=headers) as answer:
            assert answer.status == 201, await answer.text()


if __name__ == "__main__":
    asyncio.run(_send(int(sys.argv[1])))
