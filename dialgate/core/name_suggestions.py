"""Messages that list the permitted names."""

from collections.abc import Iterable
from typing import Final

_SHOWN: Final = 20


def choose(text: str, names: Iterable[str]) -> str:
    """Return the text followed by the permitted names, at most 20 of them."""
    known = sorted(names)
    if not known:
        return f"{text}: none available."
    more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
    return f"{text}: {', '.join(known[:_SHOWN])}{more}."
