"""The API description in OpenAPI 3.1, built from the types that decode requests and encode responses."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate import __version__
from dialgate.config.clients import Scope
from dialgate.core.reasons import REASONS
from dialgate.interfaces.http.errors import CODES, Failed, Fault, Problem, response

_SCHEMAS: Final = "#/components/schemas/{name}"
_ABOUT: Final = """\
Check each call before you place it: `POST /v1/check` responds with `allow`, or with `deny` and the reasons. The decision is recorded
before the response is sent. Place the call only after a 200 with `"decision":"allow"`.

Every request under `/v1` needs the header `Authorization: Bearer KEY`; a key in the URL is refused. Clients that cannot send headers
are identified by their source address. Errors have the format `{"error": {"code", "message", "field"}}`, and codes are stable.
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
    """An endpoint, with its handler and its description.

    `about`: the summary, which ends with the first full stop, and the rest of the description. `serve`: the handler, which takes the
    request and, if a key is needed, the app and the client. `any_key`: a key of any scope is enough. `ask`, `answer`: the types of the
    JSON bodies; for other bodies, only the media type is given. Examples are as transmitted; a test checks them against the types.
    """

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
    types = [kind for endpoint in endpoints for kind in (endpoint.ask, endpoint.answer) if kind is not None]
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
                    "Why a request failed.",
                    {code: f"{row.meaning} {row.advice}" for code, row in CODES.items()},
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
    """Return a path without the patterns that only the router needs."""
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
        operation["parameters"] = [_parameter(parameter) for parameter in endpoint.parameters]
    if endpoint.ask is not None or endpoint.also_asks:
        operation["requestBody"] = {"required": endpoint.ask is not None, "content": _asks(endpoint)}
    return operation


def _name(endpoint: Endpoint) -> str:
    words = re.findall(r"[a-z]+", plain(endpoint.path).removeprefix("/v1"))
    return "_".join([endpoint.method.lower(), *words])


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = (
        {"type": "array", "items": {"type": "string"}}
        if parameter.many
        else {"type": "string", **parameter.schema}
    )
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.about,
        "schema": schema,
        "example": parameter.example,
    }


def _asks(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {media: {"schema": {"type": "string"}} for media in endpoint.also_asks}
    if endpoint.ask is not None:
        content = {
            "application/json": {"schema": _reference(endpoint.ask), "example": endpoint.ask_example}
        } | content
    return content


def _success(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.answer_example is None:
        return {"description": "Success."}
    schema = {"type": "string"} if endpoint.answer is None else _reference(endpoint.answer)
    examples: dict[str, Any] = {"example": endpoint.answer_example}
    if endpoint.denial_example is not None:
        both = {"allow": endpoint.answer_example, "deny": endpoint.denial_example}
        examples = {"examples": {name: {"value": value} for name, value in both.items()}}
    return {"description": "Success.", "content": {endpoint.media: {"schema": schema, **examples}}}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    responses = {str(endpoint.status): _success(endpoint)}
    for status, about, example in endpoint.also_answers:
        schema = _reference(endpoint.answer) if endpoint.answer is not None else {"type": "string"}
        content = {endpoint.media: {"schema": schema, "example": example}}
        responses[str(status)] = {"description": about, "content": content}
    for code in (*(_EVERY if endpoint.keyed else ()), *endpoint.errors):
        _add_error(responses, code, endpoint)
    return responses


def _add_error(responses: dict[str, Any], code: str, endpoint: Endpoint) -> None:
    row = CODES[code]
    entry = responses.setdefault(str(row.status), {"description": ""})
    entry["description"] = f"{entry['description']} `{code}`: {row.meaning}".strip()
    if endpoint.refuse is not response:
        return
    content = entry.setdefault("content", {}).setdefault("application/json", {})
    if "example" in content:  # a 503 whose body may also be a normal response
        return
    content["schema"] = _reference(Failed)
    problem = Problem(code, f"{row.meaning} {row.advice}")
    content.setdefault("examples", {})[code] = {"value": msgspec.to_builtins(Failed(problem))}


def _reference(kind: Any) -> dict[str, Any]:
    return {"type": "object"} if kind is dict else {"$ref": _SCHEMAS.format(name=kind.__name__)}
