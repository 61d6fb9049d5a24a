"""The API description in OpenAPI 3.1, built from the types of requests and responses."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate import __version__
from dialgate.config.clients import Scope
from dialgate.config.listeners import Limits, Listen, Uploads
from dialgate.core.reasons import REASONS
from dialgate.core.responses import Answer
from dialgate.interfaces.http.answer_types import Allow, Deny
from dialgate.interfaces.http.endpoint import FORM, Endpoint, Media, Parameter
from dialgate.interfaces.http.error_codes import CODES
from dialgate.interfaces.http.errors import Failed, Fault, response
from dialgate.interfaces.http.examples import examples_of

_SCHEMAS: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
# Errors for any request, and for any request with a key.
_ALWAYS: Final = (
    "path.unknown", "method.not_allowed", "request.not_http", "request.headers_too_large", "request.expectation",
)  # fmt: skip
_KEYED: Final = (
    "request.invalid", "auth.in_url", "auth.missing", "auth.unknown", "auth.key_expired", "auth.key_disabled", "auth.scope", "auth.web_page",
    "gate.error",
)  # fmt: skip
_ABOUT: Final = f"""\
Check each call before you place it: `POST /v1/check` responds with `allow`, or with `deny` and the reasons. The decision is recorded
before the response is sent. Place the call only after a 200 with `"decision":"allow"`.

Every request under `/v1` needs the header `Authorization: Bearer KEY`; a key in the URL is refused. Clients that cannot send headers
are identified by their source address. Errors have the format `{{"error": {{"code", "message", "field"}}}}`, and codes are stable.

Instants are in RFC 3339 with an offset, days are written like 2026-11-24, and numbers are in E.164. A later version may add
fields, codes and endpoints. Clients must ignore fields that they do not know. They must place no call after an unknown code.

Any request can also fail with {", ".join(f"`{code}` ({CODES[code].status})" for code in _ALWAYS)}. Limits are settings of the gate; the
numbers here are the defaults.
"""
_LIMITS: Final = {
    "request.too_large": (
        f"A JSON body, a form or a line of NDJSON has at most {Limits().body_bytes:,} bytes (setting `limits.body_bytes`)."
    ),
    "batch.too_large": f"At most {Limits().batch_calls:,} calls in one request (setting `limits.batch_calls`).",
    "lookup.throttled": (
        f"A client can look up at most {Limits().lookups_an_hour} different numbers per hour "
        "(setting `limits.lookups_an_hour`)."
    ),
    "streams.too_many": f"A client can have {Limits().streams} streams or batches in progress (setting `limits.streams`).",
    "upload.busy": (
        f"A file has at most {Uploads().file_mb:,} MiB (setting `uploads.file_mb`), and a client can send eight files at once."
    ),
}
_ERROR_HEADERS: Final = {
    "401": {"WWW-Authenticate": "How to send the key."},
    "429": {"Retry-After": "Seconds until the request may succeed."},
    "503": {"Retry-After": "Seconds until the request may succeed."},
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    endpoints = tuple(endpoints)
    groups = dict.fromkeys(endpoint.group for endpoint in endpoints)
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(plain(endpoint.path), {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dialgate", "version": __version__, "description": _ABOUT},
        "servers": [
            {"url": "/", "description": "The gate that serves this description."},
            {
                "url": "http://{host}:{port}",
                "description": "A gate with the setting `listen`. With `tls_certificate`, it speaks https.",
                "variables": {"host": {"default": Listen().host}, "port": {"default": str(Listen().port)}},
            },
        ],
        "tags": [{"name": group.name, "description": group.about} for group in groups],
        "paths": paths,
        "components": {
            "schemas": _components(endpoints),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key created by `dialgate key`. Each operation lists the scope that it needs.",
                }
            },
        },
    }


def _components(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    types = [kind for endpoint in endpoints for kind in _types(endpoint) if _is_named(kind)]
    (*_, decision), components = msgspec.json.schema_components(
        [*types, Failed, Allow | Deny], ref_template=_SCHEMAS
    )
    components["Answer"] = {
        "title": "Answer",
        "description": Answer.__doc__,
        "oneOf": decision["anyOf"],
        "discriminator": decision["discriminator"],
    }
    for schema in components.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    errors = {code: f"{row.meaning} {row.advice}" for code, row in CODES.items()}
    return {
        **components,
        "ReasonCode": _codes("Why a call is denied.", REASONS),
        "ErrorCode": _codes("Why a request failed.", errors),
    }


def _types(endpoint: Endpoint) -> Iterator[Any]:
    yield from (endpoint.ask, endpoint.answer)
    for media in (*endpoint.also_asks, *endpoint.also_answers):
        yield from (media.kind, *media.lines)


def _is_named(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _codes(about: str, codes: Mapping[str, str]) -> dict[str, Any]:
    return {
        "description": about,
        "type": "string",
        "enum": list(codes),
        "oneOf": [{"const": code, "description": text} for code, text in codes.items()],
        "examples": [next(iter(codes))],
    }


def plain(path: str) -> str:
    """Remove the patterns from a path. Only the router needs them."""
    return re.sub(r"\{(\w+):[^}]+\}+", r"{\1}", path)


def _security(endpoint: Endpoint) -> list[dict[str, list[Scope]]]:
    if endpoint.scope:
        return [{"key": [scope]} for scope in (endpoint.scope, *endpoint.also)]
    return [{"key": []}] if endpoint.keyed else []


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    title, _, rest = endpoint.about.partition(". ")
    scope = "Needs a key with any scope." if endpoint.any_key else ""
    if endpoint.scope:
        scope = f"Needs the scope {' or '.join(f'`{scope}`' for scope in (endpoint.scope, *endpoint.also))}."
    limits = [text for code, text in _LIMITS.items() if code in endpoint.errors]
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [endpoint.group.name],
        "summary": title.removesuffix("."),
        "description": " ".join(filter(None, [rest, *limits, scope])),
        "security": _security(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.parameters:
        fields = _fields(endpoint.query) if endpoint.query else {}
        values = examples_of(endpoint.name).parameters
        operation["parameters"] = [_parameter(parameter, fields, values) for parameter in endpoint.parameters]
    if endpoint.ask is not None or endpoint.also_asks:
        operation["requestBody"] = {"required": endpoint.ask is not None, "content": _asks(endpoint)}
    return operation


def _fields(query: type[Struct]) -> dict[str, tuple[dict[str, Any], bool]]:
    _, components = msgspec.json.schema_components([query], ref_template=_SCHEMAS)
    struct = components[query.__name__]
    return {
        name: (_as_parameter(schema), name in struct.get("required", ()))
        for name, schema in struct["properties"].items()
    }


def _as_parameter(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema for a parameter. It excludes null, because a parameter without a value is left out."""
    kept = {name: value for name, value in schema.items() if name not in {"anyOf", "default", "description"}}
    for alternative in schema.get("anyOf", ()):
        if alternative != {"type": "null"}:
            kept |= alternative
    return kept


def _parameter(
    parameter: Parameter, fields: Mapping[str, tuple[dict[str, Any], bool]], values: Mapping[str, Any]
) -> dict[str, Any]:
    schema, required = fields.get(parameter.name, ({"type": "string"}, False))
    described = {
        "name": parameter.name,
        "in": parameter.place,
        "required": required if parameter.required is None else parameter.required,
        "description": parameter.about,
        "schema": schema if parameter.schema is None else dict(parameter.schema),
    }
    return described | ({"example": values[parameter.name]} if parameter.name in values else {})


def _asks(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if endpoint.ask is not None:
        content[_JSON] = {"schema": _schema(endpoint.ask)}
    for media in endpoint.also_asks:
        content[media.name] = _content(media)
    for name, body in examples_of(endpoint.name).requests.items():
        content[name]["example"] = body
    return content


def _content(media: Media) -> dict[str, Any]:
    """Describe a body. `x-item-schema` describes a line of NDJSON, for which OpenAPI 3.1 has no keyword."""
    lines = [_schema(kind) for kind in media.lines]
    return {"schema": _schema(media.kind)} | ({"x-item-schema": {"anyOf": lines}} if lines else {})


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    responses = {str(endpoint.status): _success(endpoint)}
    for status, about, kind in endpoint.other_statuses:
        media = _response_media(endpoint.media)
        content = {media: {"schema": _schema(kind), **_examples(endpoint, status, media)}}
        responses[str(status)] = {"description": about, "content": content}
    for code in (*(_KEYED if endpoint.keyed else ()), *endpoint.errors):
        _add_error(responses, code, endpoint)
    for refused, headers in _ERROR_HEADERS.items():
        if refused in responses:
            responses[refused]["headers"] = _headers(headers)
    return responses


def _success(endpoint: Endpoint) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Success."}
    if endpoint.headers:
        success["headers"] = _headers(endpoint.headers)
    content: dict[str, Any] = {}
    if endpoint.answer is not None or endpoint.media != _JSON:
        name = _response_media(endpoint.media)
        content[name] = {"schema": _schema(endpoint.answer), **_examples(endpoint, endpoint.status, name)}
    for media in endpoint.also_answers:
        content[media.name] = _content(media) | _examples(endpoint, endpoint.status, media.name)
    return success | ({"content": content} if content else {})


def _response_media(name: str) -> str:
    """Return the name of a media type in a response. For a form, the name includes the charset.

    openapi-python-client cannot parse a form in a response. docs/how-to/generate-a-client.md therefore configures the
    generator to treat forms with a charset as plain text. Forms in requests have no charset, and are not affected.
    """
    return f"{FORM}; charset=utf-8" if name == FORM else name


def _examples(endpoint: Endpoint, status: int, media: str) -> dict[str, Any]:
    bodies = examples_of(endpoint.name).response(status, media)
    return {"examples": {name: {"value": body} for name, body in bodies.items()}} if bodies else {}


def _headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"description": about, "schema": {"type": "string"}} for name, about in headers.items()}


def _add_error(responses: dict[str, Any], code: str, endpoint: Endpoint) -> None:
    """Describe an error as the endpoint sends it: as JSON, or in the dialer's format.

    Unexpected errors are sent by the server, always as JSON.
    """
    row = CODES[code]
    refusal = _refusal(response if code == "gate.error" else endpoint.refuse, code)
    entry = responses.setdefault(str(refusal.status), {"description": ""})
    entry["description"] = f"{entry['description']} `{code}`: {row.meaning}".strip()
    assert isinstance(refusal.body, bytes)
    media = _response_media(refusal.headers["Content-Type"])
    is_json = media == _JSON
    content = entry.setdefault("content", {}).setdefault(
        media, {"schema": _schema(Failed if is_json else None)}
    )
    value = msgspec.json.decode(refusal.body) if is_json else refusal.body.decode()
    content.setdefault("examples", {})[code] = {"value": value}


@cache
def _refusal(refuse: Callable[[Fault], web.Response], code: str) -> web.Response:
    row = CODES[code]
    return refuse(Fault(row.status, code, f"{row.meaning} {row.advice}"))


def _schema(kind: Any) -> dict[str, Any]:
    if kind is None:
        return {"type": "string"}
    if kind is bytes:
        return {"type": "string", "format": "binary"}
    return {"type": "object"} if kind is dict else {"$ref": _SCHEMAS.format(name=kind.__name__)}
