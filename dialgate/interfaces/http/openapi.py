"""The interface described for machines: OpenAPI 3.1, built from the very types that decode and encode it."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate import __version__
from dialgate.config.clients import Scope
from dialgate.core.reasons import REASONS
from dialgate.interfaces.http.errors import CODES, Failed, Fault, response

_SCHEMAS: Final = "#/components/schemas/{name}"
_ABOUT: Final = """\
Ask before each call: `POST /v1/check` answers `allow` or `deny` with its reasons, and has recorded the decision before
the answer leaves. Anything but a 200 with `"decision":"allow"` means: do not call.

Every request under `/v1` needs `Authorization: Bearer KEY`, in a header and never in a URL; a client that cannot send
headers is known by its source address. Every failing request has one shape,
`{"error": {"code", "message", "field"}}`, and its codes are stable.
"""


_EVERY: Final = (
    "request.invalid", "auth.in_url", "auth.missing", "auth.unknown", "auth.scope", "gate.error",
)  # fmt: skip


class Parameter(Struct, frozen=True, kw_only=True):
    name: str
    about: str
    example: Any
    required: bool = False
    many: bool = False
    schema: Mapping[str, Any] = {}
    place: str = "query"


class Endpoint(Struct, frozen=True, kw_only=True):
    """`serve` takes the request and, where a key is needed, the gate and the client. `any_key`: of whatever scopes. `ask` and `answer` are the types of JSON bodies; a body that is not JSON is named by its media type alone. The
    examples are as on the wire; a test holds them to the types."""

    method: str
    path: str
    group: str
    about: str
    serve: Callable[..., Awaitable[web.StreamResponse]]
    refuse: Callable[[Fault], web.Response] = response
    scope: Scope | None = None
    any_key: bool = False
    ask: Any = None
    answer: Any = None
    status: int = 200
    media: str = "application/json"
    parameters: tuple[Parameter, ...] = ()
    ask_example: Any = None
    answer_example: Any = None
    denial_example: Any = None
    also_asks: tuple[str, ...] = ()
    also_answers: tuple[tuple[int, str, Any], ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def keyed(self) -> bool:
        return self.any_key or self.scope is not None


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    endpoints = tuple(endpoints)
    types = [each for endpoint in endpoints for each in (endpoint.ask, endpoint.answer) if each is not None]
    _, components = msgspec.json.schema_components([*types, Failed], ref_template=_SCHEMAS)
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(plain(endpoint.path), {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dialgate", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(endpoint.group for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": {
                **components,
                "ReasonCode": _codes("Why a call is denied.", REASONS),
                "ErrorCode": _codes(
                    "Why a request failed.", {code: text for code, (_, text) in CODES.items()}
                ),
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _codes(about: str, codes: Mapping[str, str]) -> dict[str, Any]:
    return {
        "description": about,
        "oneOf": [{"const": code, "description": text} for code, text in codes.items()],
        "examples": [next(iter(codes))],
    }


def plain(path: str) -> str:
    """Without the patterns that only the router needs."""
    return re.sub(r"\{(\w+):[^}]+\}+", r"{\1}", path)


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    title, _, rest = endpoint.about.partition(". ")
    scope = "Needs a key of any scope." if endpoint.any_key else ""
    if endpoint.scope:
        scope = f"Needs the scope `{endpoint.scope}`."
    operation: dict[str, Any] = {
        "operationId": _name(endpoint),
        "tags": [endpoint.group],
        "summary": title.removesuffix("."),
        "description": f"{rest} {scope}".strip(),
        "security": [{"key": []}] if endpoint.keyed else [],
        "responses": _responses(endpoint),
    }
    if endpoint.parameters:
        operation["parameters"] = [_parameter(each) for each in endpoint.parameters]
    if endpoint.ask is not None or endpoint.also_asks:
        operation["requestBody"] = {"required": endpoint.ask is not None, "content": _asks(endpoint)}
    return operation


def _name(endpoint: Endpoint) -> str:
    words = re.findall(r"[a-z]+", plain(endpoint.path).removeprefix("/v1"))
    return "_".join([endpoint.method.lower(), *words])


def _parameter(each: Parameter) -> dict[str, Any]:
    schema = (
        {"type": "array", "items": {"type": "string"}} if each.many else {"type": "string", **each.schema}
    )
    return {
        "name": each.name,
        "in": each.place,
        "required": each.required,
        "description": each.about,
        "schema": schema,
        "example": each.example,
    }


def _asks(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {media: {"schema": {"type": "string"}} for media in endpoint.also_asks}
    if endpoint.ask is not None:
        content = {
            "application/json": {"schema": _reference(endpoint.ask), "example": endpoint.ask_example}
        } | content
    return content


def _done(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.answer_example is None:
        return {"description": "Done."}
    schema = {"type": "string"} if endpoint.answer is None else _reference(endpoint.answer)
    shown: dict[str, Any] = {"example": endpoint.answer_example}
    if endpoint.denial_example is not None:
        both = {"allow": endpoint.answer_example, "deny": endpoint.denial_example}
        shown = {"examples": {name: {"value": value} for name, value in both.items()}}
    return {"description": "Done.", "content": {endpoint.media: {"schema": schema, **shown}}}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    responses = {str(endpoint.status): _done(endpoint)}
    for status, about, example in endpoint.also_answers:
        schema = _reference(endpoint.answer) if endpoint.answer is not None else {"type": "string"}
        content = {endpoint.media: {"schema": schema, "example": example}}
        responses[str(status)] = {"description": about, "content": content}
    for code in (*(_EVERY if endpoint.keyed else ()), *endpoint.errors):
        _add_error(responses, code, endpoint)
    return responses


def _add_error(responses: dict[str, Any], code: str, endpoint: Endpoint) -> None:
    status, text = CODES[code]
    fault = Fault(status, code, text)
    said = responses.setdefault(str(status), {"description": ""})
    said["description"] = f"{said['description']} `{code}`: {text}".strip()
    if endpoint.refuse is not response:
        return
    content = said.setdefault("content", {}).setdefault("application/json", {})
    if "example" in content:  # a 503 that is an answer too
        return
    content["schema"] = _reference(Failed)
    content.setdefault("examples", {})[code] = {"value": msgspec.to_builtins(Failed(fault.problem))}


def _reference(kind: Any) -> dict[str, Any]:
    return {"type": "object"} if kind is dict else {"$ref": _SCHEMAS.format(name=kind.__name__)}
