"""What a gate allows after consents, contracts and call requests were recorded again, by HTTP or from a file."""

import csv
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from dialgate.ledger.schemas import EntriesRequest
from tests.support import redis_servers, world
from tests.support.world import CALL, KEY, SCOPES, World

CLIENTS = [world.client("tests", KEY, *SCOPES, "subjects")]
MOBILE = "+393331234567"  # clear in the registry, so that only a basis opens the call
CONSENT = {
    "id": "c1",
    "collected_at": "2026-11-01T10:00:00Z",
    "purposes": ["sale"],
    "call_types": ["agent"],
    "goods": ["broadband"],
    "artefact": "form-1",
    "artefact_sha256": "0" * 64,
}
CONTRACT = {
    "id": "k1", "starts": "2026-01-01", "sector": "telecommunications", "marketing": True, "proof": "contract-1",
}  # fmt: skip
REQUEST = {
    "id": "r1", "requested_at": "2026-11-23T10:00:00Z", "expires_at": "2026-12-01T10:00:00Z", "goods": "broadband",
}  # fmt: skip
PATHS = {"consent": "/v1/consents", "contract": "/v1/contracts", "call_request": "/v1/call-requests"}


class Entry(NamedTuple):
    """An entry of a history, or the rectification of the first one, if `fields` is set."""

    kind: str
    body: dict[str, Any]
    fields: dict[str, Any]


def consent(**changes: Any) -> Entry:
    return Entry("consent", CONSENT | changes, {})


def contract(**changes: Any) -> Entry:
    return Entry("contract", CONTRACT | changes, {})


def end(last_day: str) -> Entry:
    return Entry("contract_end", {"id": "k1", "ends": last_day}, {})


def request(**changes: Any) -> Entry:
    return Entry("call_request", REQUEST | changes, {})


def rectify(**fields: Any) -> Entry:
    return Entry("", {}, fields)


OTHER = ["mobile plans"]
HISTORIES: list[tuple[str, list[Entry], bool]] = [
    ("A consent opens the call", [consent()], True),
    ("Goods that were rectified stay so when the original consent comes again", [consent(goods=[]), rectify(goods=OTHER), consent(goods=[])], False),
    ("An end that was rectified stays so", [consent(), rectify(expires_at="2026-11-20T00:00:00Z"), consent()], False),
    ("A rectification that widens holds, too", [consent(goods=OTHER), rectify(goods=["broadband"]), consent(goods=OTHER)], True),
    ("What is rectified twice is as the second says", [consent(), rectify(goods=OTHER), rectify(goods=["broadband"])], True),
    ("Only the rectified field outranks a repetition", [consent(), rectify(goods=["broadband"]), consent(goods=OTHER, expires_at="2026-11-20T00:00:00Z")], False),
    ("A rectified purpose stays", [consent(), rectify(purposes=["service"]), consent()], False),
    ("A collection time that was rectified stays, although the repetition is newer", [consent(expires_at="2026-11-30T00:00:00Z"), rectify(collected_at="2026-10-01T10:00:00Z", expires_at="2026-11-20T00:00:00Z"), consent(expires_at="2026-11-30T00:00:00Z")], False),
    ("A consent that was collected later is a new one, also after a rectification", [consent(), rectify(goods=OTHER), consent(collected_at="2026-11-02T10:00:00Z")], True),
    ("A later consent needs its own proof", [consent(), consent(collected_at="2026-11-02T10:00:00Z", artefact="")], False),
    ("An older consent does not replace a newer one", [consent(goods=OTHER), consent(collected_at="2026-10-01T10:00:00Z")], False),
    ("A repetition without goods does not widen to all", [consent(goods=OTHER), consent(goods=[])], False),
    ("A repetition with other goods does not replace them", [consent(goods=OTHER), consent()], False),
    ("Two entries with other goods contradict each other, until one is rectified", [consent(), consent(goods=OTHER)], False),
    ("A contradiction ends with a rectification", [consent(), consent(goods=OTHER), rectify(goods=["broadband"])], True),
    ("A repetition does not remove the end", [consent(expires_at="2026-11-20T00:00:00Z"), consent()], False),
    ("A repetition does not postpone the end", [consent(expires_at="2026-11-20T00:00:00Z"), consent(expires_at="2027-11-20T00:00:00Z")], False),
    ("A repetition may bring the end forward", [consent(), consent(expires_at="2026-11-20T00:00:00Z")], False),
    ("A repetition that says `rectify` removes the end", [consent(expires_at="2026-11-20T00:00:00Z"), consent(rectify=["expires_at"])], True),
    ("`rectify` corrects only the fields that it names", [consent(goods=OTHER, expires_at="2026-11-20T00:00:00Z"), consent(rectify=["goods"])], False),
    ("A repetition does not drop the double opt-in", [consent(double_opt_in=True), consent()], False),
    ("A repetition may add a double opt-in", [consent(), consent(double_opt_in=True)], False),
    ("A repetition does not add a purpose", [consent(purposes=["service"]), consent(purposes=["service", "sale"])], False),
    ("A repetition does not add a call type", [consent(call_types=["automated"]), consent(call_types=["automated", "agent"])], False),
    ("A repetition may add the proof", [consent(artefact=""), consent()], True),
    ("A repetition without the proof does not remove it", [consent(), consent(artefact="")], True),
    ("A contract opens the call", [contract()], True),
    ("A contract sent again without its end stays ended", [contract(ends="2026-09-30"), contract()], False),
    ("A contract sent again with a later end keeps the earlier", [contract(ends="2026-09-30"), contract(ends="2027-09-30")], False),
    ("A contract that was ended stays ended", [contract(), end("2026-09-30"), contract()], False),
    ("A later end does not replace an earlier one", [contract(), end("2026-09-30"), end("2027-09-30")], False),
    ("An end that was rectified away stays away", [contract(ends="2026-09-30"), rectify(ends=None), contract(ends="2026-09-30")], True),
    ("An end that was entered alone and rectified away stays away", [contract(), end("2026-09-30"), rectify(ends=None), end("2026-09-30"), contract()], True),
    ("A contract that begins after the end is a new one", [contract(ends="2026-09-30"), contract(starts="2026-10-01")], True),
    ("A contract that begins on the last day of the former is the same", [contract(ends="2026-09-30"), contract(starts="2026-09-30")], False),
    ("A contract cancelled before it began stays cancelled", [contract(starts="2026-11-20"), end("2026-11-19"), contract(starts="2026-11-20")], False),
    ("A repetition does not add the consent to marketing", [contract(marketing=False), contract()], False),
    ("A repetition that says `rectify` adds the consent to marketing", [contract(marketing=False), contract(rectify=["marketing"])], True),
    ("A repetition does not widen the goods of a contract", [contract(goods=OTHER), contract()], False),
    ("A repetition does not change the sector", [contract(sector="banking"), contract()], False),
    ("A repetition does not move the first day back", [contract(starts="2026-11-25"), contract(starts="2026-01-01")], False),
    ("A request opens the call", [request()], True),
    ("A repetition does not prolong a request", [request(expires_at="2026-11-24T08:00:00Z"), request()], False),
    ("A repetition does not change the goods of a request", [request(goods="mobile plans"), request()], False),
    ("A repetition does not let a request begin earlier", [request(begins="2026-11-25T08:00:00Z"), request()], False),
    ("A later request is a new one", [request(goods="mobile plans"), request(requested_at="2026-11-23T11:00:00Z")], True),
]  # fmt: skip


def on_sqlite(_folder: Path) -> dict[str, Any]:
    return {}


def on_redis(folder: Path) -> dict[str, Any]:
    return {"store": {"url": redis_servers.alone(), "name": folder.name, "patience": 5}}


async def by_http(gate: World, entry: Entry, number: str) -> None:
    await gate.post(PATHS[entry.kind], entry.body | {"number": number})


async def by_import(gate: World, entry: Entry, number: str) -> None:
    cells = {
        name: ";".join(value) if isinstance(value, list) else value for name, value in entry.body.items()
    }
    text = StringIO()
    writer = csv.DictWriter(text, ["number", *cells])
    writer.writeheader()
    writer.writerow({"number": number, **cells})
    ask = msgspec.convert({"kind": entry.kind}, EntriesRequest)
    client = gate.app.config.settings.clients[0]
    await gate.app.registrar.consents.record_all(client, ask, BytesIO(text.getvalue().encode()))


async def by_rectification(gate: World, fields: dict[str, Any], number: str) -> None:
    path = f"/v1/subjects/{number.replace('+', '%2B')}"
    case = await gate.post(f"{path}/requests", {"kind": "rectification", "identified": "by a code"})
    contents = await gate.get(f"{path}?purpose=test")
    first = next(entry for entry in contents["ledger"] if entry["kind"] in PATHS)
    await gate.post(f"{path}/rectification", {"request": case["id"], "of": first["seq"], "fields": fields})


@pytest.mark.parametrize("send", [by_http, by_import])
@pytest.mark.parametrize("store", [on_sqlite, on_redis])
async def test_no_repetition_permits_more(tmp_path: Path, store: Any, send: Any) -> None:
    numbers = {f"+39333123{place:04}": history for place, history in enumerate(HISTORIES)}
    answers = dict.fromkeys(numbers, False)
    async with world.running(tmp_path, answers=answers, clients=CLIENTS, **store(tmp_path)) as gate:
        wrong = []
        for number, (about, history, is_allowed) in numbers.items():
            for entry in history:
                for _ in range(2):  # how often a row is imported does not matter
                    if entry.kind in PATHS:
                        await send(gate, entry, number)
                if entry.kind == "contract_end":
                    await gate.post("/v1/contracts/end", entry.body | {"number": number})
                if entry.fields:
                    await by_rectification(gate, entry.fields, number)
            answer = await gate.post("/v1/check", CALL | {"to": number}, 200)
            if (answer["decision"] == "allow") is not is_allowed:
                wrong.append(f"{about}: {answer}")
        assert not wrong, "\n".join(wrong)
