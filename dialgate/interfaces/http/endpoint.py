"""The description of an endpoint: its handler, and what /openapi.json and the reference page say about it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

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


class EndpointGroup(Struct, frozen=True):
    name: str
    about: str


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
    - `serve`: the handler, which takes the request and, if a key is needed, the app and the client
    - `any_key`: a key with any scope is enough
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
    group: EndpointGroup
    about: str
    serve: Callable[..., Awaitable[web.StreamResponse]]
    refuse: Callable[[Fault], web.Response] = response
    scope: Scope | None = None
    any_key: bool = False
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
    def keyed(self) -> bool:
        return self.any_key or self.scope is not None
