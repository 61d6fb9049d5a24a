"""A body with a request in each line: each has the effect and the answer of the request alone, and none is lost or written twice."""

import asyncio
import os
import random
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout
from msgspec import structs

from dialgate.config import loader
from dialgate.core.ledger_events import Entry, Revoked
from dialgate.core.local_time import instant_of
from dialgate.core.model import SECOND
from dialgate.ledger import request_lines
from dialgate.ledger.entry_limit import MOST
from dialgate.store import factory
from tests.support import world
from tests.support.running_gate import HUNG_UP, RunningGate, kill, serving
from tests.support.world import CALL, CLEAR, KEY, LISTED, client, running

KILLS = int(os.environ.get("DIALGATE_KILLS", "1"))
LONG = ClientTimeout(total=300)
NDJSON = {"Content-Type": "application/x-ndjson"}
CONSENT = {
    "number": CLEAR, "id": "form-1", "collected_at": "2026-11-01T10:00:00Z", "purposes": ["sale"],
    "goods": ["broadband"], "call_types": ["agent"], "artefact": "a.pdf", "artefact_sha256": "a" * 64,
}  # fmt: skip
ORIGIN = {"collected_by": "Lists Ltd", "collected_on": "2026-10-01"}
CONTRACT = {"number": CLEAR, "id": "C-1", "starts": "2026-01-15", "sector": "telecommunications"}
REQUEST = {
    "number": CLEAR, "id": "web-1", "requested_at": "2026-11-23T09:00:00Z", "expires_at": "2026-12-20T09:00:00Z",
    "goods": "broadband", "own_interface": True, "proof": "web/1",
}  # fmt: skip
# Of each path, requests that are in order and requests that are not. Texts are lines as they are sent.
CASES: dict[str, list[dict[str, Any] | str]] = {
    "/v1/consents": [
        CONSENT, CONSENT, CONSENT | {"id": "form-2", "artefact_sha256": ""}, CONSENT | {"id": "form-1", "goods": ["tv"]},
        CONSENT | {"id": "3", "origin": ORIGIN, "third_party": True, "actor": "anna", "channel": "crm", "proof": "t 1"},
        CONSENT | {"id": f"about {CLEAR}", "text_version": "0612345678"}, CONSENT | {"controller": "acme", "id": "4"},
        CONSENT | {"controller": "others"}, CONSENT | {"number": "12"}, CONSENT | {"number": "06 1234 5678", "id": "5"},
        CONSENT | {"collected_at": "2027-11-01T10:00:00Z"}, CONSENT | {"collected_at": "yesterday"}, CONSENT | {"purposes": ["x"]},
        CONSENT | {"place": "US-XX"}, CONSENT | {"rectify": ["nonsense"]}, CONSENT | {"artefakt": "a.pdf"}, {"number": CLEAR},
        "nonsense", '{"number":"+390612345678","number":"+390612345679"}', "[]", '{"id":"\\ud800"}',
        CONSENT | {"id": "6", "origin": ORIGIN | {"transfers": [{"to": "acme", "on": "2026-10-02", "to_be": 1}]}},
    ],
    "/v1/contracts": [CONTRACT, CONTRACT | {"sector": "nonsense"}, CONTRACT, CONTRACT | {"id": "C-2", "marketing": True}],
    "/v1/call-requests": [REQUEST, REQUEST, REQUEST | {"id": "2", "goods": "none"}, REQUEST | {"number": 390612345678}],
    "/v1/revocations": [
        {"number": CLEAR}, {"number": LISTED, "scope": "campaign", "campaign": "gone"}, {"number": LISTED, "at": "2099-01-01T00:00:00Z", "channel": "letter"},
        {"number": "06 1234 5678", "channel": "crm", "odd": 1}, {"number": "no number"}, {"scope": "controller"},
        {"number": CLEAR, "scope": "everyone"}, {"number": LISTED, "scope": "campaign", "campaign": "acme-fibre", "channel": "sms"},
        {"number": 390612345679, "channel": "fax"}, {"number": "0612345678/0612345670", "channel": "web"}, "[1]",
    ],
}  # fmt: skip


def line_of(request: dict[str, Any] | str) -> bytes:
    return request.encode() if isinstance(request, str) else msgspec.json.encode(request)


async def send(session: ClientSession, path: str, lines: Iterable[bytes]) -> tuple[int, list[Any]]:
    async with session.post(path, data=BytesIO(b"\n".join(lines)), headers=NDJSON) as answer:
        text = await answer.text()
        assert answer.status != 201 or answer.content_type == NDJSON["Content-Type"]
        return answer.status, [msgspec.json.decode(line) for line in text.splitlines()]


class Running(world.Hand):
    """A clock that goes on from its first time."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()

    def __call__(self) -> int:
        return self.at + int((time.monotonic() - self._begun) * SECOND)


def shown(answer: Any) -> Any:
    """Return an answer without the time at which it was made."""
    return {name: value for name, value in answer.items() if name != "at"}


def content(entry: Entry) -> Any:
    """Return what an entry says, without its time, which a revocation repeats."""
    event = structs.replace(entry.event, at=0) if isinstance(entry.event, Revoked) else entry.event
    return event, entry.subject, entry.controller, entry.actor, entry.channel, entry.proof


@pytest.mark.parametrize(
    ("path", "store_settings"),
    [*zip(CASES, ("sqlite", "redis", "sqlite", "redis"), strict=True)],
    indirect=["store_settings"],
)
async def test_each_line_has_the_answer_of_its_request_alone(
    tmp_path: Path, path: str, store_settings: dict[str, Any]
) -> None:
    """Two gates get the same requests: one of them one by one, the other in one body."""
    requests, alone = CASES[path], []
    async with running(tmp_path / "alone") as gate:
        for request in requests:
            async with gate.client.post(path, data=line_of(request)) as answer:
                alone.append(await answer.json())
        written = await gate.app._store.since(0, 99)

    def copy_keys(folder: Path) -> None:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "alone/data/keys.json", folder / "data")

    async with running(tmp_path / "lines", prepare=copy_keys, **store_settings) as gate:
        status, answers = await send(gate.client, path, map(line_of, requests))
        entries = await gate.app._store.since(0, 99)
        again = await send(gate.client, path, [*map(line_of, requests), b"", b"  "])
        assert await gate.app._store.since(0, 99) == entries
    assert status == 201
    assert list(map(shown, answers)) == list(map(shown, alone))
    assert list(map(shown, again[1])) == list(map(shown, answers))
    assert list(map(content, entries)) == list(map(content, written))


@pytest.mark.parametrize("store_settings", ["redis"], indirect=True)  # its commands overlap
async def test_a_stop_in_the_first_line_is_in_force_before_the_first_answer(
    tmp_path: Path, store_settings: dict[str, Any]
) -> None:
    numbers = [f"+3906{number}" for number in range(12_340_000, 12_345_000)]
    async with running(tmp_path, **store_settings) as gate:
        await gate.post("/v1/lists", world.LIST)
        await gate.app.tick()
        assert (await gate.post("/v1/check", CALL, 200))["decision"] == "allow"
        body = b"\n".join(line_of({"number": number}) for number in [CLEAR, *numbers])
        async with gate.client.post("/v1/revocations", data=body, headers=NDJSON) as answer:
            await answer.content.readline()
            first = await gate.post("/v1/check", CALL, 200)
            assert [reason["code"] for reason in first["reasons"]] == ["revocation.revoked"]
            assert (await answer.text()).count("\n") == len(numbers)


async def test_a_client_writes_and_reads_nothing_of_other_controllers(tmp_path: Path) -> None:
    """The line that names another controller is refused, and an administrator's stop for everyone needs the scope."""
    async with running(tmp_path, clients=[client("tests", KEY, "ledger")]) as gate:
        status, answers = await send(gate.client, "/v1/revocations", [line_of({"number": CLEAR})])
        assert (status, answers[0]["error"]["code"]) == (403, "auth.scope")
        _, answers = await send(gate.client, "/v1/consents", [line_of(CONSENT | {"controller": "others"})])
        assert answers[0]["error"]["code"] == "controller.unknown"
        assert await gate.app._store.since(0, 9) == []


async def test_too_many_or_too_long_lines_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"body_bytes": 2048}) as gate:
        lines = [line_of({"number": CLEAR})] * (request_lines.MOST_LINES + 1)
        status, answers = await send(gate.client, "/v1/revocations", lines)
        assert (status, answers[0]["error"]["code"]) == (413, "request.too_large")
        assert await gate.app._store.since(0, 9) == []
        status, answers = await send(
            gate.client, "/v1/revocations", [lines[0] + b" " * 2048, lines[0], b"\xff"]
        )
        assert [answer.get("error", {}).get("code", "") for answer in answers] == [
            "request.too_large", "", "request.not_json"
        ]  # fmt: skip
        assert (await send(gate.client, "/v1/revocations", [])) == (201, [])


async def test_what_a_number_cannot_have_more_of_is_refused_line_by_line(tmp_path: Path) -> None:
    async with running(tmp_path) as gate:
        lines = [line_of(CONSENT | {"id": f"form-{number}"}) for number in range(MOST + 2)]
        _, answers = await send(gate.client, "/v1/consents", lines)
        assert ["seq" in answer for answer in answers] == [True] * MOST + [False] * 2
        assert answers[-1]["error"]["code"] == "ledger.full"


@pytest.mark.parametrize(
    ("path", "line", "store_settings"),
    [
        pytest.param(
            "/v1/consents",
            lambda at: CONSENT | {"number": number_at(at // 2), "id": f"form-{at}"},
            "sqlite",
            marks=pytest.mark.torture,
        ),
        ("/v1/revocations", lambda at: {"number": number_at(at), "channel": "crm"}, "redis"),
    ],
    indirect=["store_settings"],
)
async def test_a_kill_loses_and_doubles_nothing(
    tmp_path: Path, path: str, line: Callable[[int], Any], store_settings: dict[str, Any]
) -> None:
    """The same lines are sent again after each kill, until all are answered. Each answered line is in the ledger, once."""
    config = world.write_folder(tmp_path / "gate", **store_settings)
    lines = [line_of(line(at)) for at in range(3_000)]
    answered, kills = dict[int, int](), 0
    while len(answered) < len(lines):
        async with serving(config) as gate:
            end = random.choice([1, random.randrange(len(lines) // 2)]) if kills < KILLS else len(lines) + 1
            with suppress(*HUNG_UP):
                await answer_all(gate, path, lines, answered, end)
        kills += 1
    store = await factory.open_reader(loader.load(config))
    entries = await store.since(0, len(lines) * 2)
    await store.close()
    assert kills > 1
    assert len({(entry.subject, content(entry)) for entry in entries}) == len(entries) == len(lines)
    assert sorted(answered.values()) == [entry.seq for entry in entries]


def number_at(at: int) -> str:
    return f"+3906{12_000_000 + at}"


async def answer_all(
    gate: RunningGate, path: str, lines: list[bytes], answered: dict[int, int], end: int
) -> None:
    """Send all lines, and kill the gate once it has answered `end` of them. A line has the same entry in every answer."""
    async with gate.client.post(
        path, data=BytesIO(b"\n".join(lines)), headers=NDJSON, timeout=LONG
    ) as response:
        assert response.status == 201
        at = 0
        async for text in response.content:
            assert answered.setdefault(at, (seq := msgspec.json.decode(text)["seq"])) == seq
            at += 1
            if at == end:
                await kill(gate.process)
    assert at == len(lines)


async def test_no_call_is_permitted_after_the_time_of_a_receipt(tmp_path: Path) -> None:
    async with running(tmp_path, Running(), clients=[client("tests", KEY, *world.SCOPES)]) as made:
        await world.load_list(made)
        sending = asyncio.create_task(send(made.client, "/v1/revocations", [line_of({"number": CLEAR})]))
        permitted = 0
        while not sending.done():
            asked_at = made.hand()
            if (await made.post("/v1/simulate", CALL, 200))["decision"] == "allow":
                permitted = asked_at
        (receipt,) = (await sending)[1]
        assert 0 < permitted <= instant_of(receipt["at"])
