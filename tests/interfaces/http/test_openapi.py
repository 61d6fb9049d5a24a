"""Tests that the API description is valid OpenAPI, is complete, and matches the responses of a gate."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from aiohttp import ClientResponse
from jsonschema import Draft202012Validator
from msgspec import structs
from openapi_spec_validator import OpenAPIV31SpecValidator

from dialgate.core.model import HOUR
from dialgate.core.reasons import REASONS
from dialgate.core.responses import Answer
from dialgate.core.rules import RULES
from dialgate.interfaces import http_application
from dialgate.interfaces.http import openapi
from dialgate.interfaces.http.error_codes import CODES
from dialgate.store import HourCount
from dialgate.store.sqlite import campaign_counts
from tests.support import world
from tests.support.world import CALL, CALLER, CLEAR, CONFIG, KEY, LIST, LISTED, World

# As served, because the built document has tuples.
DOCUMENT: Final = json.loads(msgspec.json.encode(openapi.document(http_application.EVERY)))
OPERATIONS: Final = {
    operation["operationId"]: (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
VERBS: Final = {
    "add", "check", "confirm", "end", "erase", "evaluate", "export", "find", "get", "lift", "list", "load", "rectify", "redirect",
    "report", "retire", "send", "simulate", "stream", "update", "withdraw",
}  # fmt: skip
FORM: Final = "application/x-www-form-urlencoded"


def conform(value: Any, schema: dict[str, Any]) -> None:
    """Check a value against a schema of the document, including the formats `date-time` and `date`."""
    checker = Draft202012Validator.FORMAT_CHECKER
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator(whole, format_checker=checker).validate(value)


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Yield each object of the document that may be a schema."""
    if isinstance(node, dict):
        yield node
        for name, inner in node.items():
            if name not in {"example", "examples"}:
                yield from schemas(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from schemas(inner)


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each body of an operation, with its media type."""
    yield from operation.get("requestBody", {}).get("content", {}).items()
    for response in operation["responses"].values():
        yield from response.get("content", {}).items()


def conform_body(content: dict[str, Any], value: Any) -> None:
    conform(value, content["schema"])
    if "x-item-schema" in content:
        for line in value.splitlines():
            conform(json.loads(line), content["x-item-schema"])


# ---- the document ----------------------------------------------------------------------------------------------------


def test_the_document_is_valid_openapi() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_each_operation_has_a_name_of_its_own_that_begins_with_a_verb() -> None:
    assert len(OPERATIONS) == len(http_application.EVERY)
    for name in OPERATIONS:
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name), name
        assert re.match(r"[a-z]+", name)[0] in VERBS, name  # type: ignore[index]


@pytest.mark.parametrize("name", OPERATIONS)
def test_examples_conform_to_their_schemas(name: str) -> None:
    operation = OPERATIONS[name][2]
    for media, content in contents(operation):
        examples = [example["value"] for example in content.get("examples", {}).values()]
        for example in examples or ([content["example"]] if "example" in content else []):
            conform_body(content, example)
        assert examples or "example" in content or "spreadsheet" in media, media
    for parameter in operation.get("parameters", ()):
        if parameter["example"] != "":
            conform(parameter["example"], parameter["schema"])


def test_examples_name_existing_rules() -> None:
    named = set(re.findall(r'"rule": "(\w+)"', json.dumps(DOCUMENT)))
    assert named
    assert named <= {name for name, _ in RULES}


def test_each_error_code_is_described_with_an_example() -> None:
    described = {
        code
        for _, _, operation in OPERATIONS.values()
        for _, content in contents(operation)
        for code in content.get("examples", {})
    }
    general = set(re.findall(r"`([a-z_]+\.[a-z_]+)` \(", DOCUMENT["info"]["description"]))
    assert described & CODES.keys() | general == CODES.keys()


def test_reason_and_error_codes_are_named_schemas() -> None:
    for name, codes in (("ReasonCode", REASONS), ("ErrorCode", CODES)):
        schema = DOCUMENT["components"]["schemas"][name]
        assert schema["enum"] == list(codes)
        for code in codes:
            conform(code, schema)
    for name, schema in DOCUMENT["components"]["schemas"].items():
        code = schema.get("properties", {}).get("code")
        assert code is None or "Code" in json.dumps(code), name


def test_each_field_of_an_instant_or_a_day_has_its_format() -> None:
    named = re.compile(r"(?:.+_)?(?:at|until|on|starts|ends|not_before|since)")
    found = {
        (name, field): json.dumps(schema)
        for name, struct in DOCUMENT["components"]["schemas"].items()
        for field, schema in struct.get("properties", {}).items()
        if named.fullmatch(field)
    }
    assert len(found) > 40
    assert [place for place, schema in found.items() if '"format": "date' not in schema] == []


def test_allow_and_deny_have_the_fields_of_an_answer() -> None:
    answer = DOCUMENT["components"]["schemas"]["Answer"]
    assert answer["discriminator"]["mapping"].keys() == {"allow", "deny"}
    properties = [DOCUMENT["components"]["schemas"][name]["properties"] for name in ("Allow", "Deny")]
    assert {name for fields in properties for name in fields} == {
        field.encode_name for field in structs.fields(Answer)
    }


def test_each_keyed_operation_names_its_scope() -> None:
    for endpoint in http_application.EVERY:
        operation = OPERATIONS[endpoint.name][2]
        scopes = [endpoint.scope] if endpoint.scope else []
        assert operation["security"] == ([{"key": scopes}] if endpoint.keyed else [])


def test_limits_are_the_defaults_of_the_settings() -> None:
    texts = {name: operation["description"] for name, (_, _, operation) in OPERATIONS.items()}
    assert "1,048,576 bytes (setting `limits.body_bytes`)" in texts["checkCall"]
    assert "10,000 calls" in texts["checkCalls"]
    assert "200 different numbers per hour" in texts["listConsents"]
    assert "32 streams" in texts["streamRevocations"]
    assert "1,024 MiB" in texts["loadCallList"]


# ---- what a gate sends -----------------------------------------------------------------------------------------------


async def conforming(name: str, response: ClientResponse) -> Any:
    """Check a response against the description of its operation, and return its body."""
    described = OPERATIONS[name][2]["responses"][str(response.status)]
    body = await response.read()
    if "content" not in described:
        assert body == b""
        return None
    sent = response.headers["Content-Type"]
    media = f"{FORM}; charset=utf-8" if sent == FORM else sent
    value = json.loads(body) if sent == "application/json" else body.decode()
    conform_body(described["content"][media], value)
    return value


class Described:
    """A client that sends requests by operationId, and checks each response against the description."""

    def __init__(self, running: World) -> None:
        self.running = running
        self.checked: set[tuple[str, int]] = set()

    async def __call__(self, name: str, status: int, json_body: Any = None, **options: Any) -> Any:
        method, path, _ = OPERATIONS[name]
        place = options.pop("place", {})
        async with self.running.client.request(
            method.upper(), path.format(**place), json=json_body, allow_redirects=False, **options
        ) as response:
            assert response.status == status, await response.text()
            self.checked.add((name, status))
            return await conforming(name, response)


CONSENT: Final = {
    "number": CLEAR, "id": "c-1", "collected_at": "2026-11-01T10:00:00+01:00", "purposes": ["sale"], "goods": ["broadband"], "call_types": ["agent"],
    "double_opt_in": True,
}  # fmt: skip
PERSON: Final = {"number": CLEAR, "purpose": "test of the description"}
QUERY: Final = {"to": CLEAR, "from": CALLER, "campaign": "acme-fibre"}
EVALUATION: Final = {
    "subject": {"type": "campaign", "id": "acme-fibre", "properties": {"caller_id": CALLER}},
    "action": {"name": "call"},
    "resource": {"type": "phone_number", "id": CLEAR},
}
NDJSON: Final = "\n".join(
    json.dumps(call) for call in ({**CALL, "call_id": "n"}, {**CALL, "to": LISTED}, {"to": ""})
)


async def test_every_response_of_a_gate_conforms_to_the_description(tmp_path: Path) -> None:
    """The test calls every operation except the stream and the peer operation.

    The responses include permitted and denied calls, errors, batches and NDJSON.
    """
    shutil.copytree(CONFIG / "webhooks", tmp_path / "webhooks")
    clients = [world.client("tests", KEY, *world.SCOPES, "stream", "subjects", "watch", "admin")]
    async with world.running(tmp_path, clients=clients) as running:
        await world.load_list(running)
        ask = Described(running)
        await _checks(ask)
        await _ledger(ask)
        await _lists(ask)
        await _subjects(ask)
        await _operations(ask)
        await _campaigns(ask, running)
        await running.app._store.close()
        for name in ("checkCall", "evaluateCall"):
            assert await ask(name, 503, CALL if name == "checkCall" else EVALUATION)
        await ask("checkCallAsText", 503, params=QUERY)
        await ask("checkCallAsForm", 503, params=QUERY)
        await ask("addRevocation", 503, {"number": CLEAR})
        await running.app.tick()
        await ask("checkReadiness", 503)
    succeeded = {name for name, status in ask.checked if status < 400}
    # The stream does not end, and only gates can write to a peer.
    assert succeeded == OPERATIONS.keys() - {"streamRevocations", "sendToPeer"}


async def _checks(ask: Described) -> None:
    allow = await ask("checkCall", 200, {**CALL, "permit": True})
    assert allow["decision"] == "allow"
    deny = await ask("checkCall", 200, {**CALL, "to": LISTED, "from": "anonymous"})
    assert deny["reasons"]
    await ask("checkCall", 200, {**CALL, "to": "nonsense"})
    await ask("checkCall", 400, {**CALL, "colour": "red"})
    await ask("checkCall", 400, data="{")
    await ask("checkCall", 401, CALL, headers={"Authorization": "Bearer wrong"})
    batch = await ask("checkCalls", 200, {"calls": [CALL, {**CALL, "to": LISTED}, {"to": 1}]})
    assert [*map(len, batch["answers"])][2] == 1
    lines = await ask("checkCalls", 200, data=NDJSON, headers={"Content-Type": "application/x-ndjson"})
    assert len(lines.splitlines()) == 3
    for to in (CLEAR, LISTED):
        await ask("simulateCall", 200, {**CALL, "to": to})
    for name in ("checkCallAsText", "checkCallAsForm"):
        for to in (CLEAR, LISTED):
            await ask(name, 200, params={**QUERY, "to": to})
        await ask(name, 400, params={"to": CLEAR})
    for name in ("checkPostedCallAsText", "checkPostedCallAsForm"):
        await ask(name, 200, data=QUERY)
        await ask(name, 400, data={"to": CLEAR})
    for name in ("checkCallForHttapi", "checkPostedCallForHttapi"):
        await ask(name, 200, params=QUERY)
        await ask(name, 200, params=QUERY, headers={"Authorization": "Bearer wrong"})
    await ask(
        "checkCallForDialplan",
        200,
        params={**QUERY, "bridge": "sofia/gateway/trunk"},
        data={"section": "dialplan"},
    )
    await ask("checkCallByWebhook", 200, QUERY, place={"profile": "generic"})
    await ask("evaluateCall", 200, EVALUATION)
    await ask(
        "evaluateCalls", 200, {**EVALUATION, "evaluations": [{}, {"resource": {"type": "x", "id": "1"}}]}
    )
    wrong = {"decision_id": allow["decision_id"], "outcome": "wrong_number"}
    await ask("reportOutcome", 200, wrong)
    await ask("reportOutcome", 409, {**wrong, "outcome": "busy"})
    await ask("reportOutcome", 404, {"decision_id": "none", "outcome": "answered"})
    found = await ask("findDecisions", 200, params={**PERSON, "limit": 5})
    await ask("getDecision", 200, place={"id": found["decisions"][0]["decision_id"]})
    await ask("getDecision", 404, place={"id": "none"})


async def _ledger(ask: Described) -> None:
    receipt = await ask("addRevocation", 201, {"number": LISTED})
    await ask("addRevocation", 400, {"number": "none"})
    await ask("listRevocations", 200, params={**PERSON, "number": LISTED})
    await ask(
        "liftRevocation", 201, {"ground": "error", "reason": "typing error"}, place={"seq": receipt["seq"]}
    )
    await ask("liftRevocation", 404, {"ground": "error", "reason": "typing error"}, place={"seq": 999})
    await ask("addConsent", 201, CONSENT)
    await ask("confirmConsent", 201, {"number": CLEAR, "id": "c-1"})
    await ask("listConsents", 200, params=PERSON)
    await ask("listConsents", 400, params={"number": CLEAR})
    await ask("withdrawConsent", 201, {"number": CLEAR, "id": "c-1"})
    await ask("listConsents", 200, params=PERSON)
    await ask("addContract", 201, {"number": CLEAR, "id": "k-1", "starts": "2026-01-01"})
    await ask("endContract", 201, {"number": CLEAR, "id": "k-1", "ends": "2026-11-01"})
    await ask("listContracts", 200, params=PERSON)
    instants = {"requested_at": "2026-11-20T10:00:00Z", "expires_at": "2026-12-20T10:00:00Z"}
    await ask("addCallRequest", 201, {"number": CLEAR, "id": "r-1", **instants})
    await ask("listCallRequests", 200, params=PERSON)
    reports = await ask("listWrongNumbers", 200, params=PERSON)
    ground = {"ground": "error", "reason": "the right person"}
    await ask("liftWrongNumber", 201, ground, place={"seq": reports["entries"][0]["seq"]})
    await ask("addCallerIdProof", 204, {"caller_id": CALLER, "kind": "probe", "evidence": "called back"})


async def _campaigns(ask: Described, running: world.World) -> None:
    place = {"id": "acme-fibre"}
    await ask("liftPause", 409, {"ground": "new dialer"}, place=place)
    await ask("liftPause", 404, {"ground": "new dialer"}, place={"id": "another"})
    silent = HourCount(running.hand.at // HOUR, "acme-fibre", 0, 4)
    await running.app._store._write(lambda db: campaign_counts.put_count(db, silent))  # type: ignore[attr-defined]
    await ask("listCampaigns", 200)
    await ask("liftPause", 201, {"ground": "new dialer"}, place=place)


async def _lists(ask: Described) -> None:
    await ask("loadCallList", 201, {**LIST, "id": "by-json"})
    query = [(name, value) for name, value in {**LIST, "id": "by-file"}.items() if isinstance(value, str)]
    query += [("campaigns", campaign) for campaign in LIST["campaigns"]]
    headers = {"Content-Type": "text/csv"}
    await ask("loadCallList", 201, params=query, data=f"{CLEAR}\n12\n", headers=headers)
    await ask("loadCallList", 409, {**LIST, "id": "by-json"})
    await ask("listCallLists", 200)
    await ask("getCallList", 200, place={"id": "by-file"})
    await ask("getCallList", 404, place={"id": "none"})
    await ask("retireCallList", 200, place={"id": "by-file"})


async def _subjects(ask: Described) -> None:
    place = {"number": CLEAR}
    case = {"kind": "erasure", "identified": "code read back", "channel": "pec"}
    case_id = (await ask("addSubjectRequest", 201, case, place=place))["id"]
    await ask("getSubjectData", 200, params={"purpose": "request"}, place=place)
    await ask("getSubjectData", 200, params={"purpose": "request", "language": "it"}, place=place)
    await ask("exportSubjectData", 200, params={"purpose": "request"}, place=place)
    await ask("listSubjectRequests", 200)
    history = await ask("listContracts", 200, params=PERSON)
    wrong = {"kind": "rectification", "identified": "code read back"}
    wrong_id = (await ask("addSubjectRequest", 201, wrong, place=place))["id"]
    fields = {"request": wrong_id, "of": history["entries"][0]["seq"], "fields": {"goods": ["broadband"]}}
    await ask("rectifySubjectData", 201, fields, place=place)
    await ask(
        "updateSubjectRequest", 200, {"outcome": "extended", "reason": "many requests"}, place={"id": case_id}
    )
    await ask("eraseSubjectData", 200, {"request": case_id}, place=place)
    await ask("eraseSubjectData", 404, {"request": "none"}, place=place)


async def _operations(ask: Described) -> None:
    for name in (
        "checkLiveness",
        "checkReadiness",
        "getMetrics",
        "getAuthzenConfiguration",
        "getApiDescription",
        "getApiPage",
    ):
        await ask(name, 200)
    await ask("redirectToApiPage", 302)
    await ask("getMetrics", 401, headers={"Authorization": "Bearer wrong"})


async def test_the_lines_of_the_revocation_stream_conform_to_the_description(tmp_path: Path) -> None:
    clients = [world.client("tests", KEY, *world.SCOPES, "stream")]
    async with world.running(tmp_path, clients=clients, limits={"idle_seconds": 0.3}) as running:
        ask = Described(running)
        await ask("addRevocation", 201, {"number": LISTED})
        content = OPERATIONS["streamRevocations"][2]["responses"]["200"]["content"]["application/x-ndjson"]
        async with running.client.get("/v1/revocations/stream", params={"after": 0}) as response:
            lines = [await response.content.readline() for _ in range(2)]
    kinds = [json.loads(line).keys() for line in lines]
    assert any("number" in fields for fields in kinds)
    for line in lines:
        conform_body(content, line.decode())
