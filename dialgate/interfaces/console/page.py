"""Pages from their templates, and the files that they load."""

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from dialgate.core import local_time
from dialgate.interfaces.console.words import Words

# Scripts, styles and pictures from here alone, none inline; nothing may frame a page or be posted elsewhere from one.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Asset(NamedTuple):
    body: bytes
    media: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    found = {}
    for each in files(__package__).joinpath("assets").iterdir():
        body = each.read_bytes()
        media = "text/javascript" if each.name.endswith(".js") else mimetypes.guess_type(each.name)[0]
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        found[each.name] = Asset(body, media or "application/octet-stream", tag)
    return found


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["day"] = day
    made.filters["time"] = time
    made.filters["count"] = count
    made.filters["json"] = _json
    return made


def render(name: str, words: Words, context: Mapping[str, Any]) -> str:
    return (
        _environment()
        .get_template(f"{name}.html")
        .render({"say": words, "language": words.language, **context})
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def day(at: str, zone: str = "UTC") -> str:
    """Of an instant (RFC 3339): 24/11/2026 10:00, in the zone."""
    return f"{_in(at, zone):%d/%m/%Y %H:%M}" if at else ""


def time(at: str, zone: str = "UTC") -> str:
    return f"{_in(at, zone):%H:%M:%S}" if at else ""


def count(value: int, language: str = "en") -> str:
    return f"{value:,}".replace(",", "." if language == "it" else ",")


def _in(at: str, zone: str) -> datetime:
    return local_time.clock_in(zone, datetime.fromisoformat(at))
