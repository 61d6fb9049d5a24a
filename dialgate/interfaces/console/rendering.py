"""Page rendering, and the scripts, styles and images that pages load."""

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from datetime import datetime
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final, NamedTuple

from dialgate.core import local_time
from dialgate.interfaces.console.words import Words
from dialgate.runtime import templates

# Scripts, styles and images come from this gate only, none inline. No site may frame a page, and no form may post elsewhere.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Asset(NamedTuple):
    """A file for the browser. `tag` is its ETag."""

    body: bytes
    media: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """Return the scripts, styles and images by name."""
    assets = {}
    for file in files(__package__).joinpath("assets").iterdir():
        body = file.read_bytes()
        media = "text/javascript" if file.name.endswith(".js") else mimetypes.guess_type(file.name)[0]
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        assets[file.name] = Asset(body, media or "application/octet-stream", tag)
    return assets


@cache
def _environment() -> templates.Environment:
    environment = templates.environment(__package__, "templates")
    environment.filters["day"] = day
    environment.filters["second"] = second
    environment.filters["count"] = count
    environment.filters["json"] = partial(json.dumps, ensure_ascii=False)
    return environment


def render(name: str, words: Words, context: Mapping[str, Any]) -> str:
    return (
        _environment()
        .get_template(f"{name}.html")
        .render({"say": words, "language": words.language, **context})
    )


def day(at: str, zone: str = "UTC") -> str:
    """Format an RFC 3339 instant in a time zone, for example 24/11/2026 10:00."""
    return f"{local_time.clock_in(zone, datetime.fromisoformat(at)):%d/%m/%Y %H:%M}" if at else ""


def second(at: str, zone: str) -> str:
    """Format an RFC 3339 instant to the second, for example 24/11/2026 10:00:00."""
    return f"{local_time.clock_in(zone, datetime.fromisoformat(at)):%d/%m/%Y %H:%M:%S}"


def count(value: int, language: str = "en") -> str:
    """Format a number with a language's thousands separator."""
    return f"{value:,}".replace(",", "." if language == "it" else ",")
