"""Tests that the API description is valid OpenAPI, is complete, and matches the responses of a gate."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import structs
from openapi_spec_validator import OpenAPIV31SpecValidator

from dialgate.core.reasons import REASONS
from dialgate.core.responses import Answer
from dialgate.core.rules import RULES
from dialgate.interfaces import http_application
from dialgate.interfaces.http import openapi
from dialgate.interfaces.http.error_codes import CODES
from dialgate.interfaces.http.examples import examples_of
from tests.support import api_walk

# As served, because the built document has tuples.
DOCUMENT: Final = json.loads(msgspec.json.encode(openapi.document(http_application.EVERY)))
OPERATIONS: Final = {
    operation["operationId"]: (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
VERBS: Final = {
    "add", "check", "confirm", "disable", "end", "erase", "execute", "export", "find", "forget", "get", "import", "invite", "lift", "list", "load", "preview", "rectify",
    "redirect", "release", "replay",
    "pause", "plan", "remove", "renew", "report", "resume", "retire", "scrub", "search", "send", "simulate", "stream", "update", "verify", "void", "withdraw",
}  # fmt: skip
# Only gates can write to a peer. The store of the walk is embedded.
NOT_WALKED: Final = {"sendToPeer", "listNodes", "forgetNode"}
NOT_SHOWN: Final = ("spreadsheet", "octet-stream", "csv", "pdf", "rfc822", "zip")
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
        assert (
            examples or "example" in content or name in NOT_WALKED or any(kind in media for kind in NOT_SHOWN)
        ), media
    for parameter in operation.get("parameters", ()):
        if "example" in parameter:
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
        ways = [[scope] for scope in (endpoint.scope, *endpoint.also)] if endpoint.scope else [[]]
        assert operation["security"] == ([{"key": way} for way in ways] if endpoint.keyed else [])


def test_limits_are_the_defaults_of_the_settings() -> None:
    texts = {name: operation["description"] for name, (_, _, operation) in OPERATIONS.items()}
    assert "1,048,576 bytes (setting `limits.body_bytes`)" in texts["checkCall"]
    assert "10,000 calls" in texts["checkCalls"]
    assert "200 different numbers per hour" in texts["listConsents"]
    assert "32 streams" in texts["streamRevocations"]
    assert "1,024 MiB" in texts["loadCallList"]


# ---- what a gate sends -----------------------------------------------------------------------------------------------


async def test_the_gate_answers_by_the_description_and_the_examples_are_its_answers(tmp_path: Path) -> None:
    exchanges = await api_walk.walk(tmp_path)
    for exchange in exchanges:
        described = OPERATIONS[exchange.endpoint.name][2]["responses"][str(exchange.status)]
        if "content" in described:
            conform_body(described["content"][exchange.media], exchange.response)
        else:
            assert exchange.response == ""
    succeeded = {exchange.endpoint.name for exchange in exchanges if exchange.status < 400}
    assert succeeded == OPERATIONS.keys() - NOT_WALKED
    recorded = api_walk.examples_in(exchanges)
    stale = [
        name for name, some in recorded.items() if api_walk.masked(some) != api_walk.masked(examples_of(name))
    ]
    assert stale == [], "run `make reference`"
