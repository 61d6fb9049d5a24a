"""What a gate allows after consents, contracts and call requests were recorded again, by HTTP or from a file."""

import csv
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dialgate.ledger.schemas import EntriesRequest
from tests.support import world, yaml_files
from tests.support.paths import ROOT
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
PATHS = {"consent": "/v1/consents", "contract": "/v1/contracts", "request": "/v1/call-requests"}
USUAL: dict[str, dict[str, Any]] = {"consent": CONSENT, "contract": CONTRACT, "request": REQUEST}
KINDS = {"consent": "consent", "contract": "contract", "request": "call_request"}
HISTORIES = yaml_files.read(ROOT / "tests/cases/tables/repetitions.yaml")


async def by_http(gate: World, kind: str, body: dict[str, Any], number: str) -> None:
    await gate.post(PATHS[kind], body | {"number": number})


async def by_import(gate: World, kind: str, body: dict[str, Any], number: str) -> None:
    cells = {name: ";".join(value) if isinstance(value, list) else value for name, value in body.items()}
    text = StringIO()
    writer = csv.DictWriter(text, ["number", *cells])
    writer.writeheader()
    writer.writerow({"number": number, **cells})
    ask = msgspec.convert({"kind": KINDS[kind]}, EntriesRequest)
    client = gate.app.config.settings.clients[0]
    await gate.app.registrar.consents.record_all(client, ask, BytesIO(text.getvalue().encode()))


async def by_rectification(gate: World, fields: dict[str, Any], number: str) -> None:
    path = f"/v1/subjects/{number.replace('+', '%2B')}"
    case = await gate.post(f"{path}/requests", {"kind": "rectification", "identified": "by a code"})
    contents = await gate.get(f"{path}?purpose=test")
    first = next(entry for entry in contents["ledger"] if entry["kind"] in KINDS.values())
    await gate.post(f"{path}/rectification", {"request": case["id"], "of": first["seq"], "fields": fields})


@pytest.mark.parametrize("send", [by_http, by_import])
async def test_no_repetition_permits_more(tmp_path: Path, store_settings: dict[str, Any], send: Any) -> None:
    numbers = {f"+39333123{place:04}": history for place, history in enumerate(HISTORIES)}
    answers = dict.fromkeys(numbers, False)
    async with world.running(tmp_path, answers=answers, clients=CLIENTS, **store_settings) as gate:
        wrong = []
        for number, history in numbers.items():
            for entry in history["entries"]:
                ((kind, value),) = entry.items()
                if kind == "rectify":
                    await by_rectification(gate, value, number)
                elif kind == "end":
                    await gate.post("/v1/contracts/end", {"id": "k1", "ends": value, "number": number})
                else:
                    for _ in range(2):  # how often a row is imported does not matter
                        await send(gate, kind, USUAL[kind] | value, number)
            answer = await gate.post("/v1/check", CALL | {"to": number}, 200)
            if (answer["decision"] == "allow") is not history["allowed"]:
                wrong.append(f"{history['about']}: {answer}")
        assert not wrong, "\n".join(wrong)
