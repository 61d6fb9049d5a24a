"""Profiles of dialers that send JSON or forms in their own format.

A profile is a file in `config/webhooks/`. It defines where to find each field and how to reply. The locations listed
for a field are searched in order; the first string or number found is used:

    body.a.b   in the body, a JSON object or a form      query.name   in the URL      =text   a constant

The body of a reply is JSON or a form. In its strings, each placeholder, such as `{reason}`, is replaced by the value
with that name in the decision.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from dialgate.core.model import CALL_FIELDS

VALUES: Final = (
    "decision",
    "decision_id",
    "to",
    "from",
    "reason",
    "text",
    "law",
    "valid_until",
    "not_before",
    "reason_class",
    "would",
)
_NEEDED: Final = ("to", "from", "campaign")
_PLACE: Final = re.compile(r"body(\.[A-Za-z0-9_-]+)+|query\.[A-Za-z0-9_-]+|=.*")
_HOLE: Final = re.compile(r"\{([a-z_]*)\}")
_LEAST, _MOST = 200, 599


class ReplyTemplate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reply to a dialer. If `form` is true, `body` is sent as a form, and all values in `body` are text."""

    body: Any
    status: int = 200
    form: bool = False


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The webhook profile of a dialer: where to find each field in its requests, and what to reply."""

    id: str
    about: str  # how to configure the dialer
    to: tuple[str, ...]
    from_: tuple[str, ...]
    campaign: tuple[str, ...]
    call_id: tuple[str, ...] = ()
    call_type: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    allow: ReplyTemplate
    deny: ReplyTemplate
    retry: ReplyTemplate  # the reply if the gate cannot decide now

    @property
    def names(self) -> set[str]:
        """The top-level names of all fields that the profile reads from the query or body."""
        places = [place for field in CALL_FIELDS for place in self.places(field)]
        return {place.split(".")[1] for place in places if not place.startswith("=")}

    @property
    def names_caller_id(self) -> bool:
        """Whether the reply to an allowed call names the caller ID to present."""
        return "from" in _holes(self.allow.body)

    def places(self, field: str) -> tuple[str, ...]:
        places: tuple[str, ...] = getattr(self, "from_" if field == "from" else field)
        return places


def faults(profile: Profile) -> Iterator[str]:
    """Yield a message for each problem with a profile."""
    if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", profile.id):
        yield f"id {profile.id!r}: use lower-case letters, digits, `_` and `-`, with a letter or a digit first"
    for field in CALL_FIELDS:
        for place in profile.places(field):
            if not _PLACE.fullmatch(place):
                yield f"{field}: {place!r} is not of the form body.NAME, query.NAME or =TEXT"
        if not profile.places(field) and field in _NEEDED:
            yield f"{field}: list at least one source for the value, such as body.NAME or query.NAME"
    if any(place.startswith("=") for place in profile.places("to")):
        yield "to: the called number cannot be a constant (=TEXT); use body.NAME or query.NAME"
    for name in ("allow", "deny", "retry"):
        yield from (f"{name}: {problem}" for problem in _reply_problems(getattr(profile, name)))
    if profile.allow.body in (profile.deny.body, profile.retry.body):
        yield "allow: its body must differ from those of `deny` and `retry`, because some dialers read only the body"


def _reply_problems(reply: ReplyTemplate) -> Iterator[str]:
    if not _LEAST <= reply.status <= _MOST:
        yield f"status {reply.status} is not between {_LEAST} and {_MOST}"
    if reply.form and not (
        isinstance(reply.body, dict) and all(isinstance(v, str) for v in reply.body.values())
    ):
        yield "with `form: true`, `body` must be an object whose values are strings"
    for hole in _holes(reply.body):
        if hole not in VALUES:
            yield f"{{{hole}}} is not one of {', '.join(VALUES)}"


def _holes(body: Any) -> Iterator[str]:
    match body:
        case str():
            yield from _HOLE.findall(body)
        case dict():
            for item in body.values():
                yield from _holes(item)
        case list():
            for item in body:
                yield from _holes(item)


def read(profile: Profile, body: Any, query: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a request. Values other than text and whole numbers are ignored."""
    values = {field: _first(profile.places(field), body, query) for field in CALL_FIELDS}
    return {field: text for field, text in values.items() if text}


def _first(places: tuple[str, ...], body: Any, query: Mapping[str, str]) -> str:
    return next(filter(None, (_at(place, body, query) for place in places)), "")


def _at(place: str, body: Any, query: Mapping[str, str]) -> str:
    if place.startswith("="):
        return place[1:]
    kind, *path = place.split(".")
    value = query if kind == "query" else body
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def fill(body: Any, values: Mapping[str, str]) -> Any:
    """Return `body` with its placeholders replaced. Inserted text is not searched for placeholders."""
    match body:
        case str():
            return _HOLE.sub(lambda hole: values[hole[1]], body)
        case dict():
            return {name: fill(item, values) for name, item in body.items()}
        case list():
            return [fill(item, values) for item in body]
        case _:
            return body
