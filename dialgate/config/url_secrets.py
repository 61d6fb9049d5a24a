"""Passwords in the URLs of a configuration. Every decision refers to a copy of that file, which is kept for years."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

_SECRET = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[^/?#\s@]*:[^/?#\s]+@|[^\s]*[?&](?:password|passwd|secret|token|api_?key)=[^&\s])",
    re.IGNORECASE,
)


def faults(settings: Struct) -> Iterator[str]:
    """Yield a sentence for each URL that holds a password, without repeating it."""
    yield from _faults("", msgspec.to_builtins(settings, builtin_types=(bytes,)))


def read_url(url: str, file: str, folder: Path) -> str:
    """Return the URL, or the one in `file`, whose path is relative to `folder`. Raises `OSError`, `UnicodeDecodeError`."""
    return (folder / file).read_text("utf-8").strip() if file else url


def _faults(place: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            inner = f"{place}.{name}" if place else str(name)
            if isinstance(each, str) and _SECRET.match(each):
                yield f"{inner} holds a password. {_advice(str(name), value)}"
            else:
                yield from _faults(inner, each)
    elif isinstance(value, (list, tuple)):
        for at, each in enumerate(value):
            yield from _faults(f"{place}[{at}]", each)


def _advice(name: str, beside: Mapping[str, Any]) -> str:
    if f"{name}_file" not in beside:
        return "This setting takes no credentials: leave them out"
    return f"Put the URL into a file that only the gate can read, and name that file in `{name}_file`"
