"""The names that a client may choose from, as part of a message."""

from collections.abc import Iterable
from typing import Final

_SHOWN: Final = 20


def choose(text: str, names: Iterable[str]) -> str:
    """Return the text with the names behind it, or that there are none to choose from."""
    known = sorted(names)
    if not known:
        return f"{text}: there is none."
    more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
    return f"{text}: {', '.join(known[:_SHOWN])}{more}."
