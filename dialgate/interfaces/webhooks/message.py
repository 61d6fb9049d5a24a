"""The content of a message that a platform or CRM sends: JSON, a form or XML, and the values in it."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.etree import ElementTree as ET

import msgspec
from msgspec import Struct

from dialgate.core.model import Instant
from dialgate.core.refusal import Refused

_MOST_PARAMETERS: Final = 512
_json: Final = msgspec.json.Decoder()


class WebhookMessage(Struct, frozen=True):
    """A message as it arrived. `query` is encoded, `headers` have lower-case names."""

    body: bytes
    query: str
    headers: Mapping[str, str]
    received_at: Instant

    def form(self) -> list[tuple[str, str]]:
        """Return the parameters of the body, or none if it is JSON or XML. Raises `Refused`."""
        is_form = self.body.lstrip()[:1] not in {b"{", b"[", b"<"}
        return _parameters(self.body.decode("utf-8", "replace")) if is_form else []

    def parameters(self) -> dict[str, str]:
        return dict(_parameters(self.query))

    def content(self) -> Any:
        """Return the decoded body. Raises `Refused`."""
        try:
            match self.body.lstrip()[:1]:
                case b"<":
                    return _read_xml(self.body.decode())
                case b"{" | b"[":
                    return _json.decode(self.body)
        except (ValueError, ET.ParseError, RecursionError):  # msgspec's errors are ValueErrors
            raise unreadable("The body is neither JSON nor XML in UTF-8.") from None
        return dict(self.form())

    def without(self, place: str) -> bytes:
        """Return the body, in JSON with the value at a place in it masked if it has one."""
        try:
            content = self.content()
        except Refused:
            return self.body
        path, _, name = place.removeprefix("body.").rpartition(".")
        holder = dig(content, path)
        if dig(holder, name) is None:
            return self.body
        holder[int(name) if isinstance(holder, list) else name] = "•••"
        return msgspec.json.encode(content)

    def value(self, places: Iterable[str], content: Any, event: Any = None) -> Any:
        """Return the first value at the places: text, a number, a truth value or a list, or None. Raises `Refused`."""
        for place in places:
            bare = place.removeprefix("base64:")
            found = self._at(bare, content, event)
            found = found.strip() if isinstance(found, str) else found
            if found not in (None, "") and isinstance(found, str | int | float | list):
                return found if bare == place else _decode(found)
        return None

    def _at(self, place: str, content: Any, event: Any) -> Any:
        if place.startswith("="):
            return place[1:]
        kind, _, rest = place.partition(".")
        match kind:
            case "header":
                return self.headers.get(rest.lower())
            case "query":
                return self.parameters().get(rest)
        return dig(event if kind == "event" else content, rest)


def unreadable(text: str, place: str = "") -> Refused:
    return Refused("webhook.unreadable", text, place)


def dig(found: Any, path: str) -> Any:
    """Return the value at a path such as `a.b.0`, or None."""
    for name in path.split(".") if path else ():
        if isinstance(found, list) and name.isdecimal():
            found = dict(enumerate(found)).get(int(name))
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _parameters(encoded: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise unreadable(f"There are more than {_MOST_PARAMETERS} parameters.") from None


def _decode(found: Any) -> str:
    try:
        return base64.b64decode(str(found), validate=True).decode()
    except ValueError:
        return str(found)


def _read_xml(text: str) -> Any:
    """Return an XML document as nested mappings without namespaces. Repeated elements are a list. Raises `ET.ParseError`.

    A document type is refused: it can define entities that expand to gigabytes.
    """
    if "<!DOCTYPE" in text:
        raise unreadable("The XML has a document type.")
    root = ET.fromstring(text)  # noqa: S314 - without a document type there are no entities
    return {_local(root): _members(root)}


def _members(element: ET.Element) -> Any:
    members: dict[str, Any] = {}
    for child in element:
        members.setdefault(_local(child), []).append(_members(child))
    several = {name: found if len(found) > 1 else found[0] for name, found in members.items()}
    return several or element.text or ""


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
