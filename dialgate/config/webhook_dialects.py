"""Dialers that speak JSON or forms of their own: where their fields are, and what they are to be told.

A profile is data, one file in `config/webhooks/`; nothing in it runs. A field is looked for in the places named, in that
order, and the first that holds a text or a number counts:

    body.a.b   in the body, a JSON object or a form      query.name   in the URL      =text   always this

A reply's body is any JSON, in whose texts `{name}` stands for what was decided. Pure: no files, no network.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

FIELDS: Final = ("to", "from", "campaign", "call_id", "call_type")
TOLD: Final = (
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
)
_NEEDED: Final = ("to", "from", "campaign")
_PLACE: Final = re.compile(r"body(\.[A-Za-z0-9_-]+)+|query\.[A-Za-z0-9_-]+|=.*")
_HOLE: Final = re.compile(r"\{([a-z_]*)\}")
_LEAST, _MOST = 200, 599


class WebhookError(Exception):
    """A profile cannot be used. `problems`: a sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Told(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`body` is JSON, or with `form` an object of texts that is sent as a form."""

    body: Any
    status: int = 200
    form: bool = False


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """`allow`, `deny` and `retry`, for a gate that cannot decide now, are what the dialer is told. `about` says what it
    is to be set up with.
    """

    id: str
    about: str
    to: tuple[str, ...]
    from_: tuple[str, ...]
    campaign: tuple[str, ...]
    call_id: tuple[str, ...] = ()
    call_type: tuple[str, ...] = ()
    allow: Told
    deny: Told
    retry: Told

    @property
    def names(self) -> set[str]:
        """What is looked for in a query, or in a form."""
        places = [place for field in FIELDS for place in self.places(field)]
        return {place.split(".")[1] for place in places if not place.startswith("=")}

    def places(self, field: str) -> tuple[str, ...]:
        found: tuple[str, ...] = getattr(self, "from_" if field == "from" else field)
        return found


def parse_profile(data: Any) -> Profile:
    """Raises `WebhookError`."""
    try:
        profile = msgspec.convert(data or {}, Profile)
    except msgspec.ValidationError as error:
        raise WebhookError([str(error)]) from None
    problems = list(_problems(profile))
    if problems:
        raise WebhookError(problems)
    return profile


def _problems(profile: Profile) -> Iterator[str]:
    if not re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", profile.id):
        yield f"id {profile.id!r}: small letters, digits, dashes"
    for field in FIELDS:
        for place in profile.places(field):
            if not _PLACE.fullmatch(place):
                yield f"{field}: {place!r} is none of body.NAME, query.NAME and =TEXT"
        if not profile.places(field) and field in _NEEDED:
            yield f"{field}: name at least one place"
    if any(place.startswith("=") for place in profile.places("to")):
        yield "to: a number that is always the same is not the one that is dialled"
    for name in ("allow", "deny", "retry"):
        yield from (f"{name}: {problem}" for problem in _amiss(getattr(profile, name)))
    if profile.allow.body in (profile.deny.body, profile.retry.body):
        yield "allow: its body is the same as a denial's; a dialer that only reads bodies could not tell"


def _amiss(told: Told) -> Iterator[str]:
    if not _LEAST <= told.status <= _MOST:
        yield f"{told.status} is no status"
    if told.form and not (
        isinstance(told.body, dict) and all(isinstance(v, str) for v in told.body.values())
    ):
        yield "a form is an object of texts"
    for hole in _holes(told.body):
        if hole not in TOLD:
            yield f"{{{hole}}} is none of {', '.join(TOLD)}"


def _holes(body: Any) -> Iterator[str]:
    match body:
        case str():
            yield from _HOLE.findall(body)
        case dict():
            for each in body.values():
                yield from _holes(each)
        case list():
            for each in body:
                yield from _holes(each)


def read(profile: Profile, body: Any, query: Mapping[str, str]) -> dict[str, str]:
    """The fields that were found. What is neither text nor whole number is not there."""
    found = {field: _first(profile.places(field), body, query) for field in FIELDS}
    return {field: text for field, text in found.items() if text}


def _first(places: tuple[str, ...], body: Any, query: Mapping[str, str]) -> str:
    return next(filter(None, (_at(place, body, query) for place in places)), "")


def _at(place: str, body: Any, query: Mapping[str, str]) -> str:
    if place.startswith("="):
        return place[1:]
    kind, *path = place.split(".")
    found = query if kind == "query" else body
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""


def fill(body: Any, told: Mapping[str, str]) -> Any:
    """`body` with every hole filled. What is filled in is not looked at again."""
    match body:
        case str():
            return _HOLE.sub(lambda hole: told[hole[1]], body)
        case dict():
            return {name: fill(each, told) for name, each in body.items()}
        case list():
            return [fill(each, told) for each in body]
        case _:
            return body
