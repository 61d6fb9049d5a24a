"""A check that configured URLs contain no passwords, because configuration files are archived for years."""

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
    """Yield a message for each URL that contains a password. The message does not contain the password."""
    yield from _faults("", msgspec.to_builtins(settings, builtin_types=(bytes,)))


def read_url(url: str, file: str, folder: Path) -> str:
    """Return the content of `file`, relative to `folder`, or `url` if no file is set.

    Raises `OSError` and `UnicodeDecodeError`.
    """
    return (folder / file).read_text("utf-8").strip() if file else url


def _faults(place: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            inner = f"{place}.{name}" if place else str(name)
            if isinstance(item, str) and _SECRET.match(item):
                yield f"{inner} contains a password. {_advice(str(name), value)}"
            else:
                yield from _faults(inner, item)
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            yield from _faults(f"{place}[{at}]", item)


def _advice(name: str, siblings: Mapping[str, Any]) -> str:
    if f"{name}_file" not in siblings:
        return "This setting does not accept credentials: remove them"
    return f"Put the URL into a file that only the gate can read, and set `{name}_file` to its path"
