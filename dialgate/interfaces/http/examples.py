"""Examples of requests and responses, which `make reference` records from a gate of the tests."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec
from msgspec import Struct


class Examples(Struct, frozen=True, omit_defaults=True):
    """Exchanges with one endpoint.

    - `requests`: bodies by media type
    - `responses`: bodies by status, media type and name
    """

    parameters: Mapping[str, Any] = {}
    requests: Mapping[str, Any] = {}
    responses: Mapping[str, Mapping[str, Mapping[str, Any]]] = {}

    def response(self, status: int, media: str) -> Mapping[str, Any]:
        return self.responses.get(str(status), {}).get(media, {})


FILE: Final = files(__package__).joinpath("examples.json")
RECORDED: Final = msgspec.json.decode(FILE.read_bytes(), type=dict[str, Examples])


def examples_of(endpoint: str) -> Examples:
    """Return the examples of an endpoint, by its name."""
    return RECORDED.get(endpoint, Examples())
