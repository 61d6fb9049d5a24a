"""The description of an endpoint: its handler, and what /openapi.json and the reference page say about it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar, get_type_hints

import msgspec
from aiohttp import web
from msgspec import Struct

from dialgate.config.clients import Scope
from dialgate.interfaces.http.errors import Fault, response

FORM: Final = "application/x-www-form-urlencoded"
NDJSON: Final = "application/x-ndjson"
# The error codes for requests with a body.
BODY_ERRORS: Final = ("request.broken", "request.compressed", "request.too_large", "request.timeout")
JSON_ERRORS: Final = ("request.not_json", *BODY_ERRORS)
_AUDITED: Final = frozenset({"lists", "read", "subjects", "officer", "watch", "admin"})

Serve: TypeAlias = Callable[..., Awaitable[Any]]
_S = TypeVar("_S", bound=Serve)


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter in the query or the path.

    `required` and `schema` override what the query struct says about the parameter. A parameter that is not in the
    struct is optional text by default.
    """

    name: str
    about: str
    required: bool | None = None
    schema: Mapping[str, Any] | None = None
    place: str = "query"


def parameters_of(query: type[Struct]) -> tuple[Parameter, ...]:
    """Return a parameter for each field of a struct, with the field's description."""
    _, components = msgspec.json.schema_components([query])
    fields = components[query.__name__]["properties"]
    return tuple(Parameter(name=name, about=field["description"]) for name, field in fields.items())


class Media(Struct, frozen=True, kw_only=True):
    """A request or response body that is not JSON.

    `name` is the media type. `kind` is the Python type of the content; `bytes` means a file. `lines` holds the possible
    types of an NDJSON line.
    """

    name: str
    kind: Any
    lines: tuple[Any, ...] = ()


class Endpoint(Struct, frozen=True, kw_only=True):
    """An endpoint, with its handler and its description.

    - `name`: the operationId, a verb with its object. Generated clients name their functions after it, so it is stable
    - `about`: the summary, up to the first full stop, and the rest of the description
    - `serve`: the handler, which takes the request and, if a key is needed, the app and the client. Its parameters `query` and
      `ask` receive the decoded query and body. It returns the answer, or a response
    - `also`: scopes that are enough instead of `scope`
    - `any_key`: a key with any scope is enough
    - `copies`: the answer is a copy of a whole store, which `audit` does not permit
    - `whole_gate`: the client needs every controller, and errors name what is unavailable
    - `query`: the struct that decodes the query and gives the parameter types
    - `ask`, `answer`: the types of the JSON bodies; without `answer`, the response is text
    - `also_asks`, `also_answers`: bodies in formats other than JSON
    - `other_statuses`: JSON or text with another status, each with its meaning and type
    - `headers`: response headers

    Examples are in `examples.json`: requests to a gate of the tests, and its answers (`make reference`).
    """

    method: str
    path: str
    name: str
    group: "EndpointGroup"
    about: str
    serve: Serve
    refuse: Callable[[Fault], web.Response] = response
    scope: Scope | None = None
    also: tuple[Scope, ...] = ()
    any_key: bool = False
    copies: bool = False
    whole_gate: bool = False
    query: type[Struct] | None = None
    ask: Any = None
    answer: Any = None
    status: int = 200
    media: str = "application/json"
    parameters: tuple[Parameter, ...] = ()
    also_asks: tuple[Media, ...] = ()
    also_answers: tuple[Media, ...] = ()
    other_statuses: tuple[tuple[int, str, Any], ...] = ()
    headers: Mapping[str, str] = {}
    errors: tuple[str, ...] = ()

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes of which one is enough. `audit` reads what other scopes read and change."""
        audited = self.scope in _AUDITED and self.method == "GET" and not self.copies
        return (self.scope, *self.also, *(("audit",) if audited else ())) if self.scope else ()

    @property
    def keyed(self) -> bool:
        return self.any_key or self.scope is not None


class EndpointGroup:
    """Endpoints about one subject, in the order of the API description.

    `in_path` describes the parameters that their paths have. `common` holds fields of `Endpoint` that all have. The errors in it
    follow those of each endpoint.
    """

    def __init__(self, name: str, about: str, *, in_path: Mapping[str, str] = {}, **common: Any) -> None:
        self.name, self.about, self._in_path = name, about, in_path
        self.endpoints: list[Endpoint] = []
        self._common = common

    def endpoint(self, method: str, path: str, **fields: Any) -> Callable[[_S], _S]:
        """Return a decorator that makes a handler an endpoint.

        The handler's name in camel case is the operationId, and its docstring the description. The annotations of `ask`, `query`
        and the return value are the types of the bodies and of the query.
        """

        def declare(serve: _S) -> _S:
            hints = get_type_hints(serve, include_extras=True)
            derived = {name: hints.get(name) for name in ("ask", "query")}
            derived["answer"] = hints["return"] if issubclass(hints["return"], Struct) else None
            merged = {**self._common, **derived, **fields}
            given = tuple(
                Parameter(name=name, about=about, required=True, place="path")
                for name, about in self._in_path.items()
                if f"{{{name}}}" in path
            )
            merged.setdefault(
                "parameters", (*given, *(parameters_of(merged["query"]) if merged["query"] else ()))
            )
            merged["errors"] = (
                *(JSON_ERRORS if merged["ask"] else ()),
                *fields.get("errors", ()),
                *self._common.get("errors", ()),
            )
            first, *others = serve.__name__.split("_")
            self.add(
                method=method,
                path=path,
                name=first + "".join(map(str.capitalize, others)),
                about=" ".join((serve.__doc__ or "").split()),
                serve=serve,
                **merged,
            )
            return serve

        return declare

    def add(self, **fields: Any) -> None:
        """Add an endpoint, without the fields that the group has in common."""
        self.endpoints.append(Endpoint(group=self, **{**self._common, **fields}))
